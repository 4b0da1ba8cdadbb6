//! The progress of a reload: each event is printed once, when it happens.

use plugind::api;
use std::collections::BTreeSet;

/// Limit of names in a line.
const NAMES: usize = 5;

/// The lines that were printed already.
#[derive(Default)]
pub(crate) struct ReloadProgress {
    scanned: bool,
    reported: BTreeSet<String>,
    /// The plugins that are or were compiled, in this order.
    compiled: Vec<String>,
    draining: BTreeSet<String>,
    failures: BTreeSet<String>,
    ignored: BTreeSet<String>,
    pinned: BTreeSet<String>,
}

/// A line about an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReloadEvent {
    pub(crate) line: String,
    /// It is worth reading later. Other lines are shown only on a terminal, and only while they are true.
    pub(crate) lasts: bool,
}

impl ReloadProgress {
    /// Returns the events since the last reply.
    pub(crate) fn news(&mut self, now: &api::Reload) -> Vec<ReloadEvent> {
        let scanned = now.scanned && now.unreadable.is_none();
        let draining = now.draining.iter().cloned().collect();
        let drained = std::mem::replace(&mut self.draining, draining);
        if !scanned {
            // The findings are incomplete until then; and a reload that replaces this one reads again.
            self.scanned = false;
            return Vec::new();
        }
        let mut news = Vec::new();
        let mut report = |reported: &mut BTreeSet<String>, line: String, lasts| {
            if reported.insert(line.clone()) {
                news.push(ReloadEvent { line, lasts });
            }
        };
        if !std::mem::replace(&mut self.scanned, true) {
            let (unchanged, removed) = (now.unchanged, now.removed.len());
            let line = format!(
                "scanned: {} to take over, {unchanged} unchanged, {removed} removed",
                to_take_over(now)
            );
            report(&mut self.reported, line, true);
        }
        for name in &now.removed {
            report(&mut self.reported, format!("removed {name}"), true);
        }
        for api::Awaited { plugin, step } in &now.awaited {
            let line = match step.as_str() {
                "queued" => continue,
                "compiling" => {
                    if self.compiled.contains(plugin) {
                        continue;
                    }
                    self.compiled.push(plugin.clone());
                    self.compiling(now, plugin)
                }
                step => format!("{} {plugin}", doing(step)),
            };
            report(&mut self.reported, line, false);
        }
        for name in &now.changed {
            report(&mut self.reported, format!("swapped {name}"), true);
        }
        for name in drained.difference(&self.draining) {
            report(&mut self.reported, format!("drained {name}"), false);
        }
        news
    }

    /// The ignored files that were not reported yet.
    pub(crate) fn ignored(&mut self, now: &api::Reload) -> Vec<String> {
        let all = now.ignored.iter().cloned();
        all.filter(|line| self.ignored.insert(line.clone())).collect()
    }

    /// The pinned plugins of which files are not used, if they were not reported yet.
    pub(crate) fn pinned(&mut self, now: &api::Reload) -> Vec<String> {
        let new = now.pinned.iter().filter(|name| self.pinned.insert((*name).clone()));
        new.map(|name| {
            format!("{name} is pinned: its files are not used until `pluginctl unpin {name}`")
        })
        .collect()
    }

    /// Returns the failures since the last reply: plugin, stage, cause and remedy.
    pub(crate) fn failures(&mut self, now: &api::Reload) -> Vec<String> {
        let all = now.failed.iter().map(|failure| {
            let api::PluginFailure { plugin, stage, error, remedy, .. } = failure;
            format!("{plugin}: failed at {stage}: {error}; {remedy}")
        });
        all.filter(|line| self.failures.insert(line.clone())).collect()
    }

    /// Returns the work in progress, on one line. Must be called after [`ReloadProgress::news`].
    pub(crate) fn doing(&self, now: &api::Reload) -> Option<String> {
        if !now.scanned {
            return Some("scanning".to_owned());
        }
        let mut steps: Vec<&str> = Vec::new();
        for awaited in &now.awaited {
            if !steps.contains(&awaited.step.as_str()) {
                steps.push(&awaited.step);
            }
        }
        // Plugins that wait for the others are named only if there is nothing else to report.
        if steps.iter().any(|step| *step != "queued") {
            steps.retain(|step| *step != "queued");
        }
        let doing = steps.into_iter().map(|step| {
            let all = now.awaited.iter().filter(|awaited| awaited.step == step);
            let names = some(all.map(|awaited| awaited.plugin.as_str()).collect());
            match step {
                "compiling" => self.compiling(now, &names),
                step => format!("{} {names}", doing(step)),
            }
        });
        let doing: Vec<_> = match now.draining.as_slice() {
            [] => doing.collect(),
            names => {
                let names = some(names.iter().map(String::as_str).collect());
                doing.chain([format!("draining {names}")]).collect()
            }
        };
        (!doing.is_empty()).then(|| doing.join("; "))
    }

    fn compiling(&self, now: &api::Reload, names: &str) -> String {
        format!("compiling {} of {}: {names}", self.compiled.len(), to_take_over(now))
    }
}

/// Returns the number of plugins that are new or have a new version.
fn to_take_over(now: &api::Reload) -> usize {
    now.awaited.len() + now.changed.len() + now.failed.len()
}

