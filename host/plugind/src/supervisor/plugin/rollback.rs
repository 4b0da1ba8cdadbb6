//! A plugin that an operator rolled back: its previous version serves until its files change.

use crate::{
    plugin::release::{Release, ReleaseDigests},
    supervisor::{operated::Rollback, plugin::ManagedPlugin},
};

impl ManagedPlugin {
    /// It is being rolled back to an earlier version.
    pub fn begin_rollback(&mut self, from: ReleaseDigests, to: ReleaseDigests) {
        self.rollback = Some(Rollback { from, to });
    }

    /// Its files are used again.
    pub fn end_rollback(&mut self) {
        self.rollback = None;
    }

    /// Whether an earlier version serves because an operator rolled it back.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        let serving = self.serving().map(|serving| serving.release.digests());
        self.rollback.is_some_and(|rollback| serving == Some(rollback.to))
    }

    /// The version that it was rolled back from, as long as the earlier one serves.
    #[must_use]
    pub fn rolled_back_from(&self) -> Option<ReleaseDigests> {
        self.rollback.filter(|_| self.is_rolled_back()).map(|rollback| rollback.from)
    }

    /// Whether this is the version that it was rolled back from.
    #[must_use]
    pub fn is_rolled_back_from(&self, release: &Release) -> bool {
        self.rolled_back_from() == Some(release.digests())
    }
}
