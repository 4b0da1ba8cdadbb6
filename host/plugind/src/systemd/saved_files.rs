//! States of plugins in files, from a daemon that ended because it was idle to the next one: with such an end, the
//! service is inactive, and systemd closes the files of its file descriptor store.

use crate::base::name::PluginName;
use rustix::fs::Mode;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use tracing::debug;

/// Its name in the state directory. No plugin has such a name.
const NAME: &str = ".saved";

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
        let entries = fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok);
        let open = |entry: fs::DirEntry| {
            let plugin = entry.file_name().to_str()?.parse().ok()?;
            Some((plugin, File::open(entry.path()).ok()?))
        };
        entries.filter_map(open).collect()
    }

    /// Writes the file of a plugin.
    pub(super) fn write(&self, plugin: &PluginName, state: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(Mode::RWXU.bits()).create(&self.0)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(state)?;
        file.persist(self.0.join(plugin.as_str()))?;
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
    use std::io::Read;

    #[test]
    fn what_was_written_is_found_until_it_is_removed() {
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
}
