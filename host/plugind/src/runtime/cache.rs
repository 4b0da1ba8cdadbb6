//! Compiled files, as the daemon sees them: found by their key, checked, and mapped; never written.

use crate::runtime::{
    engine::EngineKind,
    mapping::{self, MapError},
};
use plugind_artifact::entry::{Key, SealError, check_seal};
use rustix::fs::{FileType, Mode, OFlags, SealFlags, fcntl_get_seals};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};
use wasmtime::{Engine, component::Component};

/// The directory of compiled files, of which those count that were made for one kind of engine.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    kind: EngineKind,
}

/// Why a compiled file is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is none.
    #[error("there is no compiled file yet")]
    Absent,
    /// It cannot be opened.
    #[error("cannot open the compiled file")]
    Open(#[source] io::Error),
    /// It is not whole, or not the one that was asked for.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It has no name, and may still change.
    #[error("the compiled file is not sealed against changes")]
    Unsealed,
    /// The engine does not take it.
    #[error("the engine refuses the compiled file: {0}")]
    Refused(String),
    /// There is no room for an instance of it in the pool.
    #[error("{0}; split the component, or build it with fewer functions in its tables")]
    TooLarge(String),
    /// The system does not let it be run.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl Cache {
    /// The cache in this directory, which need not exist, for engines of this kind.
    #[must_use]
    pub fn new(directory: PathBuf, kind: EngineKind) -> Self {
        Self { directory, kind }
    }

    /// The kind of engine.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// Loads the component compiled under `key`.
    ///
    /// # Errors
    /// If there is no compiled file, or none that can be trusted. The component must then be compiled.
    pub fn load(&self, engine: &Engine, key: &Key) -> Result<Component, CacheError> {
        let path = self.directory.join(key.file_name());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(descriptor) => load(engine, key, descriptor),
            Err(rustix::io::Errno::NOENT) => Err(CacheError::Absent),
            Err(errno) => Err(CacheError::Open(errno.into())),
        }
    }
}

/// Loads the compiled file behind `descriptor`, which has no name and must be the one for `key`.
///
/// # Errors
/// When it is not, or is damaged, or was made for another engine, or can be changed.
pub fn load_unkept(
    engine: &Engine,
    key: &Key,
    descriptor: OwnedFd,
) -> Result<Component, CacheError> {
    match is_sealed(&descriptor) {
        true => load(engine, key, descriptor),
        false => Err(CacheError::Unsealed),
    }
}

/// Whether nobody can change this file any more, even if it is open for writing.
fn is_sealed(file: &OwnedFd) -> bool {
    let needed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(needed))
}

/// Loads the compiled file behind `descriptor`, which must be the one for `key`.
///
/// # Errors
/// When it is not, or is damaged, or was made for another engine.
pub fn load(engine: &Engine, key: &Key, descriptor: OwnedFd) -> Result<Component, CacheError> {
    let stat = rustix::fs::fstat(&descriptor).map_err(|errno| CacheError::Open(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(CacheError::Seal(SealError::Missing));
    }
    let mut file = File::from(descriptor);
    check_seal(key, &mut file)?;
    // By its descriptor, so that what was checked is what is mapped, whatever the name leads to by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "the one place where compiled code enters")]
    // SAFETY: the file is native code that plugind-compile made: it carries the seal of this very key, and cannot be
    // changed. Either the directory is writable by plugind-compile's user alone, and no writer changes a file that has
    // its name (they are written beside and renamed, mode 0444); or it has no name, was received from plugind-compile,
    // and is sealed by the kernel.
    let loaded = unsafe { Component::deserialize_file(engine, path) };
    let component = loaded.map_err(|error| refused(&format!("{error:#}")))?;
    Ok(mapping::make_executable(component, &file)?)
}

/// The engine's errors have no kinds, so this one is recognized by its text.
fn refused(error: &str) -> CacheError {
    match error.find("instance allocation for this ") {
        // Further lines are a breakdown in the engine's own terms.
        Some(start) => {
            let line = error[start..].lines().next().unwrap_or_default();
            CacheError::TooLarge(line.trim_end_matches(['\n', ';', ' ']).to_owned())
        }
        None => CacheError::Refused(error.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    #[test]
    fn a_file_without_a_name_must_be_sealed_against_every_change() {
        let create = || memfd_create("code", MemfdFlags::ALLOW_SEALING).unwrap();
        let all = [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW];
        for left_out in all {
            let file = create();
            for seal in all.into_iter().filter(|seal| *seal != left_out) {
                fcntl_add_seals(&file, seal).unwrap();
            }
            assert!(!is_sealed(&file), "{left_out:?}");
            fcntl_add_seals(&file, left_out).unwrap();
            assert!(is_sealed(&file));
        }
        assert!(!is_sealed(&tempfile::tempfile().unwrap().into()), "it can have no seals");
    }

    #[test]
    fn too_large_an_instance_is_not_taken_for_a_damaged_file() {
        let error = "module instance size does not fit in pooling allocator requirements: instance allocation for this \
                     module requires 9 bytes which exceeds the configured maximum of 8 bytes; breakdown of allocation \
                     requirement:\n\n * 99%";
        let shown = refused(error).to_string();
        assert!(
            shown.starts_with("instance allocation for this module requires 9 bytes"),
            "{shown}"
        );
        assert!(!shown.contains('\n'));
        assert!(matches!(
            refused("Module was compiled with another version"),
            CacheError::Refused(_)
        ));
    }
}
