//! A directory that daemons may share: of those with the same one, each but the first says so. It stays open, so its file
//! system cannot be unmounted.

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{fs::File, path::Path};

/// The use of a directory, until this is dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryUse {
    _directory: File,
    is_shared: bool,
}

impl DirectoryUse {
    /// Begins to use a directory; none if it cannot be opened.
    #[must_use]
    pub fn begin(directory: &Path) -> Option<Self> {
        let opened = File::open(directory).ok()?;
        let alone = flock(&opened, FlockOperation::NonBlockingLockExclusive);
        // Where files cannot be locked, a second daemon cannot be noticed.
        flock(&opened, FlockOperation::NonBlockingLockShared).ok();
        Some(Self { _directory: opened, is_shared: alone == Err(Errno::WOULDBLOCK) })
    }

    /// Whether another process used it when this use began.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_of_a_directory_but_the_first_is_shared() {
        let directory = tempfile::tempdir().unwrap();
        let begin = || DirectoryUse::begin(directory.path()).unwrap();
        let first = begin();
        let second = begin();
        assert!(!first.is_shared() && second.is_shared());
        drop(first);
        assert!(begin().is_shared(), "the second one uses it");
        drop(second);
        assert!(!begin().is_shared());
        assert!(DirectoryUse::begin(&directory.path().join("missing")).is_none());
    }
}
