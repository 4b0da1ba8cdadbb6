//! The summary of all plugins, for those who wait for them or report on them.

use crate::{
    api::{self, FailedStage},
    base::{name::PluginName, text::cut},
    supervisor::degraded::DegradedReason,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Limits of a line about failed plugins: the number of names, and the bytes about each.
const NAMED_MAX: usize = 10;
const ERROR_MAX: usize = 500;
/// The beginning of a line that says why compiled code is not kept.
pub const UNKEPT_CODE: &str = "compiled code is not kept";

/// The summary of all plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The directories were read at least once.
    pub scanned: bool,
    /// The directories could not be read: why.
    pub unreadable: Option<String>,
    /// Files in the directories that are ignored, each with the reason.
    pub ignored: Vec<String>,
    /// The directory for plugins of the administrator, if it does not exist.
    pub missing_directory: Option<PathBuf>,
    /// Number of plugins.
    pub plugins: usize,
    /// Number of plugins that serve now, are programs that returned ok, or are started by their next request.
    pub ready: usize,
    /// Plugins that have no instance before their next request or connection.
    pub on_demand: Vec<PluginName>,
    /// Number of plugins that do something without being asked: background programs, subscribers to
    /// messages, and those that start, stop or change.
    pub at_work: usize,
    /// Plugins that are stopped: by an operator, or because they do not start by themselves.
    pub stopped: Vec<PluginName>,
    /// Number of plugins that an operator stopped, rolled back or started, which the next start of the daemon undoes.
    pub operated: usize,
    /// Required plugins that are not ready and may become so.
    pub awaited: Vec<PluginName>,
    /// Plugins whose start failed and is tried again, and those that were ready and whose last instance is being
    /// replaced.
    pub retried: Vec<Failed>,
    /// Plugins of which the newest version failed for good.
    pub failed: Vec<Failed>,
    /// Plugins that serve and are degraded, each with the reason.
    pub degraded: Vec<(PluginName, DegradedReason)>,
    /// A reload is in progress, or waits for another one.
    pub reloading: bool,
    /// Sockets that nothing is served on.
    pub unused_sockets: Vec<String>,
    /// Sockets that `plugind.toml` names and that do not exist, and `http` if plugins have routes and no socket speaks it.
    pub missing_sockets: Vec<String>,
    /// Why compiled code is not kept for the next start of the daemon, if it is not.
    pub unkept_code: Option<String>,
}

/// The part of one plugin in the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryEntry {
    /// It serves, is a program that returned ok, or is started by its next request.
    pub ready: bool,
    /// It has no instance before its next request or connection.
    pub on_demand: bool,
    /// It does something without being asked.
    pub at_work: bool,
    /// It is stopped: by an operator, or because it does not start by itself.
    pub stopped: bool,
    /// An operator stopped it, rolled it back or started it, which the next start of the daemon undoes.
    pub operated: bool,
    /// It is required, not ready, and may become so.
    pub awaited: bool,
    /// Why it is tried again.
    pub retried: Option<Failed>,
    /// Why its newest version failed for good.
    pub failed: Option<Failed>,
    /// Why it is degraded, if it serves and is.
    pub degraded: Option<DegradedReason>,
}

/// The parts of all plugins in the summary. An update costs as much as its change, for any number of plugins.
#[derive(Default)]
pub struct Tally {
    plugins: BTreeSet<PluginName>,
    ready: BTreeSet<PluginName>,
    on_demand: BTreeSet<PluginName>,
    at_work: BTreeSet<PluginName>,
    stopped: BTreeSet<PluginName>,
    operated: BTreeSet<PluginName>,
    awaited: BTreeSet<PluginName>,
    retried: BTreeMap<PluginName, Failed>,
    failed: BTreeMap<PluginName, Failed>,
    degraded: BTreeMap<PluginName, DegradedReason>,
}

