//! The files and directories of a guest for which the limit of its state counts.

use crate::plugin::state_files::ENTRY;
use crate::world::{
    host_state::HostState,
    state_limit::{FileGrowth, ReservedRoom, StateLimit},
};
use rustix::io::Errno;
use std::{fs::File, io, sync::Arc};
use tokio::task::spawn_blocking;
use wasmtime::component::Resource;
use wasmtime_wasi::{WasiView, filesystem::Descriptor};

/// A file in a state with a limit.
#[derive(Clone)]
pub(super) struct LimitedFile {
    pub file: Arc<File>,
    pub limit: StateLimit,
}

/// The file behind a resource, if a limit applies to it: to every file that a guest may write to.
pub(super) fn limited_file(
    state: &mut HostState,
    resource: &Resource<Descriptor>,
) -> Option<LimitedFile> {
    let limit = state.state_limit()?.clone();
    match state.ctx().table.get(resource) {
        Ok(Descriptor::File(file)) if !file.perms.write_not_permitted() => {
            Some(LimitedFile { file: file.file.clone(), limit })
        }
        _ => None,
    }
}

/// The limit for entries of the directory behind a resource, if there is one.
pub(super) fn entry_limit(
    state: &mut HostState,
    resource: &Resource<Descriptor>,
) -> Option<StateLimit> {
    let limit = state.state_limit()?.clone();
    match state.ctx().table.get(resource) {
        Ok(Descriptor::Dir(directory)) if !directory.perms.write_not_permitted() => Some(limit),
        _ => None,
    }
}

/// Room for another file, directory or link, which has so many bytes already. None, if no limit counts.
///
/// # Errors
/// `EDQUOT`, if there is none.
pub(super) async fn room_for_entry(
    limit: Option<StateLimit>,
    bytes: usize,
) -> io::Result<Option<ReservedRoom>> {
    let Some(limit) = limit else { return Ok(None) };
    let bytes = ENTRY.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    if let Some(room) = limit.reserve(bytes) {
        return Ok(Some(room));
    }
    blocking(move || limit.make_room(bytes)).await.map(Some)
}

/// Runs this on a file thread of the plugin.
///
/// # Errors
/// Its own, and when it could not run.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(run).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Whether an error says that a limit was reached: that of the state, or one of the file system.
pub(super) fn is_quota(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::DQUOT.raw_os_error())
}

impl LimitedFile {
    /// Room for a write of so many bytes, if there seems to be some.
    pub(super) fn reserve(&self, length: usize) -> Option<ReservedRoom> {
        self.limit.reserve(u64::try_from(length).ok()?)
    }

    /// Room for a write of so many bytes; without a position, at the end of the file. Blocks.
    ///
    /// # Errors
    /// `EDQUOT`, if there is none, or that of the file.
    pub(super) fn make_room(
        &self,
        length: usize,
        position: Option<u64>,
    ) -> io::Result<ReservedRoom> {
        if let Some(room) = self.reserve(length) {
            return Ok(room);
        }
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let growth = position.map_or(FileGrowth::By(length), |position| {
            FileGrowth::UpTo(position.saturating_add(length))
        });
        self.limit.make_room_in(&self.file, growth)
    }

    /// As [`Self::make_room`], without blocking.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn room(
        &self,
        length: usize,
        position: Option<u64>,
    ) -> io::Result<ReservedRoom> {
        match self.reserve(length) {
            Some(room) => Ok(room),
            None => {
                let limited = self.clone();
                blocking(move || limited.make_room(length, position)).await
            }
        }
    }
}
