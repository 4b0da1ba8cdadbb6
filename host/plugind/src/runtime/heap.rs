//! Gives memory that the heap has freed back to the system.
//!
//! The C library keeps freed memory for later allocations, also the memory of plugins that have ended.

use std::{fs, time::Duration};

/// Interval at which free memory is looked for.
const EVERY: Duration = Duration::from_secs(15);
/// The numbers of pages of this process: all, and those that are resident.
const STATM: &str = "/proc/self/statm";
/// Less than this is not worth it.
const WORTH: usize = 8 << 20;

/// Whether there is something to give back, by how much of the heap is free.
#[derive(Debug, Default)]
struct Trimmer {
    /// The least free memory since memory was last given back: this much has been given back already.
    with_system: usize,
}

impl Trimmer {
    /// Takes note of how much of the heap is free now. True if it is to be given back.
    fn look(&mut self, free: usize) -> bool {
        self.with_system = self.with_system.min(free);
        let is_due = free - self.with_system >= WORTH;
        if is_due {
            self.with_system = free;
        }
        is_due
    }
}

/// Gives back what is free now.
pub async fn give_back() {
    // It may take some milliseconds. If it fails, the next look at the heap shows the same.
    tokio::task::spawn_blocking(libc_heap::trim).await.ok();
}

/// The resident memory of this process in bytes; 0, if it is unknown.
#[must_use]
pub fn resident() -> u64 {
    let numbers = fs::read(STATM).ok().and_then(|numbers| String::from_utf8(numbers).ok());
    let pages = numbers.and_then(|numbers| numbers.split(' ').nth(1)?.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(0);
    pages.unwrap_or(0).saturating_mul(page)
}

/// Gives memory back for as long as the daemon runs.
pub async fn keep_trimmed() {
    let mut trimmer = Trimmer::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if trimmer.look(libc_heap::free()) {
            give_back().await;
        }
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's functions have no safe interface")]
mod libc_heap {
    /// Free bytes of the heap.
    pub(super) fn free() -> usize {
        // SAFETY: it has no arguments, takes the locks of the heap, and returns numbers.
        unsafe { libc::mallinfo2() }.fordblks
    }

    /// Gives free pages back.
    pub(super) fn trim() {
        // SAFETY: it takes the locks of the heap and touches free memory only.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Other C libraries give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
mod libc_heap {
    pub(super) fn free() -> usize {
        0
    }

    pub(super) fn trim() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_a_number_of_pages() {
        let resident = resident();
        assert!(resident > 0 && resident.is_multiple_of(4096), "{resident}");
    }

    #[test]
    fn what_was_freed_is_given_back_once() {
        let mut trimmer = Trimmer::default();
        assert!(!trimmer.look(WORTH - 1));
        assert!(trimmer.look(3 * WORTH));
        assert!(!trimmer.look(3 * WORTH), "it is free still, and with the system");
        // Some of it is used, and freed again.
        assert!(!trimmer.look(WORTH));
        assert!(trimmer.look(2 * WORTH));
    }
}
