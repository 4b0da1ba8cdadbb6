//! The files that the daemon keeps for one plugin: the directory of its state, and its key-value store.

use crate::base::name::PluginName;
use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Where the files of key-value stores are, below the directory of all states. No plugin has this name.
pub const STORES: &str = ".keyvalue";
/// What is to be removed is moved here first, below the directory of all states. No plugin has this name.
const REMOVED: &str = ".removed";
/// Only the user of the daemon can read the state of plugins.
const PRIVATE: u32 = 0o700;
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
    state.join(STORES).join(format!("plugin-{plugin}.redb"))
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

/// The size in bytes of the files below a directory; none, if it cannot be read, or has more entries than are counted.
/// Links are not followed, and a file that disappears meanwhile is not counted. Blocks.
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

/// Removes the directory and the own store of a plugin that nothing uses. False if it had neither. Only one process may
/// do this at a time. Blocks.
///
/// # Errors
/// When something cannot be removed. The plugin then has either all of a directory or nothing of it.
pub fn remove(state: &Path, plugin: &PluginName) -> io::Result<bool> {
    let removed = state.join(REMOVED);
    let kept = [directory(state, plugin), own_store(state, plugin)];
    if !kept.iter().any(|path| path.symlink_metadata().is_ok()) {
        return Ok(false);
    }
    match DirBuilder::new().mode(PRIVATE).create(&removed) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        // An earlier removal was interrupted.
        Err(_) => empty(&removed)?,
        Ok(()) => (),
    }
    for (nth, path) in kept.iter().enumerate() {
        match fs::rename(path, removed.join(nth.to_string())) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => (),
        }
    }
    empty(&removed)?;
    fs::remove_dir(&removed)?;
    Ok(true)
}

/// Removes everything in a directory. A plugin can nest directories without limit, so each directory is moved to the top
/// before its own contents are removed: neither the stack nor the number of open files depends on the depth.
fn empty(top: &Path) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let mut is_empty = true;
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            is_empty = false;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for below in fs::read_dir(entry.path())? {
                let below = below?;
                match below.file_type()?.is_dir() {
                    true => move_up(&below.path(), top, &mut moved)?,
                    false => fs::remove_file(below.path())?,
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if is_empty {
            return Ok(());
        }
    }
}

/// Moves a directory into `top`, under a name that no other has.
fn move_up(directory: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let target = top.join(format!("moved-{moved}"));
        match fs::rename(directory, target) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory
                ) => {}
            renamed => return renamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
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

    #[test]
    fn only_what_belongs_to_the_plugin_is_measured_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path();
        let [one, other]: [PluginName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        fs::create_dir(state.join(STORES)).unwrap();
        fs::write(root.path().join("outside"), "outside").unwrap();
        for plugin in [&one, &other] {
            fs::create_dir_all(directory(state, plugin).join("below")).unwrap();
            fs::write(directory(state, plugin).join("below/file"), [0; 7]).unwrap();
            fs::write(own_store(state, plugin), [0; 11]).unwrap();
        }
        symlink(root.path(), directory(state, &one).join("link")).unwrap();
        let link = root.path().as_os_str().len() as u64;
        let size = StateSize { files: Some(7 + link), store: Some(11) };
        assert_eq!(measure(state, &one), size);
        assert!(remove(state, &one).unwrap());
        assert_eq!(measure(state, &one), StateSize::default());
        assert!(!remove(state, &one).unwrap());
        assert_eq!(measure(state, &other), StateSize { files: Some(7), store: Some(11) });
        assert!(root.path().join("outside").exists() && !state.join(REMOVED).exists());
    }

    #[test]
    fn directories_are_removed_however_deep_they_are() {
        let root = tempfile::tempdir().unwrap();
        let plugin: PluginName = "a".parse().unwrap();
        // The rest of a removal that was interrupted is no obstacle.
        fs::create_dir_all(root.path().join(REMOVED).join("moved-1/moved-2")).unwrap();
        let path = directory(root.path(), &plugin);
        fs::create_dir(&path).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut deepest = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        for _ in 0..5_000 {
            mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            deepest = openat(&deepest, "d", flags, Mode::empty()).unwrap();
        }
        assert!(remove(root.path(), &plugin).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
