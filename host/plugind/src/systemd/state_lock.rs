//! A lock on the directory of the daemon's state: two daemons with the same one would disturb each other.

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The interval of the attempts to lock a directory.
const LOOK: Duration = Duration::from_millis(10);

/// The lock of a directory, until this is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _directory: Option<File>,
}

/// Another daemon has the lock.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedState;

impl StateLock {
    /// Locks a directory, which is made if it is missing. One that cannot be made or locked has no lock.
    ///
    /// # Errors
    /// When another process has the lock.
    pub fn acquire(directory: &Path) -> Result<Self, SharedState> {
        // The daemon uses its state as far as it can be used, so a failure is not reported here.
        DirBuilder::new().recursive(true).mode(0o700).create(directory).ok();
        let opened = File::open(directory).ok();
        let locked = opened.as_ref().map(|it| flock(it, FlockOperation::NonBlockingLockExclusive));
        match locked {
            Some(Err(Errno::WOULDBLOCK)) => Err(SharedState),
            _ => Ok(Self { _directory: opened }),
        }
    }
}

impl StateLock {
    /// The same, but waits for a process that has the lock only for a moment, as `pluginctl unpin` does.
    ///
    /// # Errors
    /// When another process still has the lock after `wait_max`.
    pub fn wait_for(directory: &Path, wait_max: Duration) -> Result<Self, SharedState> {
        let begun = Instant::now();
        loop {
            match Self::acquire(directory) {
                Err(SharedState) if begun.elapsed() < wait_max => thread::sleep(LOOK),
                acquired => return acquired,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let held = StateLock::acquire(directory.path()).unwrap();
        assert_eq!(StateLock::wait_for(directory.path(), Duration::ZERO).err(), Some(SharedState));
        let path = directory.path().to_owned();
        let waits = thread::spawn(move || StateLock::wait_for(&path, Duration::from_secs(60)));
        drop(held);
        assert!(waits.join().unwrap().is_ok());
    }

    #[test]
    fn a_directory_has_one_lock_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(directory.path()).unwrap();
        assert_eq!(StateLock::acquire(directory.path()).err(), Some(SharedState));
        drop(first);
        assert!(StateLock::acquire(directory.path()).is_ok());
        let missing = directory.path().join("a/missing/one");
        let _first = StateLock::acquire(&missing).unwrap();
        assert_eq!(StateLock::acquire(&missing).err(), Some(SharedState));
        let file = directory.path().join("file");
        File::create(&file).unwrap();
        assert!(StateLock::acquire(&file.join("below")).is_ok());
    }
}