impl Tally {
    /// Notes what a plugin adds, or that it is not there.
    pub fn set(&mut self, name: PluginName, standing: Option<SummaryEntry>) {
        let is_there = standing.is_some();
        let SummaryEntry {
            ready,
            on_demand,
            at_work,
            stopped,
            operated,
            awaited,
            retried,
            failed,
            degraded,
        } = standing.unwrap_or_default();
        put(&mut self.retried, &name, retried);
        put(&mut self.failed, &name, failed);
        put(&mut self.degraded, &name, degraded);
        for (set, is_in) in [
            (&mut self.ready, ready),
            (&mut self.on_demand, on_demand),
            (&mut self.at_work, at_work),
            (&mut self.stopped, stopped),
            (&mut self.operated, operated),
            (&mut self.awaited, awaited),
            (&mut self.plugins, is_there),
        ] {
            if is_in {
                set.insert(name.clone());
            } else {
                set.remove(&name);
            }
        }
    }

    /// The summary, as far as plugins concern it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            plugins: self.plugins.len(),
            ready: self.ready.len(),
            on_demand: self.on_demand.iter().cloned().collect(),
            at_work: self.at_work.len(),
            stopped: self.stopped.iter().cloned().collect(),
            operated: self.operated.len(),
            awaited: self.awaited.iter().cloned().collect(),
            retried: self.retried.values().cloned().collect(),
            failed: self.failed.values().cloned().collect(),
            degraded: self.degraded.clone().into_iter().collect(),
            ..Summary::default()
        }
    }
}

fn put<T>(map: &mut BTreeMap<PluginName, T>, name: &PluginName, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(name.clone(), value)),
        None => drop(map.remove(name)),
    }
}

/// Why a plugin failed, for good or until it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub plugin: PluginName,
    /// Whether the daemon is not ready without it.
    pub required: bool,
    /// Whether the daemon is to end because of it: `failure-action = "exit"`.
    pub exit: bool,
    /// The stage that failed.
    pub stage: FailedStage,
    /// The error.
    pub error: String,
    /// Trying again helps only after something was changed.
    pub configuration: bool,
    /// An operator stopped it meanwhile.
    pub stopped: bool,
    /// Since when the previous version has served in its place, if it does.
    pub previous_since: Option<SystemTime>,
}

impl Failed {
    /// A change of a plugin that an operator or a reload waits for, which leaves the plugin as it is.
    #[must_use]
    pub const fn of_change(plugin: PluginName, stage: FailedStage, error: String) -> Self {
        Self {
            plugin,
            required: false,
            exit: false,
            stage,
            error,
            configuration: false,
            stopped: false,
            previous_since: None,
        }
    }

    /// The remedy.
    #[must_use]
    pub fn remedy(&self) -> String {
        let plugin = &self.plugin;
        match self.stage {
            _ if self.stopped => format!("`pluginctl start {plugin}` starts it"),
            FailedStage::Scan | FailedStage::Verify | FailedStage::Route => {
                "fix it and reload".to_owned()
            }
            FailedStage::Compile if self.configuration => {
                "rebuild the component and reload".to_owned()
            }
            // It may be the component, what was granted to it, or a file that belongs to that: the error says which.
            FailedStage::Link if self.configuration => "fix that and reload".to_owned(),
            FailedStage::Start if self.configuration => {
                "fix its configuration and reload".to_owned()
            }
            FailedStage::Compile | FailedStage::Link => "a reload tries it again".to_owned(),
            FailedStage::Start | FailedStage::Handover => {
                format!("`journalctl PLUGIN={plugin}` may show more; a reload tries it again")
            }
            FailedStage::Run => {
                format!(
                    "`journalctl PLUGIN={plugin}` may show more; `pluginctl restart {plugin}` starts it again"
                )
            }
        }
    }
}

impl Summary {
    /// Whether nothing that is required is still on its way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unreadable.is_some() || (self.scanned && self.awaited.is_empty())
    }

    /// The required plugins that failed, and of which no previous version serves.
    pub fn required_failed(&self) -> impl Iterator<Item = &Failed> {
        self.failed.iter().filter(|failed| failed.required && failed.previous_since.is_none())
    }
}

