//! The files of the versions that are kept: their names, and how they are written and removed.

use crate::{
    base::{file, name::PluginName},
    plugin::{
        archive::error::ArchiveError,
        release::{Release, ReleaseDigests},
        verify::COMPONENT_MAX,
    },
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A version is written under this name, and renamed when it is complete.
pub(super) const INCOMPLETE: &str = ".new";

pub(super) fn component(version: &Path, name: &PluginName) -> PathBuf {
    version.join(format!("{name}.wasm"))
}

pub(super) fn drop_ins(version: &Path, name: &PluginName) -> PathBuf {
    version.join(format!("{name}.toml.d"))
}

pub(super) fn entry_name(sequence: u64, digests: &ReleaseDigests) -> String {
    format!("{sequence:016x}-{digests}")
}

pub(super) fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_dir())
}

/// Returns the entries of a directory, which may not exist.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let entry = |entry: io::Result<fs::DirEntry>| {
        entry.map(|it| (it.file_name().to_string_lossy().into_owned(), it.path()))
    };
    listed.map(entry).collect()
}

pub(super) fn read_again(release: &Release) -> Result<Vec<u8>, ArchiveError> {
    let bytes = file::read(&release.path, COMPONENT_MAX)?;
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    match digest == release.digest {
        true => Ok(bytes),
        false => Err(ArchiveError::Replaced(release.path.clone())),
    }
}

pub(super) fn texts_size(release: &Release) -> u64 {
    release.texts.iter().map(|text| text.len() as u64).sum()
}

pub(super) fn write(
    release: &Release,
    bytes: &[u8],
    directory: &Path,
    target: &Path,
) -> Result<(), ArchiveError> {
    let incomplete = directory.join(INCOMPLETE);
    let written = write_incomplete(release, bytes, &incomplete);
    let renamed = written.and_then(|()| rename(&incomplete, target));
    // An incomplete version would occupy space that others need.
    renamed.inspect_err(|_| remove(&incomplete))
}

fn write_incomplete(
    release: &Release,
    bytes: &[u8],
    incomplete: &Path,
) -> Result<(), ArchiveError> {
    remove(incomplete);
    let drop_ins = drop_ins(incomplete, &release.name);
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| ArchiveError::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&drop_ins).map_err(failed(&drop_ins))?;
    let component = component(incomplete, &release.name);
    write_file(&component, bytes).map_err(failed(&component))?;
    for (nth, text) in release.texts.iter().enumerate() {
        let path = drop_ins.join(format!("{nth:04}.toml"));
        write_file(&path, text.as_bytes()).map_err(failed(&path))?;
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let renamed = fs::rename(from, to);
    let synced = renamed.and_then(|()| match to.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    });
    synced.map_err(|source| ArchiveError::Write { path: to.to_owned(), source })
}

/// A file that cannot be removed takes up space, and is found again at the next start.
pub(super) fn remove(path: &Path) {
    if is_directory(path) {
        drop(fs::remove_dir_all(path));
    } else {
        drop(fs::remove_file(path));
    }
}
