//! The files that the daemon keeps for one plugin: the directory of its state, and its key-value store.

use crate::base::name::PluginName;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the files of key-value stores are, below the directory of all states. No plugin has this name.
pub const STORES: &str = ".keyvalue";
/// The most files and directories of one plugin that are counted. The size of one with more is not known.
const ENTRIES_MAX: usize = 50_000;
/// The same, for the size that is compared with a limit.
const LIMITED_ENTRIES_MAX: usize = 1_000_000;
/// The most directories within each other that are counted.
const DEPTH_MAX: usize = 32;
/// Size of any file, directory or link besides its contents, where the size is compared with a limit: many that are empty
/// take space, too.
pub const ENTRY: u64 = 1 << 10;

/// The directory of a plugin's own, below the directory of all states.
#[must_use]
pub fn directory(state: &Path, plugin: &PluginName) -> PathBuf {
    state.join(plugin.as_str())
}

/// The file of a plugin's own store, below the directory of all states.
#[must_use]
pub fn own_store(state: &Path, plugin: &PluginName) -> PathBuf {
    state.join(STORES).join(own_store_name(plugin))
}

/// The name of that file.
#[must_use]
pub fn own_store_name(plugin: &PluginName) -> String {
    format!("plugin-{plugin}.redb")
}

/// The sizes of what is kept for a plugin, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// The size of its files; none, if there is no directory, or if it cannot be determined.
    pub files: Option<u64>,
    /// The size of its own store, if there is one.
    pub store: Option<u64>,
}

/// Measures what is kept for a plugin. Blocks.
#[must_use]
pub fn measure(state: &Path, plugin: &PluginName) -> StateSize {
    let store = fs::symlink_metadata(own_store(state, plugin)).ok();
    StateSize {
        files: size(&directory(state, plugin)),
        store: store.map(|metadata| metadata.len()),
    }
}

/// The size in bytes of the files below a directory; none, if it cannot be read, or has more entries or more
/// directories within each other than are counted. Links are not followed, and a file that disappears meanwhile is not
/// counted. Blocks.
#[must_use]
pub fn size(directory: &Path) -> Option<u64> {
    size_of(directory, ENTRIES_MAX, 0)
}

/// The same with [`ENTRY`] for each entry, and more entries are counted. Blocks.
#[must_use]
pub fn size_with_entries(directory: &Path) -> Option<u64> {
    size_of(directory, LIMITED_ENTRIES_MAX, ENTRY)
}

fn size_of(directory: &Path, entries_max: usize, entry: u64) -> Option<u64> {
    let mut left = entries_max;
    let size = size_within(directory, &mut left, DEPTH_MAX).ok().flatten()?;
    let entries = u64::try_from(entries_max - left).unwrap_or(u64::MAX);
    Some(size.saturating_add(entries.saturating_mul(entry)))
}

fn size_within(directory: &Path, left: &mut usize, depth: usize) -> io::Result<Option<u64>> {
    let mut size: u64 = 0;
    for entry in fs::read_dir(directory)? {
        let (Some(less), true) = (left.checked_sub(1), depth > 0) else { return Ok(None) };
        *left = less;
        let entry = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
        let Ok((metadata, entry)) = entry else { continue };
        let part = match metadata.is_dir() {
            false => metadata.len(),
            true => match size_within(&entry.path(), left, depth - 1) {
                Ok(Some(size)) => size,
                Ok(None) => return Ok(None),
                Err(_) => 0,
            },
        };
        size = size.saturating_add(part);
    }
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_of_all_directories_are_counted_up_to_a_number() {
        let state = tempfile::tempdir().unwrap();
        let below = state.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(state.path().join("one"), [0; 100]).unwrap();
        fs::write(below.join("two"), [0; 23]).unwrap();
        symlink("/", state.path().join("link")).unwrap();
        let link = u64::try_from("/".len()).unwrap();
        assert_eq!(size_of(state.path(), 5, 0), Some(123 + link));
        assert_eq!(size_of(state.path(), 5, 1000), Some(5123 + link));
        assert_eq!(size_of(state.path(), 4, 0), None);
        assert_eq!(size_of(&state.path().join("none"), 5, 0), None);
        let mut deep = state.path().join("deep");
        for _ in 0..DEPTH_MAX {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(size_of(state.path(), 100, 0), None);
    }
}