/// Returns the words for a step; a step that only a newer daemon knows is printed unchanged.
fn doing(step: &str) -> &str {
    match step {
        "starting" => "waiting for",
        "handing-over" => "handing over",
        other => other,
    }
}

fn some(names: Vec<&str>) -> String {
    let reported = names[..names.len().min(NAMES)].join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => reported,
        more => format!("{reported} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::failure;

    fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).into()
    }

    fn awaited<const N: usize>(steps: [(&str, &str); N]) -> Vec<api::Awaited> {
        let awaited = steps.map(|(plugin, step)| api::Awaited {
            plugin: plugin.to_owned(),
            step: step.to_owned(),
        });
        awaited.into()
    }

    fn reported(progress: &mut ReloadProgress, now: &api::Reload) -> Vec<String> {
        progress.news(now).into_iter().map(|news| news.line).collect()
    }

    #[test]
    fn each_event_is_reported_once_and_only_when_it_has_happened() {
        let mut progress = ReloadProgress::default();
        // The findings are incomplete while the directories are read.
        let mut now = api::Reload { removed: names(["old"]), ..api::Reload::default() };
        assert_eq!(progress.news(&now), []);
        now.scanned = true;
        now.unchanged = 12;
        now.draining = names(["old"]);
        now.awaited = awaited([("greeter", "compiling"), ("slow", "queued")]);
        now.failed = vec![failure()];
        assert_eq!(
            reported(&mut progress, &now),
            [
                "scanned: 3 to take over, 12 unchanged, 1 removed",
                "removed old",
                "compiling 1 of 3: greeter",
            ]
        );
        now.ignored = names(["my_plugin.wasm is ignored"]);
        assert_eq!(progress.ignored(&now), ["my_plugin.wasm is ignored"]);
        assert_eq!(progress.ignored(&now), [""; 0]);
        now.pinned = names(["kept"]);
        let kept = "kept is pinned: its files are not used until `pluginctl unpin kept`";
        assert_eq!(progress.pinned(&now), [kept]);
        assert_eq!(progress.pinned(&now), [""; 0]);
        let bad = "bad: failed at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload";
        assert_eq!(progress.failures(&now), [bad]);
        assert_eq!(reported(&mut progress, &now), [""; 0]);
        now.awaited = awaited([("greeter", "starting"), ("slow", "compiling")]);
        now.draining = names([]);
        assert_eq!(
            reported(&mut progress, &now),
            ["waiting for greeter", "compiling 2 of 3: slow", "drained old"]
        );
        now.awaited = awaited([("slow", "handing-over")]);
        now.changed = names(["greeter"]);
        now.draining = names(["greeter"]);
        assert_eq!(reported(&mut progress, &now), ["handing over slow", "swapped greeter"]);
        now.awaited = awaited([]);
        now.changed = names(["greeter", "slow"]);
        now.draining = names([]);
        assert_eq!(reported(&mut progress, &now), ["swapped slow", "drained greeter"]);
        assert_eq!(progress.failures(&now), [""; 0]);
    }

    #[test]
    fn steps_that_were_not_observed_are_not_reported() {
        let mut progress = ReloadProgress::default();
        let changed = names(["greeter"]);
        let over = api::Reload { scanned: true, changed, ..api::Reload::default() };
        let scanned = "scanned: 1 to take over, 0 unchanged, 0 removed";
        assert_eq!(reported(&mut progress, &over), [scanned, "swapped greeter"]);
    }

    #[test]
    fn a_terminal_keeps_outcomes_and_not_progress() {
        let mut progress = ReloadProgress::default();
        let mut now = api::Reload { scanned: true, ..api::Reload::default() };
        now.awaited = awaited([("a", "compiling"), ("b", "starting"), ("c", "ready")]);
        now.changed = names(["d"]);
        now.removed = names(["e"]);
        let kept = progress.news(&now).into_iter().filter(|news| news.lasts);
        let kept: Vec<_> = kept.map(|news| news.line).collect();
        assert_eq!(
            kept,
            ["scanned: 4 to take over, 0 unchanged, 1 removed", "removed e", "swapped d"]
        );
    }

    #[test]
    fn the_progress_is_one_short_line_for_any_number_of_plugins() {
        let mut progress = ReloadProgress::default();
        let mut now = api::Reload::default();
        let mut doing = |now: &api::Reload| {
            progress.news(now);
            progress.doing(now)
        };
        assert_eq!(doing(&now).as_deref(), Some("scanning"));
        now.scanned = true;
        assert_eq!(doing(&now), None);
        now.awaited = awaited([("a", "compiling"), ("b", "queued"), ("c", "starting")]);
        assert_eq!(doing(&now).as_deref(), Some("compiling 1 of 3: a; waiting for c"));
        now.awaited = awaited([("b", "queued")]);
        now.changed = names(["a", "c"]);
        now.draining = names(["a"]);
        assert_eq!(doing(&now).as_deref(), Some("queued b; draining a"));
        now.awaited.clear();
        now.draining = (1..=1000).map(|nth| format!("p{nth}")).collect();
        assert_eq!(doing(&now).as_deref(), Some("draining p1, p2, p3, p4, p5 and 995 more"));
    }
}
