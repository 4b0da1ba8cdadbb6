//! The archive of the versions that served, in the state directory of the daemon. A start falls back to them.
//!
//! `.versions/PLUGIN/SEQUENCE-COMPONENT-CONFIGURATION/` is one of them. The later a version was the newest one that
//! served, the larger is its sequence number. The other two parts are the digests of its component and its
//! configuration. It is laid out like a directory of plugins, so it is read and verified like any other plugin, and its
//! digests are compared.

mod error;
mod files;
mod pins;
mod version;

pub use error::ArchiveError;
pub use version::ArchivedVersion;

use crate::{
    base::{
        directory::{self, open_at},
        name::PluginName,
    },
    plugin::{
        archive::{
            files::{
                entries, entry_name, is_directory, read_again, remove, rename, texts_size, write,
            },
            pins::PINNED,
        },
        release::{Release, ReleaseDigests},
    },
};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};
use tracing::warn;

/// Whether a plugin is pinned below this state directory, as far as that can be read. Blocks.
#[must_use]
pub fn is_pinned(state: &Path, name: &PluginName) -> bool {
    matches!(pins::read(&state.join(DIRECTORY).join(name.as_str())), Ok(Some(_)))
}

/// Removes the pin of a plugin below this state directory, which no daemon uses. False if there is none. Blocks.
///
/// Root does this in a directory that belongs to the user of the daemon, so everything goes by descriptors of directories,
/// and no link is followed.
///
/// # Errors
/// When it cannot be removed, or one of the directories is a link.
pub fn unpin(state: &Path, name: &PluginName) -> io::Result<bool> {
    let opened = match directory::open(state) {
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::NOTDIR) => {
            let why = format!("{} must be a directory", state.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, why));
        }
        opened => opened?,
    };
    match open_at(opened, DIRECTORY).and_then(|all| open_at(all, name.as_str())) {
        // Without a directory there is no pin.
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTDIR) => {
            let path = state.join(DIRECTORY).join(name.as_str());
            let why = format!(
                "{} and the directory above it must be directories, not links or files",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::NotADirectory, why))
        }
        opened => pins::remove_at(&opened?),
    }
}

/// The digests of the components of a plugin that are kept below this state directory, as far as it can be read. Blocks.
#[must_use]
pub fn components(state: &Path, name: &PluginName) -> Vec<[u8; 32]> {
    let listed = entries(&state.join(DIRECTORY).join(name.as_str())).unwrap_or_default();
    let versions = listed.iter().filter_map(|(it, path)| ArchivedVersion::parse(name, it, path));
    versions.map(|version| version.digests.component).collect()
}

/// Its directory below that of the state. No plugin has such a name.
const DIRECTORY: &str = ".versions";
/// The number of versions that are kept of each plugin.
const VERSIONS_MAX: usize = 2;
/// The largest size of all versions together, in bytes.
const SIZE_MAX: u64 = 1 << 30;

/// All versions that are kept. Every method blocks.
pub struct Archive {
    directory: PathBuf,
    size_max: u64,
    /// By rising sequence numbers.
    versions: BTreeMap<PluginName, Vec<ArchivedVersion>>,
    /// The versions that operators pinned.
    pins: BTreeMap<PluginName, ReleaseDigests>,
    /// Plugins whose pin cannot be read: any of their versions may be the pinned one.
    unreadable_pins: BTreeSet<PluginName>,
}

/// The versions that an earlier daemon has kept, for the case that the newest version of a plugin fails at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastGood {
    /// Nothing: a start has no version to fall back to.
    #[default]
    Nothing,
    /// Versions of other plugins only: if this plugin fails, the start leaves it out.
    Others,
    /// This version, which served last.
    Version(ReleaseDigests),
}

