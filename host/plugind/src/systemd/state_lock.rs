//! A lock on the directory of the daemon's state: two daemons with the same one would disturb each other.

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{fs::File, path::Path};

/// The lock of a directory, until this is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _directory: Option<File>,
}

/// Another daemon has the lock.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedState;

impl StateLock {
    /// Locks a directory. One that is not there, or that cannot be locked for another reason, has no lock.
    ///
    /// # Errors
    /// When another process has the lock.
    pub fn acquire(directory: &Path) -> Result<Self, SharedState> {
        let opened = File::open(directory).ok();
        let locked = opened.as_ref().map(|it| flock(it, FlockOperation::NonBlockingLockExclusive));
        match locked {
            Some(Err(Errno::WOULDBLOCK)) => Err(SharedState),
            _ => Ok(Self { _directory: opened }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_lock_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(directory.path()).unwrap();
        assert_eq!(StateLock::acquire(directory.path()).err(), Some(SharedState));
        drop(first);
        assert!(StateLock::acquire(directory.path()).is_ok());
        assert!(StateLock::acquire(&directory.path().join("missing")).is_ok());
    }
}
