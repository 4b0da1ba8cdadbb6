//! States of plugins in files, from a daemon that ended because it was idle to the next one: with such an end, the
//! service is inactive, and systemd closes the files of its file descriptor store.

use crate::base::{
    directory::{open_at, remove_file_at},
    name::PluginName,
};
use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};
use std::{
    ffi::CStr,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};
use tracing::debug;

/// The name of their directory in the state directory. No plugin has such a name.
const NAME: &str = ".saved";

/// Whether this state directory has a file of a plugin, or something else that has its name or that of their directory.
/// Blocks.
#[must_use]
pub fn has_saved(state: &Path, plugin: &PluginName) -> bool {
    let directory = state.join(NAME);
    let is_other = directory.symlink_metadata().is_ok_and(|saved| !saved.is_dir());
    is_other || directory.join(plugin.as_str()).symlink_metadata().is_ok()
}

/// Removes the file of a plugin from this state directory, which must be locked. False if it has none. Links are not
/// followed. Blocks.
///
/// # Errors
/// When the file cannot be removed.
pub fn remove_saved(state: &Path, plugin: &PluginName) -> io::Result<bool> {
    let removed =
        open_at(CWD, state.join(NAME)).and_then(|saved| remove_file_at(saved, plugin.as_str()));
    match removed {
        Err(Errno::NOENT) => Ok(false),
        Ok(false) => Err(Errno::ISDIR.into()),
        removed => Ok(removed?),
    }
}

/// Opens a regular file. A pipe that nobody writes to does not hold up the start.
fn open_file(directory: &OwnedFd, name: &CStr) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let kind = FileType::from_raw_mode(fstat(&file).ok()?.st_mode);
    (kind == FileType::RegularFile).then(|| file.into())
}

/// The directory of these files.
#[derive(Debug)]
pub(super) struct SavedFiles(PathBuf);

impl SavedFiles {
    /// Those in this state directory.
    pub(super) fn of(state: &Path) -> Self {
        Self(state.join(NAME))
    }

    /// The files that were left, each open.
    pub(super) fn open(&self) -> Vec<(PluginName, File)> {
        let Ok(directory) = open_at(CWD, &self.0) else { return Vec::new() };
        let entries = Dir::read_from(&directory).into_iter().flatten().filter_map(Result::ok);
        let open = |entry: rustix::fs::DirEntry| {
            let plugin = entry.file_name().to_str().ok()?.parse().ok()?;
            Some((plugin, open_file(&directory, entry.file_name())?))
        };
        entries.filter_map(open).collect()
    }

    /// Writes the file of a plugin. It is whole or missing after a power failure.
    pub(super) fn write(&self, plugin: &PluginName, state: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(Mode::RWXU.bits()).create(&self.0)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(state)?;
        file.as_file().sync_all()?;
        file.persist(self.0.join(plugin.as_str()))?;
        let directories = [Some(&*self.0), self.0.parent()].into_iter().flatten();
        for directory in directories {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes all files. They must not be found when there are newer states.
    pub(super) fn remove(&self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                debug!(directory = %self.0.display(), %error, "cannot remove saved states");
            }
            Ok(()) | Err(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mknodat;
    use std::{io::Read, os::unix::fs::symlink};

    #[test]
    fn a_saved_file_is_found_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let files = SavedFiles::of(&directory.path().join("new"));
        assert!(files.open().is_empty());
        files.write(&"a".parse().unwrap(), b"one").unwrap();
        files.write(&"a".parse().unwrap(), b"two").unwrap();
        fs::write(files.0.join("Not a plugin"), "").unwrap();
        let [(plugin, file)] = &mut *files.open() else { panic!("there is one") };
        let mut state = String::new();
        file.read_to_string(&mut state).unwrap();
        assert_eq!((plugin.as_str(), &*state), ("a", "two"));
        files.remove();
        files.remove();
        assert!(files.open().is_empty());
    }

    #[test]
    fn only_regular_files_are_found_and_a_pipe_is_not_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let files = SavedFiles::of(state.path());
        files.write(&"file".parse().unwrap(), b"one").unwrap();
        fs::create_dir(files.0.join("directory")).unwrap();
        symlink(files.0.join("file"), files.0.join("link")).unwrap();
        mknodat(CWD, files.0.join("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let found: Vec<_> = files.open().into_iter().map(|(plugin, _)| plugin).collect();
        assert_eq!(found, ["file".parse().unwrap()]);
    }

    #[test]
    fn the_file_of_one_plugin_is_removed_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let [state, other] = ["state", "other"].map(|name| root.path().join(name));
        let [one, two]: [PluginName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        assert!(!remove_saved(&state, &one).unwrap());
        let files = SavedFiles::of(&state);
        for plugin in [&one, &two] {
            files.write(plugin, b"state").unwrap();
        }
        assert!(remove_saved(&state, &one).unwrap());
        assert!(!remove_saved(&state, &one).unwrap());
        fs::create_dir(&other).unwrap();
        symlink(&files.0, other.join(NAME)).unwrap();
        assert!(remove_saved(&other, &two).is_err());
        assert!(files.0.join("b").exists());
    }
}
