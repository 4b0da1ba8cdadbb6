//! The pins of plugins: for each, a file beside the versions that are kept, with the digests of the version that the
//! operator pinned.

use crate::{
    base::directory::{self, remove_file_at},
    plugin::release::ReleaseDigests,
};
use plugind_artifact::hex::parse_digest;
use rustix::{fs::fsync, io::Errno};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
};

/// The name of the file. No version has such a name.
pub(super) const PINNED: &str = "pinned";
/// The file is written under this name, and renamed when it is complete.
const INCOMPLETE: &str = ".pinned";
/// The two digests with the character between them, in bytes.
const LENGTH: u64 = 129;

/// The version that is pinned below this directory, if one is.
pub(super) fn read(directory: &Path) -> io::Result<Option<ReleaseDigests>> {
    let path = directory.join(PINNED);
    let file = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // To open a pipe would wait for a writer.
        Ok(metadata) if !metadata.is_file() => return Err(not_a_file()),
        found => found.and_then(|_| File::open(path))?,
    };
    let mut text = String::new();
    file.take(LENGTH + 1).read_to_string(&mut text)?;
    let damaged = || io::Error::new(ErrorKind::InvalidData, "it must be two digests");
    parse(&text).map(Some).ok_or_else(damaged)
}

fn not_a_file() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "it must be a regular file")
}

fn parse(text: &str) -> Option<ReleaseDigests> {
    let (component, configuration) = text.split_once('-')?;
    let (component, configuration) = (parse_digest(component)?, parse_digest(configuration)?);
    Some(ReleaseDigests { component, configuration })
}

/// Pins this version.
pub(super) fn write(directory: &Path, digests: &ReleaseDigests) -> io::Result<()> {
    let incomplete = directory.join(INCOMPLETE);
    match fs::remove_file(&incomplete) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&incomplete)?;
    file.write_all(digests.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&incomplete, directory.join(PINNED))?;
    File::open(directory)?.sync_all()
}

/// Removes the pin. False if there is none.
pub(super) fn remove(directory: &Path) -> io::Result<bool> {
    match directory::open(directory) {
        // Without a directory there is no pin.
        Err(Errno::NOENT) => Ok(false),
        opened => remove_at(&opened?),
    }
}

/// The same in a directory that is open.
pub(super) fn remove_at(directory: &OwnedFd) -> io::Result<bool> {
    match remove_file_at(directory, PINNED) {
        Err(Errno::NOENT) => Ok(false),
        Ok(false) => Err(Errno::ISDIR.into()),
        removed => {
            removed?;
            fsync(directory)?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn a_pin_is_read_again_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let digests = ReleaseDigests { component: [0xa1; 32], configuration: [0x0b; 32] };
        assert_eq!(read(directory.path()).unwrap(), None);
        write(directory.path(), &digests).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(digests));
        assert!(remove(directory.path()).unwrap());
        assert_eq!(read(directory.path()).unwrap(), None);
        assert!(!remove(directory.path()).unwrap());
    }

    #[test]
    fn a_pipe_or_a_directory_in_the_place_of_a_pin_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let digests = ReleaseDigests { component: [0xa1; 32], configuration: [0x0b; 32] };
        for name in [PINNED, INCOMPLETE] {
            let path = directory.path().join(name);
            mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        }
        let error = read(directory.path()).unwrap_err();
        assert_eq!(error.to_string(), "it must be a regular file");
        // It is replaced by a pin, and one that was not finished is no obstacle.
        write(directory.path(), &digests).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(digests));
        assert!(remove(directory.path()).unwrap());
        fs::create_dir(directory.path().join(PINNED)).unwrap();
        let error = read(directory.path()).unwrap_err();
        assert_eq!(error.to_string(), "it must be a regular file");
        assert!(remove(directory.path()).is_err());
    }

    #[test]
    fn a_file_that_is_damaged_or_large_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "a-b", &"0".repeat(129), &"x".repeat(1 << 20)] {
            fs::write(directory.path().join(PINNED), text).unwrap();
            let error = read(directory.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text:.20}");
        }
    }
}
