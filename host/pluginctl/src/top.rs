//! `pluginctl top`: the resource usage and the load of the plugins, updated until it is ended by a key.

mod column;
mod live;
mod screen;
mod view;

use crate::{
    client::{CallMethod, Client, ControlAddress},
    columns::{columns, cut_to_terminal},
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
    place: ControlAddress,
}

impl TopArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let is_live = !self.once && !self.json;
        wait_for(async {
            let mut client = Client::connect(&self.place)?;
            let mut list: api::List = client.call(CallMethod::List).await?;
            if is_live && io::stdin().is_terminal() && io::stdout().is_terminal() {
                return unless_interrupted(live::follow(client, list, self.sort)).await;
            }
            print(&match self.json {
                true => json(&list),
                false => cut_to_terminal(&table(&mut list.plugins, self.sort, SystemTime::now())),
            })?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn table(plugins: &mut [api::Plugin], by: Column, now: SystemTime) -> String {
    plugins.sort_by(|one, other| by.compare(one, other, now));
    let shown = Column::value_variants();
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
            table(&mut plugins, Column::Cpu, now),
            "NAME  STATE    CPU  MEMORY  LIMIT  REQ/S  P50    P99   FLIGHT  QUEUE  INST  STATUS
a     running  10%  1M      256M   1.5/s  850us  12ms  1       0      2     greets people
b     running  1%   2M      256M   1.5/s  850us  12ms  1       0      2     greets people
bad   failed   -    -       -      -      -      -     -       -      -

3 plugins
"
        );
        let mut first =
            |by| table(&mut plugins, by, now).lines().nth(1).map(|it| it[..1].to_owned());
        assert_eq!(first(Column::Memory).as_deref(), Some("b"));
        assert_eq!(first(Column::Name).as_deref(), Some("a"));
    }

    #[test]
    fn no_plugin_is_a_table_without_rows() {
        assert_eq!(table(&mut [], Column::Cpu, SystemTime::now()), "0 plugins\n");
        let one = table(&mut [greeter()], Column::Cpu, SystemTime::now());
        assert!(one.ends_with("\n\n1 plugin\n"), "{one}");
    }
}
