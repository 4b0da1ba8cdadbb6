//! One reading of the directories and what comes of it, counted.

use crate::name::PluginName;
use std::collections::BTreeSet;

/// What one reading of the directories led to so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reload {
    compared: bool,
    pending: BTreeSet<PluginName>,
    /// How many plugins are new or have a new version.
    pub changed: usize,
    /// How many could not be taken over.
    pub failed: usize,
    /// How many are there no more.
    pub removed: usize,
    /// How many are as they were.
    pub unchanged: usize,
}

impl Reload {
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
            self.changed += 1;
        }
    }

    /// This plugin could not be taken over.
    pub fn failed(&mut self, name: &PluginName) {
        if self.pending.remove(name) || !self.compared {
            self.failed += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_each_one_was_taken_over_or_failed() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let mut reload = Reload::default();
        reload.await_plugin(&a);
        reload.await_plugin(&b);
        reload.failed(&c);
        assert!(!reload.is_over());
        reload.compared();
        reload.taken_over(&a);
        assert!(!reload.is_over());
        reload.failed(&b);
        reload.failed(&a);
        assert!(reload.is_over());
        assert_eq!((reload.changed, reload.failed), (1, 2));
    }
}
