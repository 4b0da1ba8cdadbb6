//! The functions of `wasi:filesystem` 0.2 that can make the state grow, with its limit.

use crate::world::{
    host_state::HostState,
    limited_files::{LimitedFile, blocking, entry_limit, is_quota, limited_file, room_for_entry},
    limited_stream::LimitedStream,
    replacing::replace,
    state_limit::FileGrowth,
};
use std::io;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystemView},
    p2::{
        DynOutputStream, FsResult,
        bindings::filesystem::types::{ErrorCode, Host as _, HostDescriptor as _, PathFlags},
    },
};

const TYPES: &str = "wasi:filesystem/types@0.2.12";

type FileOutcome<T> = Result<(std::result::Result<T, ErrorCode>,)>;
type LinkAt02 = (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String);

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    replace(to, |to| link_files(to).and_then(|()| link_entries(to)))
}

fn link_files(to: &mut Linker<HostState>) -> Result<()> {
    let mut types = to.instance(TYPES)?;
    types.func_wrap_async("[method]descriptor.write", |store, arguments| {
        Box::new(write(store, arguments))
    })?;
    types.func_wrap_async("[method]descriptor.set-size", |store, arguments| {
        Box::new(set_size(store, arguments))
    })?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, HostState>, (file, at): (Resource<Descriptor>, u64)| {
            let state = store.data_mut();
            let limited = limited_file(state, &file);
            let stream = state.filesystem().write_via_stream(file, at);
            limited_stream(state, limited, stream, Some(at))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, HostState>, (file,): (Resource<Descriptor>,)| {
            let state = store.data_mut();
            let limited = limited_file(state, &file);
            let stream = state.filesystem().append_via_stream(file);
            limited_stream(state, limited, stream, None)
        },
    )?;
    types.func_wrap(
        "filesystem-error-code",
        |mut store: StoreContextMut<'_, HostState>, (error,): (Resource<wasmtime::Error>,)| {
            let state = store.data_mut();
            let of_system = state.ctx().table.get(&error)?.downcast_ref::<io::Error>();
            if of_system.is_some_and(is_quota) {
                return Ok((Some(ErrorCode::Quota),));
            }
            Ok((state.filesystem().filesystem_error_code(error)?,))
        },
    )
}

fn link_entries(to: &mut Linker<HostState>) -> Result<()> {
    let mut types = to.instance(TYPES)?;
    types.func_wrap_async("[method]descriptor.create-directory-at", |store, arguments| {
        Box::new(create_directory_at(store, arguments))
    })?;
    types.func_wrap_async("[method]descriptor.symlink-at", |store, arguments| {
        Box::new(symlink_at(store, arguments))
    })?;
    types.func_wrap_async("[method]descriptor.link-at", |store, arguments| {
        Box::new(link_at(store, arguments))
    })
}

/// The result of the library as the guest sees it.
fn outcome<T>(state: &mut HostState, result: FsResult<T>) -> FileOutcome<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(state.filesystem().convert_error_code(error)?),
    },))
}

fn refused<T>(error: &io::Error) -> FileOutcome<T> {
    Ok((Err(if is_quota(error) { ErrorCode::Quota } else { ErrorCode::from(error) }),))
}

fn limited_stream(
    state: &mut HostState,
    limited: Option<LimitedFile>,
    stream: FsResult<Resource<DynOutputStream>>,
    position: Option<u64>,
) -> FileOutcome<Resource<DynOutputStream>> {
    let (Some(limited), Ok(_)) = (limited, &stream) else { return outcome(state, stream) };
    let (stream,) = outcome(state, stream)?;
    let table = state.ctx().table;
    Ok((match stream {
        Ok(stream) => {
            let stream = LimitedStream::new(table.delete(stream)?, limited, position);
            Ok(table.push(Box::new(stream) as DynOutputStream)?)
        }
        Err(error) => Err(error),
    },))
}

async fn write(
    mut store: StoreContextMut<'_, HostState>,
    (file, bytes, at): (Resource<Descriptor>, Vec<u8>, u64),
) -> FileOutcome<u64> {
    let _room = match limited_file(store.data_mut(), &file) {
        None => None,
        Some(limited) => match limited.room(bytes.len(), Some(at)).await {
            Ok(room) => Some(room),
            Err(error) => return refused(&error),
        },
    };
    let written = store.data_mut().filesystem().write(file, bytes, at).await;
    outcome(store.data_mut(), written)
}

async fn set_size(
    mut store: StoreContextMut<'_, HostState>,
    (file, size): (Resource<Descriptor>, u64),
) -> FileOutcome<()> {
    let _room = match limited_file(store.data_mut(), &file) {
        None => None,
        Some(LimitedFile { file, limit }) => {
            match blocking(move || limit.make_room_in(&file, FileGrowth::UpTo(size))).await {
                Ok(room) => Some(room),
                Err(error) => return refused(&error),
            }
        }
    };
    let set = store.data_mut().filesystem().set_size(file, size).await;
    outcome(store.data_mut(), set)
}

async fn create_directory_at(
    mut store: StoreContextMut<'_, HostState>,
    (directory, path): (Resource<Descriptor>, String),
) -> FileOutcome<()> {
    let limit = entry_limit(store.data_mut(), &directory);
    let _room = match room_for_entry(limit, 0).await {
        Ok(room) => room,
        Err(error) => return refused(&error),
    };
    let created = store.data_mut().filesystem().create_directory_at(directory, path).await;
    outcome(store.data_mut(), created)
}

async fn symlink_at(
    mut store: StoreContextMut<'_, HostState>,
    (directory, target, path): (Resource<Descriptor>, String, String),
) -> FileOutcome<()> {
    let limit = entry_limit(store.data_mut(), &directory);
    let _room = match room_for_entry(limit, target.len()).await {
        Ok(room) => room,
        Err(error) => return refused(&error),
    };
    let created = store.data_mut().filesystem().symlink_at(directory, target, path).await;
    outcome(store.data_mut(), created)
}

async fn link_at(
    mut store: StoreContextMut<'_, HostState>,
    (directory, flags, path, to, new): LinkAt02,
) -> FileOutcome<()> {
    let limit = entry_limit(store.data_mut(), &to);
    let _room = match room_for_entry(limit, 0).await {
        Ok(room) => room,
        Err(error) => return refused(&error),
    };
    let linked = store.data_mut().filesystem().link_at(directory, flags, path, to, new).await;
    outcome(store.data_mut(), linked)
}
