//! Whether files changed, by their sizes and times.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Limit of files that are checked; a directory with more of them has another problem.
const FILES_MAX: usize = 10_000;
/// Limit of the depth of directories that are checked.
const DEPTH_MAX: usize = 16;

/// Files with what is known of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Snapshot {
    /// Looks at files, and at the files below directories. What is not there is left out.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut snapshot = Self::default();
        for path in paths {
            snapshot.add(path, DEPTH_MAX);
        }
        snapshot
    }

    fn add(&mut self, path: &Path, depth: usize) {
        let Ok(metadata) = fs::metadata(path) else { return };
        if self.0.len() >= FILES_MAX {
            return;
        }
        if !metadata.is_dir() {
            self.0.insert(path.to_owned(), (metadata.len(), metadata.modified().ok()));
            return;
        }
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        // Editors write drafts with a dot, and tools their own directories.
        let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        for entry in visible.filter(|_| depth > 0) {
            self.add(&entry.path(), depth - 1);
        }
    }
}

/// Finds changes that are complete.
pub(super) struct Changes {
    known: Snapshot,
    seen: Snapshot,
    /// Files had changed at the end of the last build.
    changed_during_build: bool,
}

impl Changes {
    /// From here on.
    pub(super) fn of(now: Snapshot) -> Self {
        Self { known: now.clone(), seen: now, changed_during_build: false }
    }

    /// A build has ended. Files that changed during it were changed by their author, which needs another build, or by
    /// the build itself. The second build in a row decides: an author would hardly change files during both.
    pub(super) fn built(&mut self, now: Snapshot) {
        self.changed_during_build = now != self.known && !self.changed_during_build;
        if !self.changed_during_build {
            *self = Self::of(now);
        }
    }

    /// Whether something is other than it was, and the same as at the last look, so that the writer has probably finished.
    pub(super) fn observe(&mut self, now: Snapshot) -> bool {
        let at_rest = now == self.seen;
        self.seen = now;
        if !at_rest || self.seen == self.known {
            return false;
        }
        self.known = self.seen.clone();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_when_it_has_come_to_rest() {
        let directory = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(&[directory.path().to_owned()]);
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("a", "1");
        let mut changes = Changes::of(look());
        assert!(!changes.observe(look()));
        write("a", "12");
        assert!(!changes.observe(look()), "it may still be written");
        write("a", "123");
        assert!(!changes.observe(look()), "it was");
        assert!(changes.observe(look()));
        assert!(!changes.observe(look()), "it was found already");
        write(".draft", "x");
        assert!(!changes.observe(look()) && !changes.observe(look()), "a draft is not looked at");
        fs::remove_file(directory.path().join("a")).unwrap();
        assert!(!changes.observe(look()) && changes.observe(look()), "a removal is a change");
    }

    #[test]
    fn a_change_during_a_build_needs_one_more_build_and_no_third() {
        let directory = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(&[directory.path().to_owned()]);
        let write = |text: &str| fs::write(directory.path().join("a"), text).unwrap();
        write("1");
        let mut changes = Changes::of(look());
        changes.built(look());
        assert!(!changes.observe(look()), "nothing changed");
        write("12");
        changes.built(look());
        assert!(!changes.observe(look()) && changes.observe(look()), "it changed during the build");
        write("123");
        changes.built(look());
        assert!(!changes.observe(look()) && !changes.observe(look()), "the build changes it");
    }
}
