//! `pluginctl list`: all plugins, one line each.

use crate::{
    client::CallMethod,
    columns::{KEPT, SPACING, columns, cut_to_terminal, fitting, terminal_width},
    observed_daemon::ObservedDaemon,
    print::{complain, json, print},
    problem::{NOT_ACTIVE, Problem, wait_for},
    relative_time::{ago, moment},
    usage::{busy, bytes, rate, remark, step, time},
};
use plugind::{api, base::text::Escaped};
use std::{process::ExitCode, time::SystemTime};

/// The number of hexadecimal digits of a digest that distinguish the versions of a plugin.
const DIGITS: usize = 12;

/// The columns, each with its importance on a terminal that is too narrow for all of them.
const COLUMNS: [(&str, u8); 15] = [
    ("", KEPT),
    ("NAME", KEPT),
    ("STATE", 12),
    ("RESULT", 5),
    ("GENERATION", 0),
    ("VERSION", 3),
    ("SINCE", 6),
    ("CPU", 10),
    ("MEMORY", 9),
    ("REQ/S", 8),
    ("P50", 1),
    ("P99", 4),
    ("FLIGHT", 2),
    ("ROUTES", 7),
    ("STATUS", 11),
];
/// The largest width that is reserved for the columns ROUTES and STATUS. They are cut at the end of a line, so a longer
/// text does not cause other columns to be left out.
const TEXT_WIDTH: usize = 12;

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Print JSON: the reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: ObservedDaemon,
}

impl ListArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let list: api::List =
            wait_for(async { Ok(self.daemon.connect()?.call(CallMethod::List).await?) })?;
        print(&match self.json {
            true => json(&list),
            false => {
                let now = SystemTime::now();
                cut_to_terminal(&table(&list.plugins, now, terminal_width()))
            }
        })?;
        for ignored in &list.ignored {
            complain(&format!("warning: {ignored}"));
        }
        let is_well = !list.plugins.iter().any(has_failed);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }
}

/// The table, with the columns that fit this width if there is one.
fn table(plugins: &[api::Plugin], now: SystemTime, width: Option<usize>) -> String {
    let mut sorted: Vec<_> = plugins.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    let mut rows: Vec<_> = sorted.into_iter().map(|plugin| row(plugin, now)).collect();
    let places = match width {
        Some(width) => fitting(&widths(&rows), width),
        None => (0..COLUMNS.len()).collect(),
    };
    if let Some(width) = width {
        shorten_routes(&mut rows, &places, width);
    }
    let header: Vec<_> = places.iter().map(|place| COLUMNS[*place].0).collect();
    let rows = rows.iter().map(|row| places.iter().map(|place| row[*place].clone()).collect());
    let table = if plugins.is_empty() { String::new() } else { columns(&header, rows) + "\n" };
    format!("{table}{}\n", totals(plugins))
}

/// The number of plugins, of those that failed, and if there are some, of those that are degraded or tried again: in
/// the words of the daemon's status.
pub(crate) fn totals(plugins: &[api::Plugin]) -> String {
    let count =
        |problem| plugins.iter().filter(|it| ListedProblem::of(it) == Some(problem)).count();
    let s = if plugins.len() == 1 { "" } else { "s" };
    let mut totals =
        format!("{} plugin{s}, {} failed", plugins.len(), count(ListedProblem::Failed));
    for (problem, word) in
        [(ListedProblem::Degraded, "degraded"), (ListedProblem::Retried, "retried")]
    {
        if let count @ 1.. = count(problem) {
            totals += &format!(", {count} {word}");
        }
    }
    totals
}

/// What is wrong with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListedProblem {
    /// It failed, and no version of it serves.
    Failed,
    /// It serves, and something is wrong, such as that its newest version failed.
    Degraded,
    /// It does not serve, and is tried again.
    Retried,
}

impl ListedProblem {
    fn of(plugin: &api::Plugin) -> Option<Self> {
        let failure = plugin.failure.as_ref();
        let is_previous = failure.is_some_and(|failure| failure.previous_since.is_some());
        match &*plugin.sub_state {
            "auto-restart" | "recovering" => Some(Self::Retried),
            _ if is_previous || plugin.degraded.is_some() => Some(Self::Degraded),
            _ => has_failed(plugin).then_some(Self::Failed),
        }
    }
}

/// Shortens long routes so that as much as possible of the status fits as well.
fn shorten_routes(rows: &mut [Vec<String>], places: &[usize], width: usize) {
    let [Some(routes), Some(status)] = ["ROUTES", "STATUS"]
        .map(|name| places.iter().copied().find(|place| COLUMNS[*place].0 == name))
    else {
        return;
    };
    let widest = |place: usize| {
        let cells = rows.iter().map(|row| shown_width(&row[place]));
        // No column is without width.
        cells.max().unwrap_or_default().max(COLUMNS[place].0.len()).max(1)
    };
    let needed: usize = places.iter().map(|place| widest(*place) + SPACING).sum();
    let excess = needed.saturating_sub(width + SPACING);
    let room = widest(routes).saturating_sub(excess).max(TEXT_WIDTH);
    if status > routes && excess > 0 {
        for row in rows {
            row[routes] = shortened(&row[routes], room);
        }
    }
}

fn shown_width(cell: &str) -> usize {
    Escaped(cell).to_string().chars().count()
}

