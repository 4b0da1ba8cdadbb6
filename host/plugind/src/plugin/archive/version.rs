//! One version that is kept, and how it is read again.

use crate::{
    base::{limits::ComponentLimits, name::PluginName},
    plugin::{
        archive::{
            error::ArchiveError,
            files::{component, drop_ins, entries, entry_name},
        },
        release::ReleaseDigests,
        scan::scan_one,
        verify::{Verified, verify},
    },
};
use plugind_artifact::hex::parse_digest;
use std::{
    fs,
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
    /// When its files were changed, or this daemon refuses it.
    pub fn load(&self) -> Result<Verified, ArchiveError> {
        let component = component(&self.directory, &self.name);
        let found = scan_one(self.name.clone(), &component).found.pop();
        let found = found.ok_or_else(|| ArchiveError::Changed(self.directory.clone()))?;
        // It was within the limits when it served. If they were lowered since, the engine refuses it.
        let verified = verify(found, &ComponentLimits::MAX)
            .map_err(|rejected| ArchiveError::Rejected(rejected.lines().join("; ")))?;
        if verified.release().digests() != self.digests {
            return Err(ArchiveError::Changed(self.directory.clone()));
        }
        Ok(verified)
    }

    /// Whether this file is part of it.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.directory)
    }
}
