//! A directory that daemons may share: of those with the same one, each but the first says so. It stays open, so its file
//! system cannot be unmounted.

use crate::systemd::state_lock::StateLock;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{fs::File, path::Path, time::Duration};

/// The time to wait for others that begin to use a directory, each of which takes a moment.
const TURN_MAX: Duration = Duration::from_secs(1);

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
        // The kernel releases the first lock below before it grants the second. One that begins in between would find
        // none, so they take turns, by a lock on the directory above.
        let _turn = StateLock::wait_for(&directory.join(".."), TURN_MAX);
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
    use std::{fs, sync::Barrier, thread};

    #[test]
    fn of_uses_that_begin_at_the_same_moment_all_but_one_are_shared() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("cache");
        fs::create_dir(&directory).unwrap();
        for _ in 0..20 {
            let together = Barrier::new(4);
            let begin = || {
                together.wait();
                DirectoryUse::begin(&directory).unwrap()
            };
            let uses: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(uses.iter().filter(|it| !it.is_shared()).count(), 1);
        }
    }

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