/// The beginning of a text, if it is wider than this.
fn shortened(cell: &str, width: usize) -> String {
    if shown_width(cell) <= width {
        return cell.to_owned();
    }
    let shown = Escaped(cell).to_string();
    shown.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The width and the importance of each column.
fn widths(rows: &[Vec<String>]) -> Vec<(usize, u8)> {
    let width = |(place, (name, importance)): (usize, &(&str, u8))| {
        let cells = rows.iter().map(|row| shown_width(&row[place]));
        let widest = cells.max().unwrap_or_default().max(name.len());
        let is_cut = matches!(*name, "ROUTES" | "STATUS");
        (if is_cut { widest.min(TEXT_WIDTH) } else { widest }, *importance)
    };
    COLUMNS.iter().enumerate().map(width).collect()
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
        or_none(plugin.usage.as_ref().and_then(|usage| usage.p50).map(time)),
        or_none(plugin.usage.as_ref().and_then(|usage| usage.p99).map(time)),
        or_none(plugin.usage.as_ref().map(|usage| usage.in_flight.to_string())),
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
    let shown = ["auto-restart", "degraded", "on demand", "recovering", "stopped"];
    let is_shown = shown.contains(&&*plugin.sub_state);
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
    use crate::fixtures::{failed, failure, greeter, used};

    #[test]
    fn plugins_are_listed_in_the_order_of_their_names_and_those_that_failed_are_marked() {
        let now = moment(1_000_000 + 182 * 1_000_000);
        let bad = api::Plugin { name: "bad".to_owned(), ..failed() };
        let previous = api::PluginFailure { previous_since: Some(1_000_000), ..failure() };
        let stale = api::Plugin { failure: Some(previous), ..greeter() };
        let stale = api::Plugin { name: "stale".to_owned(), status: None, version: None, ..stale };
        assert_eq!(
            table(&[stale, greeter(), bad], now, None),
            "   NAME     STATE   RESULT   GENERATION  VERSION       SINCE        CPU  MEMORY  REQ/S  P50  P99  FLIGHT  ROUTES                 STATUS
●  bad      failed  trap     -           -             -            -    -       -      -    -    -       -
   greeter  active  success  3           1.2.3         3min 2s ago  -    -       -      -    -    -       /greeter a.example/hi  greets people
●  stale    active  success  3           4e07408562be  3min 2s ago  -    -       -      -    -    -       /greeter a.example/hi

3 plugins, 1 failed, 1 degraded
"
        );
    }

    #[test]
    fn plugins_are_counted_in_the_words_of_the_status() {
        let retried = |sub_state: &str| api::Plugin {
            active_state: "activating".to_owned(),
            sub_state: sub_state.to_owned(),
            ..failed()
        };
        let degraded = api::Plugin {
            sub_state: "degraded".to_owned(),
            degraded: Some("no disk".to_owned()),
            ..greeter()
        };
        let all = [failed(), greeter(), retried("auto-restart"), degraded, retried("recovering")];
        assert_eq!(totals(&all), "5 plugins, 1 failed, 1 degraded, 2 retried");
        assert_eq!(state(&retried("recovering"), moment(0)), "activating (recovering)");
    }

    #[test]
    fn only_plugins_whose_newest_version_failed_or_is_retried_are_marked() {
        let plugin = |active: &str, failure| api::Plugin {
            active_state: active.to_owned(),
            failure,
            ..greeter()
        };
        for active in ["inactive", "activating", "deactivating", "reloading", "active"] {
            assert!(!has_failed(&plugin(active, None)), "{active}");
        }
        assert!(has_failed(&plugin("failed", None)));
        assert!(has_failed(&plugin("activating", failed().failure)));
    }

    #[test]
    fn a_pinned_plugin_is_marked_as_such() {
        let pinned = api::Plugin { pinned: true, ..greeter() };
        assert_eq!(state(&pinned, moment(0)), "active (pinned)");
        let degraded = api::Plugin { sub_state: "degraded".to_owned(), ..pinned };
        assert_eq!(state(&degraded, moment(0)), "active (degraded, pinned)");
    }

    #[test]
    fn a_narrow_terminal_has_the_most_important_columns() {
        let shown = table(&[greeter(), used("a", 600, 1 << 20)], moment(2_000_000), Some(80));
        assert_eq!(
            shown.lines().next(),
            Some("   NAME     STATE   SINCE   CPU  MEMORY  REQ/S  ROUTES             STATUS")
        );
        let shown = table(&[greeter()], moment(2_000_000), Some(34));
        assert_eq!(shown.lines().next(), Some("   NAME     STATE   STATUS"));
    }

    #[test]
    fn routes_are_shortened_before_the_status_is_cut() {
        let long = api::Plugin { routes: vec!["/".repeat(60)], ..greeter() };
        let shown = table(std::slice::from_ref(&long), moment(2_000_000), Some(80));
        let row = shown.lines().nth(1).unwrap_or_default();
        assert!(row.ends_with("/…  greets people") && row.chars().count() <= 80, "{shown}");
        // There is room for both.
        let shown = table(&[long], moment(2_000_000), Some(300));
        assert!(shown.contains(&"/".repeat(60)), "{shown}");
    }

    #[test]
    fn no_plugin_is_a_valid_list() {
        assert_eq!(table(&[], SystemTime::now(), None), "0 plugins, 0 failed\n");
        assert!(
            table(&[greeter()], SystemTime::now(), Some(80)).ends_with("\n\n1 plugin, 0 failed\n")
        );
    }

    #[test]
    fn no_plugin_can_write_a_line_for_another() {
        let status = Some("x\n●  greeter  failed\x1b[2J".to_owned());
        let reported = table(&[api::Plugin { status, ..greeter() }], SystemTime::now(), None);
        assert_eq!(reported.lines().count(), 4, "{reported}");
        assert!(!reported.contains('\x1b'));
    }
}
