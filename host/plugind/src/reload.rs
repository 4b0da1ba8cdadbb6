//! One reading of the directories and what came of it so far.

use crate::{api, name::PluginName, summary::Failed};
use std::collections::{BTreeMap, BTreeSet};

/// What one reading of the directories led to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// What failed is tried again, even if nothing in it has changed.
    pub again: bool,
    compared: bool,
    pending: BTreeSet<PluginName>,
    /// Plugins that are new or have a new version, and serve.
    pub changed: BTreeSet<PluginName>,
    /// Plugins that could not be taken over.
    pub failed: BTreeMap<PluginName, Failed>,
    /// Plugins that are there no more.
    pub removed: BTreeSet<PluginName>,
    /// How many are as they were.
    pub unchanged: usize,
    /// Why the directories could not be read.
    pub unreadable: Option<String>,
}

impl Reload {
    /// One that has not begun. What failed is tried `again` or not.
    #[must_use]
    pub fn new(again: bool) -> Self {
        Self { again, ..Self::default() }
    }

    /// One that takes the place of this one, which is not over: what was done stays done, all else is judged anew.
    #[must_use]
    pub fn anew(&self, again: bool) -> Self {
        Self {
            again: again || self.again,
            changed: self.changed.clone(),
            removed: self.removed.clone(),
            ..Self::default()
        }
    }

    /// This plugin is to be taken over.
    pub fn await_plugin(&mut self, name: &PluginName) {
        self.pending.insert(name.clone());
    }

    /// Everything that was found has been looked at.
    pub fn compared(&mut self) {
        self.compared = true;
    }

    /// This plugin was taken over.
    pub fn taken_over(&mut self, name: &PluginName) {
        // Another one that becomes ready meanwhile, after a failure of its own, is none of this.
        if self.pending.remove(name) {
            self.changed.insert(name.clone());
        }
    }

    /// This plugin could not be taken over.
    pub fn failed(&mut self, failed: Failed) {
        if self.pending.remove(&failed.plugin) || !self.compared {
            self.failed.insert(failed.plugin.clone(), failed);
        }
    }

    /// Whether everything that was found has been looked at.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        self.compared
    }

    /// Whether nothing is awaited any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.compared && self.pending.is_empty()
    }
}

impl From<&Reload> for api::Reload {
    fn from(reload: &Reload) -> Self {
        let names = |names: &BTreeSet<PluginName>| names.iter().map(ToString::to_string).collect();
        Self {
            scanned: reload.compared,
            unreadable: reload.unreadable.clone(),
            awaited: names(&reload.pending),
            changed: names(&reload.changed),
            removed: names(&reload.removed),
            unchanged: reload.unchanged as u64,
            failed: reload.failed.values().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Stage;

    fn failed(plugin: &PluginName) -> Failed {
        let (plugin, error) = (plugin.clone(), String::new());
        let (required, exit, configuration) = (true, false, false);
        Failed { plugin, required, exit, stage: Stage::Start, error, configuration }
    }

    #[test]
    fn it_is_over_when_each_one_was_taken_over_or_failed() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let mut reload = Reload::default();
        reload.await_plugin(&a);
        reload.await_plugin(&b);
        reload.failed(failed(&c));
        assert!(!reload.is_over());
        reload.compared();
        reload.taken_over(&a);
        assert!(!reload.is_over());
        reload.failed(failed(&b));
        reload.failed(failed(&a));
        assert!(reload.is_over());
        assert_eq!((reload.changed.len(), reload.failed.len()), (1, 2));
    }

    #[test]
    fn one_that_takes_the_place_of_another_keeps_what_was_done_and_nothing_else() {
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        let mut reload = Reload::new(true);
        reload.await_plugin(&a);
        reload.await_plugin(&b);
        reload.compared();
        reload.taken_over(&a);
        let next = reload.anew(false);
        assert!(next.again && next.changed.contains(&a));
        assert!(!next.is_compared() && !next.is_over());
    }
}
