//! Whether the directories that the daemon and its compiler write to can be written to.

use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};
use std::path::{Path, PathBuf};

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct StorageDirectories {
    /// The state of plugins.
    pub state: PathBuf,
    /// Compiled files.
    pub cache: PathBuf,
}

impl StorageDirectories {
    /// Returns the problems of the directories, one line for each. A directory that does not exist has no problem.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let (state, cache) = (&self.state, &self.cache);
        let state =
            problem(state).map(|it| format!("the state directory {} {it}", state.display()));
        // The daemon itself need not be able to write to the cache: its compiler does.
        let cache = problem(cache)
            .filter(|it| *it != READ_ONLY)
            .map(|it| format!("the cache {} {it}", cache.display()));
        state.into_iter().chain(cache).collect()
    }
}

const READ_ONLY: &str = "is on a read-only file system";
const NO_SPACE: &str = "is on a file system without space";
const NO_INODES: &str = "is on a file system without inodes";

fn problem(directory: &Path) -> Option<&'static str> {
    statvfs(directory).ok().and_then(|stat| problem_of(&stat))
}

fn problem_of(stat: &StatVfs) -> Option<&'static str> {
    match () {
        () if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => Some(READ_ONLY),
        () if stat.f_bavail == 0 && stat.f_blocks > 0 => Some(NO_SPACE),
        // Some file systems have no fixed number of them.
        () if stat.f_favail == 0 && stat.f_files > 0 => Some(NO_INODES),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_read_only_file_system_is_a_problem_and_a_missing_directory_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let stat = statvfs(directory.path()).unwrap();
        let changed = |change: fn(&mut StatVfs)| {
            let mut stat = StatVfs { f_flag: StatVfsMountFlags::empty(), ..stat };
            (stat.f_blocks, stat.f_bavail, stat.f_files, stat.f_favail) = (10, 1, 10, 1);
            change(&mut stat);
            problem_of(&stat)
        };
        assert_eq!(changed(|_| ()), None);
        assert_eq!(changed(|stat| stat.f_bavail = 0), Some(NO_SPACE));
        assert_eq!(changed(|stat| stat.f_favail = 0), Some(NO_INODES));
        assert_eq!(changed(|stat| (stat.f_files, stat.f_favail) = (0, 0)), None);
        assert_eq!(changed(|stat| (stat.f_blocks, stat.f_bavail) = (0, 0)), None);
        assert_eq!(changed(|stat| stat.f_flag = StatVfsMountFlags::RDONLY), Some(READ_ONLY));
        let [state, cache] = ["none", "nothing"].map(|name| directory.path().join(name));
        assert!(StorageDirectories { state, cache }.problems().is_empty());
    }
}
