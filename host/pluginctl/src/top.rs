//! `pluginctl top`: the resource usage and the load of the plugins, updated until it is ended by a key.

mod column;
mod live;
mod screen;
mod view;

use crate::{
    client::CallMethod,
    columns::{columns, cut_to_terminal, fitting, terminal_width},
    observed_daemon::ObservedDaemon,
    print::{json, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use clap::ValueEnum;
use column::Column;
use plugind::api;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::SystemTime,
};

#[derive(clap::Args)]
pub(crate) struct TopArgs {
    /// Print the figures once, and exit (default unless standard input and output are terminals)
    #[arg(long)]
    once: bool,
    /// Print JSON once: the reply of the control socket
    #[arg(long)]
    json: bool,
    /// Sort by this column
    #[arg(long, value_name = "COLUMN", default_value = "cpu")]
    sort: Column,
    #[command(flatten)]
    daemon: ObservedDaemon,
}

impl TopArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let is_live = !self.once && !self.json;
        wait_for(async {
            let mut client = self.daemon.connect()?;
            let mut list: api::List = client.call(CallMethod::List).await?;
            if is_live && io::stdin().is_terminal() && io::stdout().is_terminal() {
                return unless_interrupted(live::follow(client, list, self.sort)).await;
            }
            print(&match self.json {
                true => json(&list),
                false => {
                    let width = terminal_width();
                    let now = SystemTime::now();
                    cut_to_terminal(&table(&mut list.plugins, self.sort, now, width))
                }
            })?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The table, with the columns that fit this width if there is one.
fn table(plugins: &mut [api::Plugin], by: Column, now: SystemTime, width: Option<usize>) -> String {
    plugins.sort_by(|one, other| by.compare(one, other, now));
    let all = Column::value_variants();
    let sized = all.iter().map(|column| column.size(plugins, by, now));
    let places = match width {
        Some(width) => fitting(&sized.collect::<Vec<_>>(), width),
        None => (0..all.len()).collect(),
    };
    let shown: Vec<_> = places.into_iter().map(|place| all[place]).collect();
    let header: Vec<_> = shown.iter().map(|column| column.heading()).collect();
    let row = |plugin| shown.iter().map(|column| column.cell(plugin, now)).collect();
    let count = plugins.len();
    let rows = plugins.iter().map(row);
    let table = if count == 0 { String::new() } else { columns(&header, rows) + "\n" };
    let s = if count == 1 { "" } else { "s" };
    format!("{table}{count} plugin{s}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, greeter, used};

    #[test]
    fn plugins_are_sorted_by_what_they_use() {
        let mut plugins = [failed(), used("a", 6_000, 1 << 20), used("b", 600, 2 << 20)];
        let now = SystemTime::now();
        assert_eq!(
            table(&mut plugins, Column::Cpu, now, None),
            "NAME  STATE    CPU  MEMORY  LIMIT  REQ/S  P50    P99   FLIGHT  QUEUE  INST  STATUS
a     running  10%  1M      256M   1.5/s  850us  12ms  1       0      2     greets people
b     running  1%   2M      256M   1.5/s  850us  12ms  1       0      2     greets people
bad   failed   -    -       -      -      -      -     -       -      -

3 plugins
"
        );
        let mut first =
            |by| table(&mut plugins, by, now, None).lines().nth(1).map(|it| it[..1].to_owned());
        assert_eq!(first(Column::Memory).as_deref(), Some("b"));
        assert_eq!(first(Column::Name).as_deref(), Some("a"));
    }

    #[test]
    fn a_narrow_terminal_has_the_most_important_columns_and_that_of_the_order() {
        let mut plugins = [used("a", 600, 1 << 20)];
        let mut header = |by| {
            let shown = table(&mut plugins, by, SystemTime::now(), Some(40));
            shown.lines().next().map(str::to_owned)
        };
        assert_eq!(header(Column::Cpu).as_deref(), Some("NAME  STATE    CPU  MEMORY  REQ/S"));
        assert_eq!(
            header(Column::Limit).as_deref(),
            Some("NAME  STATE    CPU  MEMORY  LIMIT  REQ/S")
        );
    }

    #[test]
    fn no_plugin_is_a_table_without_rows() {
        assert_eq!(table(&mut [], Column::Cpu, SystemTime::now(), None), "0 plugins\n");
        let one = table(&mut [greeter()], Column::Cpu, SystemTime::now(), None);
        assert!(one.ends_with("\n\n1 plugin\n"), "{one}");
    }
}
