//! One version that is kept, and how it is read again.

use crate::{
    base::{
        file::{self, FileError},
        limits::ComponentLimits,
        name::PluginName,
    },
    config::list_drop_ins,
    plugin::{
        archive::{
            error::ArchiveError,
            files::{component, drop_ins, entries, entry_name},
        },
        release::ReleaseDigests,
        scan::scan_one,
        verify::{COMPONENT_MAX, MANIFEST_MAX, Verified, verify},
    },
};
use plugind_artifact::hex::parse_digest;
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// One version that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedVersion {
    /// The plugin.
    pub name: PluginName,
    /// The digests of its contents.
    pub digests: ReleaseDigests,
    pub(super) sequence: u64,
    pub(super) directory: PathBuf,
    pub(super) size: u64,
}

impl ArchivedVersion {
    pub(super) fn parse(name: &PluginName, entry: &str, path: &Path) -> Option<Self> {
        let mut parts = entry.split('-');
        let sequence = u64::from_str_radix(parts.next()?, 16).ok()?;
        let component = parse_digest(parts.next()?)?;
        let configuration = parse_digest(parts.next()?)?;
        let digests = ReleaseDigests { component, configuration };
        let is_whole = entry == entry_name(sequence, &digests);
        let files = [path.to_owned(), drop_ins(path, name)];
        let sizes = files.iter().flat_map(|directory| entries(directory).unwrap_or_default());
        let sizes = sizes.filter_map(|(_, file)| fs::symlink_metadata(file).ok());
        let size = sizes.filter(fs::Metadata::is_file).map(|file| file.len()).sum();
        let (name, directory) = (name.clone(), path.to_owned());
        is_whole.then_some(Self { name, digests, sequence, directory, size })
    }

    /// Reads and verifies it. Blocks.
    ///
    /// # Errors
    /// When its files were changed or cannot be read, or this daemon refuses it.
    pub fn load(&self) -> Result<Verified, ArchiveError> {
        let changed = || ArchiveError::Changed(self.directory.clone());
        // Before it is verified, so that a version which only this build refuses does not count as damaged.
        if self.stored_digests()? != self.digests {
            return Err(changed());
        }
        let component = component(&self.directory, &self.name);
        let found = scan_one(self.name.clone(), &component).found.pop().ok_or_else(changed)?;
        // It was within the limits when it served. If they were lowered since, the engine refuses it.
        let verified = verify(found, &ComponentLimits::MAX)
            .map_err(|rejected| ArchiveError::Rejected(rejected.lines().join("; ")))?;
        match verified.release().digests() == self.digests {
            true => Ok(verified),
            false => Err(changed()),
        }
    }

    /// The digests of its files as they are now.
    fn stored_digests(&self) -> Result<ReleaseDigests, ArchiveError> {
        let component = component(&self.directory, &self.name);
        let component = self.read(&component, COMPONENT_MAX)?;
        let texts = list_drop_ins(&[drop_ins(&self.directory, &self.name)])?;
        let texts = texts.iter().map(|path| self.read(path, MANIFEST_MAX));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        Ok(ReleaseDigests::new(Sha256::digest(component).into(), &texts))
    }

    /// Reads one of its files. A file that is missing or of another kind is a change; any other error may pass.
    fn read(&self, path: &Path, max: u64) -> Result<Vec<u8>, ArchiveError> {
        file::read(path, max).map_err(|error| match &error {
            FileError::Read { source, .. } if source.kind() == ErrorKind::NotFound => {
                ArchiveError::Changed(self.directory.clone())
            }
            error if !error.may_pass() => ArchiveError::Changed(self.directory.clone()),
            _ => error.into(),
        })
    }

    /// Whether this file is part of it.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.directory)
    }
}
