//! Whether files changed, by their sizes and times.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Limit of files that are checked; a directory with more of them has another problem.
const FILES_MAX: usize = 10_000;
/// Limit of the depth of directories that are checked.
const DEPTH_MAX: usize = 16;

/// Files, each with its size and the time of its last change.
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

    /// The files that are other ones than in another snapshot.
    fn changed_since(&self, before: &Self) -> BTreeSet<PathBuf> {
        let paths = self.0.keys().chain(before.0.keys());
        paths.filter(|path| self.0.get(*path) != before.0.get(*path)).cloned().collect()
    }

    fn add(&mut self, path: &Path, depth: usize) {
        if let Some(extension) = pattern_extension(path) {
            return self.add_matching(path.parent().unwrap_or(Path::new("")), extension);
        }
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

    /// Adds the files of a directory that have this extension.
    fn add_matching(&mut self, directory: &Path, extension: &str) {
        // An empty path is the current directory.
        let entries = fs::read_dir(Path::new(".").join(directory)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        let visible = names.filter(|name| !name.to_string_lossy().starts_with('.'));
        let paths = visible.map(|name| directory.join(name));
        for path in paths.filter(|path| path.extension().is_some_and(|it| it == extension)) {
            self.add(&path, 0);
        }
    }
}

/// The extension of a path whose last part is `*.EXTENSION`.
fn pattern_extension(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("*.")
}

/// Finds changes that are complete.
pub(super) struct Changes {
    known: Snapshot,
    seen: Snapshot,
    /// Files had changed at the end of a build, and the next changes are those.
    changed_during_build: bool,
}

impl Changes {
    /// From here on.
    pub(super) fn of(now: Snapshot) -> Self {
        Self { known: now.clone(), seen: now, changed_during_build: false }
    }

    /// A build has ended. Files that changed during it were changed by their author, which needs another build, or by
    /// the build itself. After the second build in a row, the files that changed during it are returned: they count as
    /// changed by the build, which an author who changed files during both must know.
    pub(super) fn built(&mut self, now: Snapshot) -> BTreeSet<PathBuf> {
        let changed = now.changed_since(&self.known);
        if !changed.is_empty() && !self.changed_during_build {
            self.changed_during_build = true;
            return BTreeSet::new();
        }
        *self = Self::of(now);
        changed
    }

    /// Nothing is built after changes, so that the next build does not follow another one.
    pub(super) fn not_built(&mut self) {
        self.changed_during_build = false;
    }

    /// The files that are other than they were, if they are the same as at the last look, so that the writer has
    /// probably finished.
    pub(super) fn observe(&mut self, now: Snapshot) -> BTreeSet<PathBuf> {
        let at_rest = now == self.seen;
        self.seen = now;
        if !at_rest {
            return BTreeSet::new();
        }
        if self.seen == self.known {
            self.not_built();
            return BTreeSet::new();
        }
        let changed = self.seen.changed_since(&self.known);
        self.known = self.seen.clone();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_when_it_has_come_to_rest() {
        let directory = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(&[directory.path().to_owned()]);
        let observe = |changes: &mut Changes| !changes.observe(look()).is_empty();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("a", "1");
        let mut changes = Changes::of(look());
        assert!(!observe(&mut changes));
        write("a", "12");
        assert!(!observe(&mut changes), "it may still be written");
        write("a", "123");
        assert!(!observe(&mut changes), "it was");
        assert!(observe(&mut changes));
        assert!(!observe(&mut changes), "it was found already");
        write(".draft", "x");
        assert!(!observe(&mut changes) && !observe(&mut changes), "a draft is not looked at");
        fs::remove_file(directory.path().join("a")).unwrap();
        assert!(!observe(&mut changes) && observe(&mut changes), "a removal is a change");
    }

    #[test]
    fn a_change_during_a_build_needs_one_more_build_and_no_third() {
        let directory = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(&[directory.path().to_owned()]);
        let observe = |changes: &mut Changes| !changes.observe(look()).is_empty();
        let write = |text: &str| fs::write(directory.path().join("a"), text).unwrap();
        write("1");
        let mut changes = Changes::of(look());
        assert!(changes.built(look()).is_empty());
        assert!(!observe(&mut changes), "nothing changed");
        write("12");
        assert!(changes.built(look()).is_empty());
        assert!(!observe(&mut changes) && observe(&mut changes), "it changed during the build");
        write("123");
        assert_eq!(changes.built(look()), BTreeSet::from([directory.path().join("a")]));
        assert!(!observe(&mut changes) && !observe(&mut changes), "the build changes it");
    }

    #[test]
    fn a_build_that_follows_no_other_one_does_not_take_the_changes_of_the_author() {
        let directory = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(&[directory.path().to_owned()]);
        let observe = |changes: &mut Changes| !changes.observe(look()).is_empty();
        let write = |text: &str| fs::write(directory.path().join("a"), text).unwrap();
        write("1");
        let mut changes = Changes::of(look());
        write("12");
        changes.built(look());
        assert!(!observe(&mut changes) && observe(&mut changes), "it changed during the build");
        changes.not_built();
        write("123");
        changes.built(look());
        assert!(!observe(&mut changes) && observe(&mut changes), "it changed during a first build");
    }

    #[test]
    fn a_change_during_a_build_that_is_taken_back_leaves_the_next_build_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let (draft, kept) = (directory.path().join("a"), directory.path().join("b"));
        let look = || Snapshot::of(&[draft.clone(), kept.clone()]);
        let observe = |changes: &mut Changes| !changes.observe(look()).is_empty();
        let mut changes = Changes::of(look());
        fs::write(&draft, "1").unwrap();
        changes.built(look());
        fs::remove_file(&draft).unwrap();
        assert!(!observe(&mut changes) && !observe(&mut changes), "nothing has changed");
        fs::write(&kept, "1").unwrap();
        changes.built(look());
        assert!(!observe(&mut changes) && observe(&mut changes), "it changed during a first build");
    }

    #[test]
    fn a_pattern_has_the_files_of_its_extension_and_changes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let look = || Snapshot::of(&[path("*.py"), path("*.rs")]);
        for name in ["a.py", "b.txt", "__pycache__"] {
            fs::write(path(name), "1").unwrap();
        }
        let mut changes = Changes::of(look());
        for name in ["a.py", "b.txt", "new.py"] {
            fs::write(path(name), "12").unwrap();
        }
        assert_eq!(changes.observe(look()), BTreeSet::new());
        assert_eq!(changes.observe(look()), BTreeSet::from([path("a.py"), path("new.py")]));
    }
}
