//! `pluginctl list`: all plugins, one line each.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    columns::{columns, cut_to_terminal},
    print::{complain, json, print},
    problem::{Problem, wait_for},
    relative_time::{ago, moment},
    status::NOT_ACTIVE,
    usage::{busy, bytes, rate, remark, step},
};
use plugind::api;
use std::{process::ExitCode, time::SystemTime};

/// How many digits of a digest tell versions of one plugin apart.
const DIGITS: usize = 12;

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Print JSON: the reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

impl ListArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let list: api::List =
            wait_for(async { Ok(Client::connect(&self.place)?.call(CallMethod::List).await?) })?;
        print(&match self.json {
            true => json(&list),
            false => cut_to_terminal(&table(&list.plugins, SystemTime::now())),
        })?;
        for ignored in &list.ignored {
            complain(&format!("warning: {ignored}"));
        }
        let is_well = !list.plugins.iter().any(has_failed);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }
}

fn table(plugins: &[api::Plugin], now: SystemTime) -> String {
    let mut sorted: Vec<_> = plugins.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    let failed = sorted.iter().filter(|plugin| has_failed(plugin)).count();
    let rows = sorted.into_iter().map(|plugin| row(plugin, now));
    let header = [
        "",
        "NAME",
        "STATE",
        "RESULT",
        "GENERATION",
        "VERSION",
        "SINCE",
        "CPU",
        "MEMORY",
        "REQ/S",
        "ROUTES",
        "STATUS",
    ];
    let table = if plugins.is_empty() { String::new() } else { columns(&header, rows) + "\n" };
    let s = if plugins.len() == 1 { "" } else { "s" };
    format!("{table}{} plugin{s}, {failed} failed\n", plugins.len())
}

/// Whether its newest version does not serve, even if an older version does.
fn has_failed(plugin: &api::Plugin) -> bool {
    plugin.failure.is_some() || plugin.active_state == "failed"
}

fn row(plugin: &api::Plugin, now: SystemTime) -> Vec<String> {
    let or_none = |reported: Option<String>| reported.unwrap_or_else(|| "-".to_owned());
    let routes = (!plugin.routes.is_empty()).then(|| plugin.routes.join(" "));
    vec![
        if has_failed(plugin) { "●" } else { "" }.to_owned(),
        plugin.name.clone(),
        state(plugin, now),
        plugin.result.clone(),
        or_none(plugin.generation.map(|generation| generation.to_string())),
        or_none(version(plugin)),
        or_none(plugin.since.map(|since| ago(moment(since), now))),
        or_none(plugin.usage.as_ref().map(busy)),
        or_none(plugin.usage.as_ref().map(|usage| bytes(usage.memory))),
        or_none(plugin.usage.as_ref().map(rate)),
        or_none(routes),
        remark(plugin, now),
    ]
}

/// The version, or where its author gave none, the beginning of the digest of the component.
fn version(plugin: &api::Plugin) -> Option<String> {
    let digest = || plugin.component_digest.as_ref()?.get(..DIGITS).map(str::to_owned);
    plugin.version.clone().or_else(digest)
}

/// Returns the state, with the sub-state if that is more precise, and with its pin.
fn state(plugin: &api::Plugin, now: SystemTime) -> String {
    let is_shown = ["degraded", "stopped"].contains(&&*plugin.sub_state);
    let more = is_shown.then(|| plugin.sub_state.clone());
    let pinned = plugin.pinned.then(|| "pinned".to_owned());
    let more: Vec<_> = step(plugin, now).or(more).into_iter().chain(pinned).collect();
    match more.is_empty() {
        true => plugin.active_state.clone(),
        false => format!("{} ({})", plugin.active_state, more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, greeter};

    #[test]
    fn plugins_are_listed_in_the_order_of_their_names_and_those_that_failed_are_marked() {
        let now = moment(1_000_000 + 182 * 1_000_000);
        let bad = api::Plugin { name: "bad".to_owned(), ..failed() };
        let stale = api::Plugin { failure: failed().failure, ..greeter() };
        let stale = api::Plugin { name: "stale".to_owned(), status: None, version: None, ..stale };
        assert_eq!(
            table(&[stale, greeter(), bad], now),
            "   NAME     STATE   RESULT   GENERATION  VERSION       SINCE        CPU  MEMORY  REQ/S  ROUTES                 STATUS
●  bad      failed  trap     -           -             -            -    -       -      -
   greeter  active  success  3           1.2.3         3min 2s ago  -    -       -      /greeter a.example/hi  greets people
●  stale    active  success  3           4e07408562be  3min 2s ago  -    -       -      /greeter a.example/hi

3 plugins, 2 failed
"
        );
    }

    #[test]
    fn a_pinned_plugin_is_marked_as_such() {
        let pinned = api::Plugin { pinned: true, ..greeter() };
        assert_eq!(state(&pinned, moment(0)), "active (pinned)");
        let degraded = api::Plugin { sub_state: "degraded".to_owned(), ..pinned };
        assert_eq!(state(&degraded, moment(0)), "active (degraded, pinned)");
    }

    #[test]
    fn no_plugin_is_a_valid_list() {
        assert_eq!(table(&[], SystemTime::now()), "0 plugins, 0 failed\n");
        assert!(table(&[greeter()], SystemTime::now()).ends_with("\n\n1 plugin, 0 failed\n"));
    }

    #[test]
    fn no_plugin_can_write_a_line_for_another() {
        let status = Some("x\n●  greeter  failed\x1b[2J".to_owned());
        let reported = table(&[api::Plugin { status, ..greeter() }], SystemTime::now());
        assert_eq!(reported.lines().count(), 4, "{reported}");
        assert!(!reported.contains('\x1b'));
    }
}
