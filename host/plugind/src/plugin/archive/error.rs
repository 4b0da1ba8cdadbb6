//! Why a version is not kept, or cannot be used again.

use crate::{
    base::{file::FileError, quantity::Bytes},
    config::ListError,
};
use std::{io, path::PathBuf};

/// Why a version is not kept, or cannot be used again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// One of its files cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// Its manifest cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// Its component was replaced since it was verified.
    #[error("{} was replaced before it could be copied", .0.display())]
    Replaced(PathBuf),
    /// There is no room for it beside the last kept version of each plugin.
    #[error(
        "there is no room for its {size} bytes: all kept versions together must not exceed {}",
        Bytes(*max)
    )]
    TooLarge {
        /// Its size.
        size: u64,
        /// The largest size of all versions together.
        max: u64,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The stored files are the ones that were written, and this daemon refuses them.
    #[error("{0}")]
    Rejected(String),
    /// The stored version was changed.
    #[error("{} was changed: its digests do not match its name", .0.display())]
    Changed(PathBuf),
}

impl ArchiveError {
    /// Whether the stored files are not the ones that were written. Files that cannot be read now, or that only this
    /// build refuses, may be of use later.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}
