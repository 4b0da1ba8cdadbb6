//! Compiled files, as the daemon sees them: found by their key, checked, and mapped; never written.

use crate::runtime::{
    engine::EngineKind,
    mapping::{self, MapError},
};
use plugind_artifact::entry::{Key, SealError, check_seal};
use rustix::{
    fs::{FileType, Mode, OFlags, SealFlags, fcntl_get_seals},
    io::Errno,
};
use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    time::Duration,
};
use wasmtime::{Engine, component::Component};

/// The way a compiled file is opened by its name.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
/// Time without use after which a file of the service is read by the service.
const REFRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The directory of compiled files, of which those count that were made for one kind of engine.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    kind: EngineKind,
    access: CacheAccess,
}

/// The access to the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheAccess {
    /// The compiler is a child process, which has the rights of this one.
    Shared,
    /// The compiler is a service, and its directory can be read here.
    ReadOnly,
    /// The compiler is a service, which hands over every file.
    None,
}

/// Why a compiled file is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is none.
    #[error("there is no compiled file yet")]
    Absent,
    /// Only the compiler knows whether there is one, or only the compiler may read it.
    #[error("only the compiler has access to the compiled file")]
    OfCompiler,
    /// Somebody may change it.
    #[error("the compiled file has write permissions")]
    Writable,
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
        Self { directory, kind, access: CacheAccess::Shared }
    }

    /// The cache of a service, which this process only reads, if it is given and can be read.
    #[must_use]
    pub fn of_service(directory: Option<PathBuf>, kind: EngineKind) -> Self {
        let access = directory.as_ref().map_or(CacheAccess::None, |_| CacheAccess::ReadOnly);
        Self { directory: directory.unwrap_or_default(), kind, access }
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
        match self.access {
            CacheAccess::Shared => self.load_shared(engine, key),
            // The mount of the service may allow what the one here does not.
            CacheAccess::ReadOnly => match self.load_read_only(engine, key) {
                Err(CacheError::Map(_)) => Err(CacheError::OfCompiler),
                loaded => loaded,
            },
            CacheAccess::None => Err(CacheError::OfCompiler),
        }
    }

    fn load_shared(&self, engine: &Engine, key: &Key) -> Result<Component, CacheError> {
        match rustix::fs::open(self.directory.join(key.file_name()), FILE, Mode::empty()) {
            Ok(descriptor) => load(engine, key, descriptor),
            Err(Errno::NOENT) => Err(CacheError::Absent),
            Err(errno) => Err(CacheError::Open(errno.into())),
        }
    }

    fn load_read_only(&self, engine: &Engine, key: &Key) -> Result<Component, CacheError> {
        let of_compiler = |_| CacheError::OfCompiler;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty());
        let directory = File::from(directory.map_err(of_compiler)?);
        let file = match rustix::fs::openat(&directory, key.file_name(), FILE, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(CacheError::Absent),
            Err(_) => return Err(CacheError::OfCompiler),
        };
        let metadata = |file: &File| file.metadata().map_err(|_| CacheError::OfCompiler);
        let (of_directory, of_file) = (metadata(&directory)?, metadata(&file)?);
        let writers = (of_directory.mode(), of_directory.uid(), of_file.uid());
        if !is_of_owner(writers) || is_unused_for_long(&of_file) {
            return Err(CacheError::OfCompiler);
        }
        load(engine, key, file.into())
    }
}

/// Whether only root and the owner of a directory can have put a file into it, and one of the two owns the file. The
/// parameters are the mode and the owner of the directory, and the owner of the file.
fn is_of_owner((mode, owner, of_file): (u32, u32, u32)) -> bool {
    mode & 0o022 == 0 && (of_file == owner || of_file == 0)
}

/// Whether the compiler should learn that a file is still used, by having to read it: reading it here does not change
/// its times, because it is mounted read-only, and the compiler removes files that were not used for 30 days.
fn is_unused_for_long(file: &Metadata) -> bool {
    let times = [file.modified(), file.accessed()].into_iter().flatten();
    times.max().is_none_or(|latest| latest.elapsed().is_ok_and(|unused| unused > REFRESH))
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
    // The compiler gives its files no permission to write, so this one is of somebody else, or can still change.
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WUSR | Mode::WGRP | Mode::WOTH) {
        return Err(CacheError::Writable);
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
    fn a_file_in_a_directory_of_the_service_must_be_of_the_directorys_owner_or_root() {
        for (mode, owner, of_file, expected) in [
            (0o40711, 1000, 1000, true),
            (0o40755, 1000, 0, true),
            (0o40711, 1000, 1001, false),
            (0o40711, 0, 1000, false),
            (0o40731, 1000, 1000, false),
            (0o41777, 1000, 1000, false),
        ] {
            assert_eq!(is_of_owner((mode, owner, of_file)), expected, "{mode:o} {owner} {of_file}");
        }
    }

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
