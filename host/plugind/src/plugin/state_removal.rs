//! Removing the state of a plugin. Root does this in a directory that belongs to the user of the daemon, so everything
//! goes by descriptors of directories, and no link is followed.

use crate::{
    base::{directory, name::PluginName},
    plugin::state_files::{STORES, own_store_name},
};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, Uid, fchown, fstat, mkdirat, readlinkat, renameat,
        statat, unlinkat,
    },
    io::Errno,
    path::Arg,
};
use std::{
    ffi::CStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// State that is to be removed is moved here first, below the directory of all states. No plugin has this name.
const REMOVED: &str = ".removed";
/// The most attempts to use that directory while other processes remove it, since it is empty.
const ATTEMPTS_MAX: usize = 16;

/// Why state is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// An operator keeps it elsewhere.
    #[error("{} is a link to {target}, which stays; remove the data there and the link", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: String,
    },
    /// Something else has the name of a directory.
    #[error("{} must be a directory, not a link or a file; remove it", .0.display())]
    NotADirectory(PathBuf),
    /// The system refused it.
    #[error(transparent)]
    System(#[from] Errno),
}

/// State that no plugin has any more, and that takes up space until it is deleted.
#[derive(Debug)]
#[must_use]
pub struct DetachedState {
    parent: OwnedFd,
    removed: OwnedFd,
}