impl Archive {
    /// The versions that are kept below the state directory. What is incomplete there, or of another kind, is removed.
    /// What cannot be read stays, since it may be readable at the next start, and concerns only its plugin.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open(state: &Path) -> io::Result<Self> {
        let mut archive = Self {
            directory: state.join(DIRECTORY),
            size_max: SIZE_MAX,
            versions: BTreeMap::new(),
            pins: BTreeMap::new(),
            unreadable_pins: BTreeSet::new(),
        };
        for (plugin, path) in entries(&archive.directory)? {
            let name = plugin.parse::<PluginName>().ok().filter(|_| is_directory(&path));
            let Some(name) = name else {
                remove(&path);
                continue;
            };
            match pins::read(&path) {
                Ok(Some(digests)) => drop(archive.pins.insert(name.clone(), digests)),
                Ok(None) => (),
                Err(error) => {
                    let path = path.join(PINNED);
                    warn!(plugin = %name, path = %path.display(), %error, "cannot read pin");
                    archive.unreadable_pins.insert(name.clone());
                }
            }
            match versions_in(&name, &path) {
                Ok(versions) => drop(archive.versions.insert(name, versions)),
                Err(error) => {
                    warn!(plugin = %name, path = %path.display(), %error, "cannot read versions");
                }
            }
        }
        Ok(archive)
    }

    /// The version of each plugin that served last.
    #[must_use]
    pub fn last_good(&self) -> BTreeMap<PluginName, ArchivedVersion> {
        let last = self.versions.values().filter_map(|versions| versions.last());
        last.map(|version| (version.name.clone(), version.clone())).collect()
    }

    /// The newest version of a plugin that is another one than this.
    #[must_use]
    pub fn previous(&self, name: &PluginName, than: &ReleaseDigests) -> Option<&ArchivedVersion> {
        self.versions.get(name)?.iter().rev().find(|version| version.digests != *than)
    }

    /// The versions that operators pinned.
    #[must_use]
    pub fn pins(&self) -> &BTreeMap<PluginName, ReleaseDigests> {
        &self.pins
    }

    /// The pinned version of each plugin that has one; none if it is not kept any more.
    #[must_use]
    pub fn pinned(&self) -> BTreeMap<PluginName, Option<ArchivedVersion>> {
        let version = |(name, digests): (&PluginName, &ReleaseDigests)| {
            let versions = self.versions.get(name).into_iter().flatten();
            (name.clone(), versions.into_iter().find(|it| it.digests == *digests).cloned())
        };
        self.pins.iter().map(version).collect()
    }

    /// Pins a version that serves now, which is kept as long as it is pinned.
    ///
    /// # Errors
    /// When the version or the pin cannot be written; then nothing is pinned.
    pub fn pin(&mut self, release: &Release) -> Result<(), ArchiveError> {
        self.keep(release)?;
        let (directory, digests) = (self.directory.join(release.name.as_str()), release.digests());
        pins::write(&directory, &digests).map_err(|source| not_pinned(&directory, source))?;
        self.unreadable_pins.remove(&release.name);
        self.pins.insert(release.name.clone(), digests);
        Ok(())
    }

    /// Ends the pin of a plugin, if it has one.
    ///
    /// # Errors
    /// When it cannot be removed; then it stays.
    pub fn unpin(&mut self, name: &PluginName) -> Result<(), ArchiveError> {
        let directory = self.directory.join(name.as_str());
        pins::remove(&directory).map_err(|source| not_pinned(&directory, source))?;
        self.unreadable_pins.remove(name);
        self.pins.remove(name);
        Ok(())
    }

    /// Gives a plugin the pin that it had before, or none.
    ///
    /// # Errors
    /// When it cannot be written or removed.
    pub fn restore_pin(
        &mut self,
        name: &PluginName,
        before: Option<ReleaseDigests>,
    ) -> Result<(), ArchiveError> {
        let Some(digests) = before else { return self.unpin(name) };
        let directory = self.directory.join(name.as_str());
        pins::write(&directory, &digests).map_err(|source| not_pinned(&directory, source))?;
        self.pins.insert(name.clone(), digests);
        Ok(())
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps a version that serves now. Older ones make room for it.
    ///
    /// # Errors
    /// When it cannot be read again or written; then everything stays as it was.
    pub fn keep(&mut self, release: &Release) -> Result<(), ArchiveError> {
        let digests = release.digests();
        let known = self.versions.entry(release.name.clone()).or_default();
        if known.last().is_some_and(|last| last.digests == digests) {
            return Ok(());
        }
        let sequence = known.last().map_or(1, |last| last.sequence.saturating_add(1));
        let directory = self.directory.join(release.name.as_str());
        let target = directory.join(entry_name(sequence, &digests));
        let same = known.iter().position(|version| version.digests == digests);
        let size = match same {
            Some(nth) => {
                rename(&known[nth].directory, &target)?;
                known.remove(nth).size
            }
            None => {
                let bytes = read_again(release)?;
                let size = bytes.len() as u64 + texts_size(release);
                let outdated = self.outdated_by(&release.name, size)?;
                write(release, &bytes, &directory, &target)?;
                // No version is removed for one that cannot be written.
                outdated.iter().for_each(|version| self.remove_version(version));
                size
            }
        };
        let name = release.name.clone();
        let versions = self.versions.entry(name.clone()).or_default();
        versions.push(ArchivedVersion { name, digests, sequence, directory: target, size });
        while versions.len() > VERSIONS_MAX && !self.unreadable_pins.contains(&release.name) {
            remove(&versions.remove(0).directory);
        }
        Ok(())
    }

    /// Removes a version that is damaged. The others of its plugin stay, and so does its pin.
    pub fn discard(&mut self, version: &ArchivedVersion) {
        let path = version.directory.display();
        warn!(plugin = %version.name, %path, "damaged version removed");
        self.remove_version(version);
    }

    /// Removes all versions of a plugin, and its pin.
    pub fn remove(&mut self, name: &PluginName) {
        self.versions.remove(name);
        self.pins.remove(name);
        self.unreadable_pins.remove(name);
        remove(&self.directory.join(name.as_str()));
    }

    /// Removes all versions of all plugins but these.
    pub fn retain(&mut self, names: &BTreeSet<PluginName>) {
        let known = self.versions.keys().chain(self.pins.keys());
        let orphaned = known.filter(|name| !names.contains(name));
        for name in orphaned.cloned().collect::<BTreeSet<_>>() {
            self.remove(&name);
        }
    }

    /// The older versions, of `name` first, without which one of this size has room. The last good version of each
    /// plugin stays.
    fn outdated_by(
        &self,
        name: &PluginName,
        size: u64,
    ) -> Result<Vec<ArchivedVersion>, ArchiveError> {
        let known = self.versions.iter().filter(|(name, _)| !self.unreadable_pins.contains(*name));
        let (own, others): (Vec<_>, Vec<_>) = known.partition(|(other, _)| *other == name);
        let older =
            |versions: &[ArchivedVersion]| versions[..versions.len().saturating_sub(1)].to_vec();
        let mut candidates =
            own.into_iter().chain(others).flat_map(|(_, versions)| older(versions));
        let (mut left, mut outdated) = (self.size(), Vec::new());
        while left.saturating_add(size) > self.size_max {
            let version =
                candidates.next().ok_or(ArchiveError::TooLarge { size, max: self.size_max })?;
            left -= version.size;
            outdated.push(version);
        }
        Ok(outdated)
    }

    fn remove_version(&mut self, version: &ArchivedVersion) {
        if let Some(versions) = self.versions.get_mut(&version.name) {
            versions.retain(|other| other != version);
        }
        remove(&version.directory);
    }

    fn size(&self) -> u64 {
        self.versions.values().flatten().map(|version| version.size).sum()
    }
}

/// The versions of a plugin in its directory, by rising sequence numbers. Anything else in it is removed.
fn versions_in(name: &PluginName, directory: &Path) -> io::Result<Vec<ArchivedVersion>> {
    let mut versions = Vec::new();
    for (entry, path) in entries(directory)?.into_iter().filter(|(entry, _)| entry != PINNED) {
        match ArchivedVersion::parse(name, &entry, &path) {
            Some(version) => versions.push(version),
            None => remove(&path),
        }
    }
    versions.sort_by_key(|version| version.sequence);
    Ok(versions)
}

fn not_pinned(directory: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Write { path: directory.join(PINNED), source }
}

#[cfg(test)]
mod tests;
