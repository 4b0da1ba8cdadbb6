//! Directories by their descriptors. Where a less privileged user can write, a path can lead elsewhere at any moment, and
//! a descriptor cannot.

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat},
    io::Errno,
    path::Arg,
};
use std::os::fd::{AsFd, OwnedFd};

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory of an operator's: links in its path are followed.
///
/// # Errors
/// When it cannot be opened, or is not a directory.
pub fn open(path: impl Arg) -> Result<OwnedFd, Errno> {
    openat(CWD, path, FLAGS, Mode::empty())
}

/// Opens a directory in another one. A link is not followed.
///
/// # Errors
/// When it cannot be opened; [`Errno::NOTDIR`] if it is not a directory.
pub fn open_at(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    match openat(parent, name, FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        opened => opened,
    }
}

/// Removes an entry of a directory, whatever it is, except a directory. False if it is one.
///
/// # Errors
/// When it cannot be removed; [`Errno::NOENT`] if there is none.
pub fn remove_file_at(parent: impl AsFd, name: impl Arg) -> Result<bool, Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_link_is_no_directory_and_is_removed_without_its_target() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        symlink("directory", root.path().join("link")).unwrap();
        symlink("link", root.path().join("further")).unwrap();
        let parent = open(root.path()).unwrap();
        assert!(open_at(&parent, "directory").is_ok());
        for link in ["link", "further"] {
            assert_eq!(open_at(&parent, link).unwrap_err(), Errno::NOTDIR);
            assert_eq!(remove_file_at(&parent, link), Ok(true));
        }
        assert_eq!(remove_file_at(&parent, "link"), Err(Errno::NOENT));
        assert_eq!(remove_file_at(&parent, "directory"), Ok(false));
        assert!(root.path().join("directory").exists());
    }
}
