//! The open files of this process. Some descriptors are reserved for the daemon itself.

use rustix::{
    fs::stat,
    process::{Resource, getrlimit},
};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};

/// Descriptors for the control socket, the journal, and reading directories and files; a quarter of a small limit.
const RESERVED: u64 = 128;
/// A file for each of those that this process has open.
const OPEN: &str = "/proc/self/fd";

/// The number of files this process may have open; none is no limit.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns the number of files that this process has open, if it can be determined.
#[must_use]
pub fn open() -> Option<u64> {
    // The size of this directory is their number since Linux 6.2. Before, it is 0.
    let counted = stat(OPEN).ok().and_then(|directory| u64::try_from(directory.st_size).ok());
    // The directory itself is open while it is listed, and is one of its entries.
    let listed = || Some(fs::read_dir(OPEN).ok()?.count().saturating_sub(1) as u64);
    counted.filter(|count| *count > 0).or_else(listed)
}

/// Whether a descriptor that was just opened is one of those that are reserved for the daemon itself. The system
/// assigns the lowest free number, so the number shows how many are in use.
#[must_use]
pub fn is_reserved(descriptor: &impl AsFd) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    limit().is_some_and(|limit| number >= for_others(limit))
}

/// The part of so many descriptors that plugins and clients may have.
#[must_use]
pub fn for_others(limit: u64) -> u64 {
    limit - RESERVED.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_kept_whatever_the_limit_is() {
        assert_eq!(for_others(524_288), 524_160);
        assert_eq!(for_others(1024), 896);
        assert_eq!(for_others(64), 48);
        assert_eq!(for_others(0), 0);
    }

    #[test]
    fn open_files_are_counted() {
        let files: Vec<_> = (0..20).map(|_| tempfile::tempfile().unwrap()).collect();
        assert!(open().unwrap() >= files.len() as u64);
    }

    #[test]
    fn the_first_descriptors_are_for_everybody() {
        assert!(!is_reserved(&std::io::stdin()));
    }
}
