//! Reading of an operator's file, once and as a whole: bounded, without blocking, and not while it is written.

use crate::base::quantity::Bytes;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system did not let it be read.
    #[error("cannot read {}{}", path.display(), remedy(path, source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("{} is {what}, not a regular file; put the file itself there", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// Its real type.
        what: &'static str,
    },
    /// It is larger than is sensible.
    #[error("{} is larger than {}, which is the most that is read", path.display(), Bytes(*max))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size allowed, in bytes.
        max: u64,
    },
    /// Somebody writes it.
    #[error(
        "{} is still being written: it changed while it was read; write it under another name, such as one that \
         begins with a dot, and rename it",
        .0.display()
    )]
    Changing(PathBuf),
}

impl FileError {
    /// Whether another try may do better without a change of the file's name, kind or size.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Changing(_))
    }
}

/// The remedy, as the end of a sentence.
fn remedy(path: &Path, error: &io::Error) -> String {
    let link = fs::read_link(path).ok().map(|target| target.display().to_string());
    match (error.kind(), link) {
        (io::ErrorKind::NotFound, Some(target)) => format!(
            ": it is a link to {target}, which does not exist, or which the daemon cannot see, because it sees only \
             some directories; put the file itself in place of the link"
        ),
        (io::ErrorKind::NotFound, None) => "; it was there a moment ago".to_owned(),
        (io::ErrorKind::PermissionDenied, None) => {
            format!("; let the user of the daemon read it, as with `chmod a+r {}`", path.display())
        }
        (io::ErrorKind::PermissionDenied, Some(target)) => format!(
            ": it is a link to {target}; give the user of the daemon the right to read that, or put the file itself in \
             place of the link"
        ),
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            ": it is a link that leads back to itself; put the file itself in place of the link"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Reads a file of at most so many bytes.
///
/// # Errors
/// When it cannot be read, is not a regular file, is too large, or changes while it is read.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source: io::Error| FileError::Read { path: path.to_owned(), source };
    // NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let descriptor =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let before = rustix::fs::fstat(&descriptor).map_err(|errno| failed(errno.into()))?;
    if let Some(what) = other_than_file(FileType::from_raw_mode(before.st_mode)) {
        return Err(FileError::NotAFile { path: path.to_owned(), what });
    }
    let file = File::from(descriptor);
    let mut bytes = Vec::with_capacity(usize::try_from(before.st_size).unwrap_or(0).min(1 << 20));
    // One byte more than allowed, to tell "just fits" from "too large".
    (&file).take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(FileError::TooLarge { path: path.to_owned(), max });
    }
    let after = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    let is_whole = u64::try_from(after.st_size).is_ok_and(|size| size == bytes.len() as u64);
    if !is_whole || !is_untouched(&before, &after) {
        return Err(FileError::Changing(path.to_owned()));
    }
    Ok(bytes)
}

/// Tells whether a file is still the one that was read, without reading it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    /// No program can set it back.
    changed: (i64, i64),
}

impl FileVersion {
    /// Age that a file's times must have to prove that the file is unchanged: file systems count them in
    /// steps, of two seconds at most.
    const STEP: i64 = 2;

    /// The file behind this path, or behind the link there. None if it changed too recently to be known again.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let stat = rustix::fs::stat(path).ok()?;
        let version = Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).ok()?),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).ok()?),
        };
        version.is_settled(now).then_some(version)
    }

    /// Whether any later change shows. A time that is yet to come proves nothing.
    fn is_settled(&self, now: i64) -> bool {
        self.changed.0.checked_add(Self::STEP).is_some_and(|settled| settled < now)
    }
}

fn is_untouched(before: &Stat, after: &Stat) -> bool {
    (before.st_size, before.st_mtime, before.st_mtime_nsec)
        == (after.st_size, after.st_mtime, after.st_mtime_nsec)
}

/// The type of something that is no regular file.
fn other_than_file(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a pipe"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::fs::symlink};

    fn error(path: &Path) -> String {
        read(path, 10).unwrap_err().to_string()
    }

    #[test]
    fn a_path_that_is_not_a_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(error(&pipe).contains("is a pipe, not a regular file"));
        assert!(error(directory.path()).contains("is a directory, not a regular file"));
        assert!(error(Path::new("/dev/zero")).contains("is a device, not a regular file"));
    }

    #[test]
    fn a_dangling_link_is_reported_with_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let [dangling, round] = ["dangling", "round"].map(|name| directory.path().join(name));
        symlink("/nowhere/at/all", &dangling).unwrap();
        assert!(error(&dangling).contains("it is a link to /nowhere/at/all, which does not exist"));
        symlink(&round, &round).unwrap();
        assert!(error(&round).contains("leads back to itself"), "{}", error(&round));
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(&[7; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [7; 10]);
        assert!(matches!(read(&path, 9), Err(FileError::TooLarge { max: 9, .. })));
    }

    #[test]
    fn a_version_proves_nothing_within_two_seconds_of_a_change() {
        let version = |changed| FileVersion {
            device: 1,
            inode: 1,
            size: 1,
            modified: (0, 0),
            changed: (changed, 0),
        };
        assert!(version(100).is_settled(103));
        for now in [102, 101, 100, 99] {
            assert!(!version(100).is_settled(now), "{now}");
        }
        assert!(!version(i64::MAX).is_settled(i64::MAX));
    }

    #[test]
    fn a_version_differs_after_each_way_to_replace_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let version = || {
            let stat = rustix::fs::stat(&path).unwrap();
            (stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec)
        };
        fs::write(&path, "one").unwrap();
        let first = version();
        fs::write(directory.path().join(".new"), "two").unwrap();
        fs::rename(directory.path().join(".new"), &path).unwrap();
        assert_ne!(version(), first);
        assert_eq!(FileVersion::of(&path), None, "it has just changed");
        assert_eq!(FileVersion::of(&directory.path().join("none")), None);
    }

    #[test]
    fn a_file_that_another_writes_meanwhile_is_noticed() {
        let file = tempfile::tempfile().unwrap();
        let before = rustix::fs::fstat(&file).unwrap();
        (&file).write_all(b"more").unwrap();
        assert!(!is_untouched(&before, &rustix::fs::fstat(&file).unwrap()));
    }
}
