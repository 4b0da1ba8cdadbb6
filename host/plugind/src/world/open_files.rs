//! The files and directories that all instances of a generation have open: a bounded number, so that one plugin cannot
//! take the descriptors of others.

use crate::base::descriptors;
use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// The most that one plugin may have open, with any limit of the process.
const OPEN_MAX: usize = 4096;
/// Divisor for the part that it may have of a small limit.
const SHARE: u64 = 4;

/// The open files of a generation. Each is known until its last user has closed it.
#[derive(Debug)]
pub(super) struct OpenFiles {
    max: usize,
    open: Mutex<Vec<Weak<File>>>,
}

impl OpenFiles {
    /// None is open yet.
    pub(super) fn new() -> Self {
        let limit = descriptors::limit().map(|limit| descriptors::for_others(limit) / SHARE);
        let max = limit.and_then(|limit| usize::try_from(limit).ok());
        Self::with_max(max.map_or(OPEN_MAX, |max| max.min(OPEN_MAX)))
    }

    fn with_max(max: usize) -> Self {
        Self { max, open: Mutex::default() }
    }

    /// Counts a file that was just opened. False if there are as many as there may be.
    pub(super) fn admit(&self, file: &Arc<File>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.max {
            open.retain(|file| file.strong_count() > 0);
        }
        let has_room = open.len() < self.max;
        if has_room {
            open.push(Arc::downgrade(file));
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<File> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    #[test]
    fn no_more_files_are_open_than_may_be_and_closed_ones_make_room() {
        let open = OpenFiles::with_max(2);
        let [first, second, third] = [file(), file(), file()];
        assert!(open.admit(&first) && open.admit(&second));
        let also_first = first.clone();
        drop(first);
        assert!(!open.admit(&third), "it is still in use");
        drop(also_first);
        assert!(open.admit(&third));
        assert!(!open.admit(&file()));
    }

    #[test]
    fn a_plugin_has_a_part_of_what_the_process_may_open() {
        let max = OpenFiles::new().max as u64;
        let limit = descriptors::limit().unwrap_or(u64::MAX);
        assert!((1..=4096).contains(&max) && max <= limit / 4);
    }
}