impl From<&Failed> for api::PluginFailure {
    fn from(failed: &Failed) -> Self {
        Self {
            plugin: failed.plugin.to_string(),
            stage: failed.stage.to_string(),
            error: failed.error.clone(),
            remedy: failed.remedy(),
            configuration: failed.configuration,
            previous_since: failed.previous_since.map(microseconds),
        }
    }
}

fn microseconds(moment: SystemTime) -> u64 {
    let time = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plugins {
            0 => f.write_str("no plugins")?,
            plugins => write!(f, "{} of {plugins} plugins ready", self.ready)?,
        }
        if let Some(missing) = &self.missing_directory {
            write!(f, "; missing directory: {}", missing.display())?;
        }
        let (degraded, failed): (Vec<_>, Vec<_>) =
            self.failed.iter().partition(|failed| failed.previous_since.is_some());
        for (word, failed) in [("failed", failed), ("degraded", degraded)] {
            for (nth, failed) in failed.iter().take(NAMED_MAX).enumerate() {
                let separator = if nth == 0 { format!("; {word}: ") } else { ", ".to_owned() };
                let error = cut(&failed.error, ERROR_MAX);
                let (plugin, stage, remedy) = (&failed.plugin, failed.stage, failed.remedy());
                write!(f, "{separator}{plugin} ")?;
                if let Some(since) = failed.previous_since {
                    let since = humantime::format_rfc3339_seconds(since);
                    write!(f, "has served its previous version since {since} ")?;
                }
                write!(f, "({stage}: {error}; {remedy})")?;
            }
            if let more @ 1.. = failed.len().saturating_sub(NAMED_MAX) {
                write!(f, ", and {more} more")?;
            }
        }
        // Those with a previous version are above, with the failure of the newest one.
        let is_above = |why: &DegradedReason| matches!(why, DegradedReason::PreviousVersion(_));
        let degraded: Vec<_> = self.degraded.iter().filter(|(_, why)| !is_above(why)).collect();
        for (nth, (plugin, why)) in degraded.iter().take(NAMED_MAX).enumerate() {
            let separator = if nth == 0 { "; degraded: " } else { ", " };
            write!(f, "{separator}{plugin} ({})", cut(&why.to_string(), ERROR_MAX))?;
        }
        if let more @ 1.. = degraded.len().saturating_sub(NAMED_MAX) {
            write!(f, ", and {more} more")?;
        }
        for (word, plugins) in [("on demand", &self.on_demand), ("stopped", &self.stopped)] {
            for (nth, plugin) in plugins.iter().take(NAMED_MAX).enumerate() {
                let separator = if nth == 0 { format!("; {word}: ") } else { ", ".to_owned() };
                write!(f, "{separator}{plugin}")?;
            }
            if let more @ 1.. = plugins.len().saturating_sub(NAMED_MAX) {
                write!(f, ", and {more} more")?;
            }
        }
        for (nth, retried) in self.retried.iter().take(NAMED_MAX).enumerate() {
            let separator = if nth == 0 { "; retried: " } else { ", " };
            let error = cut(&retried.error, ERROR_MAX);
            write!(f, "{separator}{} ({}: {error})", retried.plugin, retried.stage)?;
        }
        if let more @ 1.. = self.retried.len().saturating_sub(NAMED_MAX) {
            write!(f, ", and {more} more")?;
        }
        if let Some(first) = self.ignored.first() {
            write!(f, "; {}", cut(first, ERROR_MAX))?;
        }
        if let more @ 1.. = self.ignored.len().saturating_sub(1) {
            write!(f, " (and {more} more)")?;
        }
        if let Some(why) = &self.unreadable {
            write!(f, "; not reloaded: {why}")?;
        }
        for (what, sockets) in
            [("unused", &self.unused_sockets), ("missing", &self.missing_sockets)]
        {
            if !sockets.is_empty() {
                write!(f, "; {what} sockets: {}", cut(&sockets.join(", "), ERROR_MAX))?;
            }
        }
        if let Some(why) = &self.unkept_code {
            write!(f, "; {UNKEPT_CODE}: {}", cut(why, ERROR_MAX))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_serves_its_previous_version_does_not_stop_the_start() {
        let failed = |name: &str, previous_since| Failed {
            plugin: name.parse().unwrap(),
            required: true,
            exit: false,
            stage: FailedStage::Verify,
            error: "no component".to_owned(),
            configuration: true,
            stopped: false,
            previous_since,
        };
        let failed = vec![failed("a", Some(UNIX_EPOCH)), failed("b", None)];
        let summary = Summary { plugins: 2, ready: 1, failed, ..Summary::default() };
        assert_eq!(
            summary.to_string(),
            "1 of 2 plugins ready; failed: b (verify: no component; fix it and reload); degraded: a has served its \
             previous version since 1970-01-01T00:00:00Z (verify: no component; fix it and reload)"
        );
        let required: Vec<_> = summary.required_failed().map(|it| it.plugin.as_str()).collect();
        assert_eq!(required, ["b"]);
    }

    #[test]
    fn degraded_plugins_are_in_the_summary_with_their_reasons() {
        let mut tally = Tally::default();
        let reported = |why: &str| Some(DegradedReason::Reported(why.to_owned()));
        // The failure of the last one says that the previous version serves.
        let previous = Some(DegradedReason::PreviousVersion(UNIX_EPOCH));
        let reasons = [reported("no disk"), None, Some(DegradedReason::Saturated), previous];
        for (name, degraded) in ["a", "b", "c", "d"].into_iter().zip(reasons) {
            let entry = SummaryEntry { ready: true, degraded, ..SummaryEntry::default() };
            tally.set(name.parse().unwrap(), Some(entry));
        }
        let text = tally.summary().to_string();
        let saturated = "c (no instance had room for requests of the last minute)";
        assert_eq!(text, format!("4 of 4 plugins ready; degraded: a (no disk), {saturated}"));
        tally.set("a".parse().unwrap(), None);
        let text = tally.summary().to_string();
        assert_eq!(text, format!("3 of 3 plugins ready; degraded: {saturated}"));
    }

    #[test]
    fn plugins_without_an_instance_are_in_the_summary_by_name() {
        let mut tally = Tally::default();
        for (name, on_demand) in [("a", true), ("b", false), ("c", true)] {
            let entry = SummaryEntry { ready: true, on_demand, ..SummaryEntry::default() };
            tally.set(name.parse().unwrap(), Some(entry));
        }
        let text = tally.summary().to_string();
        assert_eq!(text, "3 of 3 plugins ready; on demand: a, c");
        let running = SummaryEntry { ready: true, ..SummaryEntry::default() };
        tally.set("a".parse().unwrap(), Some(running.clone()));
        tally.set("c".parse().unwrap(), Some(running));
        assert_eq!(tally.summary().to_string(), "3 of 3 plugins ready");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_distinguished_from_one_without_plugins() {
        let none = Summary::default();
        assert_eq!(none.to_string(), "no plugins");
        let missing_directory = Some(PathBuf::from("/etc/plugind/plugins"));
        let missing = Summary { missing_directory, ..none };
        assert_eq!(missing.to_string(), "no plugins; missing directory: /etc/plugind/plugins");
    }

    #[test]
    fn compiled_code_that_is_not_kept_is_in_the_summary_with_the_reason() {
        let unkept_code = Some("cannot write to the cache /c: disk full".to_owned());
        let summary = Summary { plugins: 1, ready: 1, unkept_code, ..Summary::default() };
        assert_eq!(
            summary.to_string(),
            "1 of 1 plugins ready; compiled code is not kept: cannot write to the cache /c: disk full"
        );
    }

    #[test]
    fn ignored_files_are_in_the_summary_the_first_with_its_reason() {
        let ignored = ["a_b.wasm is ignored", "c_d.wasm is ignored", "e_f.wasm is ignored"];
        let ignored: Vec<_> = ignored.map(str::to_owned).into();
        let one =
            Summary { plugins: 2, ready: 2, ignored: ignored[..1].into(), ..Summary::default() };
        assert_eq!(one.to_string(), "2 of 2 plugins ready; a_b.wasm is ignored");
        let all = Summary { ignored, ..one };
        assert_eq!(all.to_string(), "2 of 2 plugins ready; a_b.wasm is ignored (and 2 more)");
    }
}