/// Takes its directory and its own store from a plugin that nothing uses. None if it had neither. The directory of all
/// states must be locked; what follows needs no lock. Blocks.
///
/// # Errors
/// When something is a link or cannot be moved. The plugin then has either all of a directory or nothing of it.
pub fn detach(state: &Path, plugin: &PluginName) -> Result<Option<DetachedState>, RemovalError> {
    let parent = match directory::open(state) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let all = StateEntry { parent: &parent, path: state.join(STORES), name: STORES };
    let stores = all.exists()?.then(|| all.open()).transpose()?;
    let name = own_store_name(plugin);
    let stored = stores.iter().map(|stores| StateEntry {
        parent: stores,
        path: all.path.join(&name),
        name: &name,
    });
    let files =
        StateEntry { parent: &parent, path: state.join(plugin.as_str()), name: plugin.as_str() };
    let mut found = Vec::new();
    for entry in [files].into_iter().chain(stored) {
        if entry.exists()? {
            found.push(entry);
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut removed = open_removed(state, &parent)?;
    for entry in &found {
        entry.move_out(state, &parent, &mut removed)?;
    }
    drop(found);
    drop(stores);
    Ok(Some(DetachedState { parent, removed }))
}

impl DetachedState {
    /// Deletes it, and the rest of removals that were interrupted. Other processes may do so as well. Blocks.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub fn delete(self) -> Result<(), RemovalError> {
        empty(&self.removed)?;
        match unlinkat(&self.parent, REMOVED, AtFlags::REMOVEDIR) {
            // Another process uses it, and removes it.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Something below the directory of all states.
struct StateEntry<'a> {
    parent: &'a OwnedFd,
    path: PathBuf,
    name: &'a str,
}

impl StateEntry<'_> {
    /// Whether it exists. A link is an error.
    fn exists(&self) -> Result<bool, RemovalError> {
        let stat = match statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(true);
        }
        let target = readlinkat(self.parent, self.name, Vec::new())?;
        let target = target.to_string_lossy().into_owned();
        Err(RemovalError::Link { path: self.path.clone(), target })
    }

    fn open(&self) -> Result<OwnedFd, RemovalError> {
        directory::open_at(self.parent, self.name).map_err(|error| match error {
            Errno::NOTDIR => RemovalError::NotADirectory(self.path.clone()),
            error => RemovalError::System(error),
        })
    }

    fn move_out(
        &self,
        state: &Path,
        parent: &OwnedFd,
        removed: &mut OwnedFd,
    ) -> Result<(), RemovalError> {
        for _ in 0..ATTEMPTS_MAX {
            match move_into(removed, self.parent, self.name) {
                Err(Errno::NOENT) if !self.exists()? => return Ok(()),
                // Another process has removed it, since it was empty.
                Err(Errno::NOENT) => *removed = open_removed(state, parent)?,
                moved => return Ok(moved?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

/// Opens the directory of what is to be deleted, and makes it if it is missing.
fn open_removed(state: &Path, parent: &OwnedFd) -> Result<OwnedFd, RemovalError> {
    let removed = StateEntry { parent, path: state.join(REMOVED), name: REMOVED };
    for _ in 0..ATTEMPTS_MAX {
        let is_new = match mkdirat(parent, REMOVED, Mode::RWXU) {
            Err(Errno::EXIST) => false,
            made => made.map(|()| true)?,
        };
        match removed.open() {
            // Another process has removed it, since it was empty.
            Err(RemovalError::System(Errno::NOENT)) => continue,
            Ok(opened) if is_new => {
                give_to_owner(parent, &opened)?;
                return Ok(opened);
            }
            opened => return opened,
        }
    }
    Err(Errno::AGAIN.into())
}

/// Gives a new directory to the owner of its parent: the daemon continues a removal of root that is interrupted.
fn give_to_owner(parent: &OwnedFd, new: &OwnedFd) -> Result<(), Errno> {
    let (parent, own) = (fstat(parent)?, fstat(new)?);
    // A directory with contents is not the new one: it was put in its place.
    if parent.st_uid != own.st_uid && entries(new)?.next().is_none() {
        let (user, group) = (Uid::from_raw(parent.st_uid), Gid::from_raw(parent.st_gid));
        // Without this right the directory stays with this user, who removes it in the end.
        fchown(new, Some(user), Some(group)).ok();
    }
    Ok(())
}

/// The entries of a directory.
fn entries(
    directory: &OwnedFd,
) -> Result<impl Iterator<Item = Result<rustix::fs::DirEntry, Errno>>, Errno> {
    let is_entry = |name: &CStr| name != c"." && name != c"..";
    let listed = Dir::read_from(directory)?;
    Ok(listed.filter(move |entry| entry.as_ref().map_or(true, |it| is_entry(it.file_name()))))
}

/// Removes everything in a directory. A plugin can nest directories without limit, so each directory is moved to the top
/// before its own contents are removed: neither the stack nor the number of open files depends on the depth.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    loop {
        let mut is_empty = true;
        for entry in entries(top)? {
            is_empty = false;
            let entry = entry?;
            // Another process may remove the same.
            match directory::remove_file_at(top, entry.file_name()) {
                Ok(true) | Err(Errno::NOENT) => (),
                Ok(false) => match remove_flat(top, entry.file_name()) {
                    Err(Errno::NOENT) => (),
                    removed => removed?,
                },
                Err(error) => return Err(error),
            }
        }
        if is_empty {
            return Ok(());
        }
    }
}

/// Removes a directory after its directories were moved to the top.
fn remove_flat(top: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let directory = directory::open_at(top, name)?;
    for below in entries(&directory)? {
        let below = below?;
        let removed = match directory::remove_file_at(&directory, below.file_name()) {
            Ok(false) => move_into(top, &directory, below.file_name()),
            removed => removed.map(|_| ()),
        };
        match removed {
            Err(Errno::NOENT) => (),
            removed => removed?,
        }
    }
    unlinkat(top, name, AtFlags::REMOVEDIR)
}

/// Moves an entry of a directory into `top`, under a name that no other has.
fn move_into(top: &OwnedFd, from: &OwnedFd, name: impl Arg + Copy) -> Result<(), Errno> {
    static MOVED: AtomicU64 = AtomicU64::new(0);
    loop {
        let target = format!("{}-{}", process::id(), MOVED.fetch_add(1, Relaxed));
        match renameat(from, name, top, target) {
            // The rest of another removal has this name.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => (),
            moved => return moved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::state_files::{StateSize, directory as directory_of, measure, own_store};
    use std::{
        fs,
        os::unix::fs::{MetadataExt, chown, symlink},
    };
    use tempfile::TempDir;

    fn remove(state: &Path, plugin: &PluginName) -> Result<bool, RemovalError> {
        let detached = detach(state, plugin)?;
        let had_state = detached.is_some();
        detached.map_or(Ok(()), DetachedState::delete)?;
        Ok(had_state)
    }

    /// A directory of states with one plugin that has a file, and a directory outside.
    fn with_outside() -> (TempDir, PathBuf, PluginName, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (state, outside) = (root.path().join("state"), root.path().join("outside"));
        let plugin: PluginName = "a".parse().unwrap();
        fs::create_dir_all(directory_of(&state, &plugin)).unwrap();
        fs::write(directory_of(&state, &plugin).join("file"), "inside").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "outside").unwrap();
        fs::write(outside.join(own_store_name(&plugin)), "outside").unwrap();
        (root, state, plugin, outside)
    }

    #[test]
    fn only_what_belongs_to_the_plugin_is_measured_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path();
        let [one, other]: [PluginName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        fs::create_dir(state.join(STORES)).unwrap();
        fs::write(root.path().join("outside"), "outside").unwrap();
        for plugin in [&one, &other] {
            fs::create_dir_all(directory_of(state, plugin).join("below")).unwrap();
            fs::write(directory_of(state, plugin).join("below/file"), [0; 7]).unwrap();
            fs::write(own_store(state, plugin), [0; 11]).unwrap();
        }
        symlink(root.path(), directory_of(state, &one).join("link")).unwrap();
        let link = root.path().as_os_str().len() as u64;
        let size = StateSize { files: Some(7 + link), store: Some(11) };
        assert_eq!(measure(state, &one), size);
        assert!(remove(state, &one).unwrap());
        assert_eq!(measure(state, &one), StateSize::default());
        assert!(!remove(state, &one).unwrap());
        assert_eq!(measure(state, &other), StateSize { files: Some(7), store: Some(11) });
        assert!(root.path().join("outside").exists() && !state.join(REMOVED).exists());
        assert!(!remove(&state.join("none"), &one).unwrap());
    }

    #[test]
    fn directories_are_removed_however_deep_they_are() {
        let root = tempfile::tempdir().unwrap();
        let plugin: PluginName = "a".parse().unwrap();
        // The rest of a removal that was interrupted is no obstacle.
        let rest = format!("{REMOVED}/{}-0/below", process::id());
        fs::create_dir_all(root.path().join(rest)).unwrap();
        let path = directory_of(root.path(), &plugin);
        fs::create_dir(&path).unwrap();
        let mut deepest = directory::open(&path).unwrap();
        for _ in 0..5_000 {
            mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            deepest = directory::open_at(&deepest, "d").unwrap();
        }
        assert!(remove(root.path(), &plugin).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_or_file_in_the_place_of_removed_state_is_refused() {
        let (_root, state, plugin, outside) = with_outside();
        let removed = state.join(REMOVED);
        symlink(&outside, &removed).unwrap();
        let refused = remove(&state, &plugin).unwrap_err().to_string();
        let why = "must be a directory, not a link or a file; remove it";
        assert_eq!(refused, format!("{} {why}", removed.display()));
        fs::remove_file(&removed).unwrap();
        fs::write(&removed, "").unwrap();
        assert!(matches!(remove(&state, &plugin), Err(RemovalError::NotADirectory(_))));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
        assert!(directory_of(&state, &plugin).join("file").exists());
    }

    #[test]
    fn links_in_removed_state_are_removed_without_their_targets() {
        let (_root, state, plugin, outside) = with_outside();
        fs::create_dir_all(state.join(REMOVED).join("below")).unwrap();
        for link in [REMOVED, ".removed/below", plugin.as_str()] {
            symlink(&outside, state.join(link).join("link")).unwrap();
        }
        assert!(remove(&state, &plugin).unwrap());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn state_that_is_kept_elsewhere_by_a_link_is_refused_with_its_target() {
        let (_root, state, plugin, outside) = with_outside();
        for linked in [STORES.into(), format!("{STORES}/plugin-a.redb"), "a".to_owned()] {
            let path = state.join(linked);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::remove_dir_all(&path).ok();
            symlink(&outside, &path).unwrap();
            let refused = remove(&state, &plugin).unwrap_err().to_string();
            let why = format!("{} is a link to {}, which stays", path.display(), outside.display());
            assert!(refused.starts_with(&why), "{refused}");
            assert!(directory_of(&state, &plugin).join("file").exists());
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
    }

    #[test]
    fn state_that_a_plugin_gets_while_its_old_one_is_deleted_stays() {
        let (_root, state, plugin, _outside) = with_outside();
        let detached = detach(&state, &plugin).unwrap().unwrap();
        let path = directory_of(&state, &plugin);
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        // Two removals at a time do not disturb each other.
        let other = detach(&state, &plugin).unwrap().unwrap();
        fs::create_dir(&path).unwrap();
        detached.delete().unwrap();
        other.delete().unwrap();
        assert!(path.exists() && !state.join(REMOVED).exists());
    }

    #[test]
    fn a_directory_for_removed_state_belongs_to_the_owner_of_all_states() {
        let (_root, state, plugin, _outside) = with_outside();
        // Only root can give it away. For another user the owner is the same anyway.
        chown(&state, Some(65_534), Some(65_534)).ok();
        let detached = detach(&state, &plugin).unwrap().unwrap();
        let owners = [&state, &state.join(REMOVED)].map(|it| fs::metadata(it).unwrap().uid());
        assert_eq!(owners[0], owners[1]);
        detached.delete().unwrap();
        assert!(!state.join(REMOVED).exists());
    }
}
