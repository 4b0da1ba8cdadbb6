//! One reload, and its progress.

use crate::{api, base::name::PluginName, supervisor::summary::Failed};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The options of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadOptions {
    /// Failed plugins are tried again, even if nothing in them has changed.
    pub again: bool,
    /// Nothing changes unless everything can.
    pub all_or_nothing: bool,
}

/// How far a plugin's new version is in a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Others are being prepared.
    Queued,
    /// It is being compiled and linked.
    Compiling,
    /// Its first instance is being started.
    Starting,
    /// It could serve, and waits for all others.
    Ready,
    /// It receives the state of the previous version.
    HandingOver,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Compiling => "compiling",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::HandingOver => "handing-over",
        })
    }
}

/// The results of one reading of the directories so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadState {
    /// The options of the request.
    pub options: ReloadOptions,
    compared: bool,
    over: bool,
    /// Plugins whose new version does not serve yet, and how far it is.
    pending: BTreeMap<PluginName, Step>,
    /// Plugins that are new or have a new version, and serve.
    pub changed: BTreeSet<PluginName>,
    /// Plugins that could not be taken over.
    pub failed: BTreeMap<PluginName, Failed>,
    /// Plugins that were removed.
    pub removed: BTreeSet<PluginName>,
    /// Number of plugins that did not change.
    pub unchanged: usize,
    /// Why the directories could not be read.
    pub unreadable: Option<String>,
    /// Files in the directories that are ignored, each with the reason.
    pub ignored: Vec<String>,
    /// Plugins whose files are not used, because an operator pinned them to another version.
    pub pinned: BTreeSet<PluginName>,
    /// Generations that were replaced or removed, and finish their requests.
    draining: BTreeSet<(PluginName, u64)>,
    /// All or nothing was asked for, and so nothing was changed.
    pub taken_back: bool,
}

impl ReloadState {
    /// One that has not begun.
    #[must_use]
    pub fn new(options: ReloadOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// The directories are read once more: what was found before counts until that is known.
    #[must_use]
    pub fn again(&self, again: bool) -> Self {
        let options = ReloadOptions { again: again || self.options.again, ..self.options };
        Self { options, compared: false, ..self.clone() }
    }

    /// Completed changes are kept, everything else is compared again.
    pub fn compare_again(&mut self) {
        self.pending.clear();
        self.failed.clear();
        (self.unchanged, self.unreadable, self.taken_back) = (0, None, false);
    }

    /// This plugin is to be taken over.
    pub fn await_plugin(&mut self, name: &PluginName) {
        self.pending.insert(name.clone(), Step::Queued);
    }

    /// The plugins that are to be taken over, and how far each is.
    pub fn pending(&self) -> impl Iterator<Item = (&PluginName, Step)> {
        self.pending.iter().map(|(name, step)| (name, *step))
    }

    /// Whether this plugin is to be taken over.
    #[must_use]
    pub fn awaits(&self, name: &PluginName) -> bool {
        self.pending.contains_key(name)
    }

    /// This plugin has reached this step; returns whether that is new.
    pub fn enter_step(&mut self, name: &PluginName, step: Step) -> bool {
        let known = self.pending.get_mut(name);
        known.is_some_and(|known| std::mem::replace(known, step) != step)
    }

    /// Everything that was found has been looked at.
    pub fn compared(&mut self) {
        self.compared = true;
    }

    /// This plugin was taken over.
    pub fn taken_over(&mut self, name: &PluginName) {
        // Another plugin that becomes ready meanwhile, after a failure of its own, does not count.
        if self.pending.remove(name).is_some() {
            self.changed.insert(name.clone());
        }
    }

    /// This plugin could not be taken over.
    pub fn failed(&mut self, failed: Failed) {
        if self.pending.remove(&failed.plugin).is_some() || !self.compared {
            self.failed.insert(failed.plugin.clone(), failed);
        }
    }

    /// This plugin was removed.
    pub fn removed(&mut self, name: &PluginName) {
        self.pending.remove(name);
        self.removed.insert(name.clone());
    }

    /// Because something failed, nothing is changed.
    pub fn take_back(&mut self) {
        self.pending.clear();
        self.taken_back = true;
    }

    /// This generation was replaced or removed, and finishes its requests.
    pub fn drains(&mut self, name: &PluginName, generation: u64) {
        self.draining.insert((name.clone(), generation));
    }

    /// Nothing is left of this generation; returns whether that is new.
    pub fn drained(&mut self, name: &PluginName, generation: u64) -> bool {
        self.draining.remove(&(name.clone(), generation))
    }

    /// Whether everything that was found has been looked at.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        self.compared
    }

    /// Whether nothing is awaited any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.compared && self.pending.is_empty()
    }

    /// It has ended, except for generations that drain.
    pub fn finish(&mut self) {
        self.over = true;
    }

    /// Whether it has ended, except for generations that drain.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.over
    }

    /// Whether nothing of what was replaced or removed is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining.is_empty()
    }
}

impl From<&ReloadState> for api::Reload {
    fn from(reload: &ReloadState) -> Self {
        let names = |names: &BTreeSet<PluginName>| names.iter().map(ToString::to_string).collect();
        let awaited = |(plugin, step): (&PluginName, Step)| api::Awaited {
            plugin: plugin.to_string(),
            step: step.to_string(),
        };
        let draining: BTreeSet<_> = reload.draining.iter().map(|(name, _)| name.clone()).collect();
        Self {
            scanned: reload.compared,
            unreadable: reload.unreadable.clone(),
            ignored: reload.ignored.clone(),
            awaited: reload.pending().map(awaited).collect(),
            changed: names(&reload.changed),
            removed: names(&reload.removed),
            unchanged: reload.unchanged as u64,
            failed: reload.failed.values().map(Into::into).collect(),
            draining: names(&draining),
            pinned: names(&reload.pinned),
            taken_back: reload.taken_back,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FailedStage;

    fn failed(plugin: &PluginName) -> Failed {
        let (plugin, error) = (plugin.clone(), String::new());
        let (required, exit, configuration) = (true, false, false);
        let (stage, previous_since, stopped) = (FailedStage::Start, None, false);
        Failed { plugin, required, exit, stage, error, configuration, stopped, previous_since }
    }

    #[test]
    fn a_reload_has_ended_when_each_plugin_was_taken_over_or_failed() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let mut reload = ReloadState::default();
        reload.await_plugin(&a);
        reload.await_plugin(&b);
        reload.failed(failed(&c));
        assert!(!reload.is_settled());
        reload.compared();
        reload.taken_over(&a);
        assert!(!reload.is_settled());
        reload.failed(failed(&b));
        reload.failed(failed(&a));
        assert!(reload.is_settled());
        assert_eq!((reload.changed.len(), reload.failed.len()), (1, 2));
    }

    #[test]
    fn one_that_takes_the_place_of_another_keeps_what_was_done_and_nothing_else() {
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        let mut reload = ReloadState::new(ReloadOptions { again: true, all_or_nothing: false });
        reload.await_plugin(&a);
        reload.await_plugin(&b);
        reload.compared();
        reload.taken_over(&a);
        let mut next = reload.again(false);
        assert!(next.options.again && next.changed.contains(&a));
        assert!(!next.is_compared() && next.awaits(&b), "it may be that nothing can be read");
        next.compare_again();
        assert!(next.changed.contains(&a) && !next.awaits(&b) && !next.is_settled());
    }
}
