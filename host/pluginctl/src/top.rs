//! `pluginctl top`: the resource usage and the load of the plugins, updated until interrupted.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    columns::{columns, cut_to_terminal},
    print::{json, print},
    problem::{Problem, wait_for},
    usage::{busy, bytes, part, rate, remark, step, time},
};
use clap::ValueEnum;
use plugind::api;
use std::{
    cmp::Reverse,
    io::{self, IsTerminal},
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// How often the figures are read.
const EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal and moves to its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(clap::Args)]
pub(crate) struct TopArgs {
    /// Print the figures once, and exit (default if standard output is not a terminal)
    #[arg(long)]
    once: bool,
    /// Print JSON once: the reply of the control socket
    #[arg(long)]
    json: bool,
    /// Sort by this column
    #[arg(long, value_name = "COLUMN", default_value = "cpu")]
    sort: SortKey,
    #[command(flatten)]
    place: ControlAddress,
}

/// The column that plugins are sorted by: names in ascending order, everything else with the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    Cpu,
    Memory,
    Requests,
    Name,
}

impl TopArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let once = self.once || self.json || !io::stdout().is_terminal();
        wait_for(async {
            let mut client = Client::connect(&self.place)?;
            loop {
                let list: api::List = client.call(CallMethod::List).await?;
                if self.json {
                    print(&json(&list))?;
                    return Ok(ExitCode::SUCCESS);
                }
                let shown = cut_to_terminal(&table(list.plugins, self.sort, SystemTime::now()));
                if once {
                    print(&shown)?;
                    return Ok(ExitCode::SUCCESS);
                }
                print(&format!("{CLEAR}{shown}"))?;
                tokio::time::sleep(EVERY).await;
            }
        })
    }
}

fn table(mut plugins: Vec<api::Plugin>, by: SortKey, now: SystemTime) -> String {
    plugins.sort_by(|one, other| one.name.cmp(&other.name));
    let usage = |plugin: &api::Plugin| plugin.usage.clone().unwrap_or_default();
    match by {
        SortKey::Name => (),
        SortKey::Cpu => plugins.sort_by_key(|it| Reverse(share(&usage(it)))),
        SortKey::Memory => plugins.sort_by_key(|it| Reverse(usage(it).memory)),
        SortKey::Requests => plugins.sort_by_key(|it| Reverse(frequency(&usage(it)))),
    }
    let header = [
        "NAME", "STATE", "CPU", "MEMORY", "LIMIT", "REQ/S", "P50", "P99", "FLIGHT", "QUEUE",
        "INST", "STATUS",
    ];
    let count = plugins.len();
    let rows = plugins.iter().map(|plugin| row(plugin, now));
    let table = if count == 0 { String::new() } else { columns(&header, rows) + "\n" };
    let s = if count == 1 { "" } else { "s" };
    format!("{table}{count} plugin{s}\n")
}

fn share(usage: &api::PluginUsage) -> u64 {
    part(usage.busy, usage.period, 1_000_000)
}

fn frequency(usage: &api::PluginUsage) -> u64 {
    part(usage.responses, usage.period, 1_000_000)
}

fn row(plugin: &api::Plugin, now: SystemTime) -> Vec<String> {
    let state = step(plugin, now).unwrap_or_else(|| match &*plugin.sub_state {
        "" => plugin.active_state.clone(),
        more => more.to_owned(),
    });
    let figures = match &plugin.usage {
        None => std::array::from_fn(|_| "-".to_owned()),
        Some(usage) => {
            let or_none = |time_in: Option<u64>| time_in.map_or_else(|| "-".to_owned(), time);
            let queued = plugin.requests.as_ref().map_or(0, |requests| requests.queued);
            [
                busy(usage),
                bytes(usage.memory),
                bytes(usage.memory_max),
                rate(usage),
                or_none(usage.p50),
                or_none(usage.p99),
                usage.in_flight.to_string(),
                queued.to_string(),
                usage.instances.to_string(),
            ]
        }
    };
    let mut row = vec![plugin.name.clone(), state];
    row.extend(figures);
    row.push(remark(plugin, now));
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, greeter};

    fn used(name: &str, busy: u64, memory: u64) -> api::Plugin {
        let usage = api::PluginUsage {
            instances: 2,
            in_flight: 1,
            memory,
            memory_max: 256 << 20,
            period: 60_000,
            busy,
            responses: 90,
            p50: Some(850),
            p99: Some(12_000),
            ..Default::default()
        };
        api::Plugin { name: name.to_owned(), usage: Some(usage), ..greeter() }
    }

    #[test]
    fn plugins_are_sorted_by_what_they_use() {
        let plugins = vec![failed(), used("a", 6_000, 1 << 20), used("b", 600, 2 << 20)];
        let now = SystemTime::now();
        assert_eq!(
            table(plugins.clone(), SortKey::Cpu, now),
            "NAME  STATE    CPU  MEMORY  LIMIT  REQ/S  P50    P99   FLIGHT  QUEUE  INST  STATUS
a     running  10%  1M      256M   1.5/s  850us  12ms  1       0      2     greets people
b     running  1%   2M      256M   1.5/s  850us  12ms  1       0      2     greets people
bad   failed   -    -       -      -      -      -     -       -      -

3 plugins
"
        );
        let first =
            |by| table(plugins.clone(), by, now).lines().nth(1).map(|it| it[..1].to_owned());
        assert_eq!(first(SortKey::Memory).as_deref(), Some("b"));
        assert_eq!(first(SortKey::Name).as_deref(), Some("a"));
    }
}
