//! Open files of this process: some are kept for the daemon itself, whatever its plugins and clients open.

use rustix::process::{Resource, getrlimit};
use std::os::fd::{AsFd, AsRawFd};

/// So many are for the control socket, the journal, and reading directories and components; of a small limit, a quarter.
const RESERVED: u64 = 128;

/// The number of files this process may have open; none is no limit.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether a descriptor that was just opened is one of those that are kept for the daemon itself. The system gives out
/// the lowest number that is free, so that its number says how many are in use.
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
    fn the_first_descriptors_are_for_everybody() {
        assert!(!is_reserved(&std::io::stdin()));
    }
}
