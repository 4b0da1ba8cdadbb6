//! The functions of `wasi:filesystem` 0.3 that can make the state grow, with its limit.

use crate::world::{
    host_state::HostState,
    limited_files::{LimitedFile, blocking, entry_limit, is_quota, limited_file, room_for_entry},
    replacing::replace,
    state_limit::FileGrowth,
};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};
use wasmtime::{
    AsContextMut, Result, StoreContextMut,
    component::{
        Access, Accessor, FutureReader, Linker, Resource, Source, StreamConsumer, StreamReader,
        StreamResult,
    },
};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView},
    p3::{
        bindings::filesystem::types::{ErrorCode, HostDescriptorWithStore as _, PathFlags},
        filesystem::FilesystemResult,
    },
};

const TYPES: &str = "wasi:filesystem/types@0.3.0";
/// The most bytes that are written at once.
const CHUNK_MAX: usize = 64 << 10;

type WriteEnd = std::result::Result<(), ErrorCode>;
type LinkAt03 = (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String);

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    replace(to, |to| link_files(to).and_then(|()| link_entries(to)))
}

fn link_files(to: &mut Linker<HostState>) -> Result<()> {
    let mut types = to.instance(TYPES)?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-size",
        |store: &Accessor<HostState>, arguments| Box::pin(set_size(store, arguments)),
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, HostState>,
         (file, data, at): (Resource<Descriptor>, StreamReader<u8>, u64)| {
            if let Some(limited) = limited_file(store.data_mut(), &file) {
                return Ok((write_limited(store, data, limited, Some(at))?,));
            }
            Ok((WasiFilesystem::write_via_stream(access(&mut store), file, data, at)?,))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, HostState>,
         (file, data): (Resource<Descriptor>, StreamReader<u8>)| {
            if let Some(limited) = limited_file(store.data_mut(), &file) {
                return Ok((write_limited(store, data, limited, None)?,));
            }
            Ok((WasiFilesystem::append_via_stream(access(&mut store), file, data)?,))
        },
    )
}

fn link_entries(to: &mut Linker<HostState>) -> Result<()> {
    let mut types = to.instance(TYPES)?;
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |store: &Accessor<HostState>, arguments| Box::pin(create_directory_at(store, arguments)),
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.symlink-at",
        |store: &Accessor<HostState>, arguments| Box::pin(symlink_at(store, arguments)),
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |store: &Accessor<HostState>, arguments| Box::pin(link_at(store, arguments)),
    )
}

fn access<'a>(
    store: &'a mut StoreContextMut<'_, HostState>,
) -> Access<'a, HostState, WasiFilesystem> {
    Access::<_, WasiFilesystem>::new(store.as_context_mut(), HostState::filesystem)
}

fn outcome<T>(result: FilesystemResult<T>) -> Result<(std::result::Result<T, ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

fn code(error: &io::Error) -> ErrorCode {
    if is_quota(error) { ErrorCode::Quota } else { ErrorCode::from(error) }
}

async fn set_size(
    store: &Accessor<HostState>,
    (file, size): (Resource<Descriptor>, u64),
) -> Result<(WriteEnd,)> {
    let limited = store.with(|mut store| limited_file(store.get(), &file));
    let _room = match limited {
        None => None,
        Some(LimitedFile { file, limit }) => {
            match blocking(move || limit.make_room_in(&file, FileGrowth::UpTo(size))).await {
                Ok(room) => Some(room),
                Err(error) => return Ok((Err(code(&error)),)),
            }
        }
    };
    let files = store.with_getter::<WasiFilesystem>(HostState::filesystem);
    outcome(WasiFilesystem::set_size(&files, file, size).await)
}

async fn create_directory_at(
    store: &Accessor<HostState>,
    (directory, path): (Resource<Descriptor>, String),
) -> Result<(WriteEnd,)> {
    let limit = store.with(|mut store| entry_limit(store.get(), &directory));
    let _room = match room_for_entry(limit, 0).await {
        Ok(room) => room,
        Err(error) => return Ok((Err(code(&error)),)),
    };
    let files = store.with_getter::<WasiFilesystem>(HostState::filesystem);
    outcome(WasiFilesystem::create_directory_at(&files, directory, path).await)
}

async fn symlink_at(
    store: &Accessor<HostState>,
    (directory, target, path): (Resource<Descriptor>, String, String),
) -> Result<(WriteEnd,)> {
    let limit = store.with(|mut store| entry_limit(store.get(), &directory));
    let _room = match room_for_entry(limit, target.len()).await {
        Ok(room) => room,
        Err(error) => return Ok((Err(code(&error)),)),
    };
    let files = store.with_getter::<WasiFilesystem>(HostState::filesystem);
    outcome(WasiFilesystem::symlink_at(&files, directory, target, path).await)
}

async fn link_at(
    store: &Accessor<HostState>,
    (directory, flags, path, to, new): LinkAt03,
) -> Result<(WriteEnd,)> {
    let limit = store.with(|mut store| entry_limit(store.get(), &to));
    let _room = match room_for_entry(limit, 0).await {
        Ok(room) => room,
        Err(error) => return Ok((Err(code(&error)),)),
    };
    let files = store.with_getter::<WasiFilesystem>(HostState::filesystem);
    outcome(WasiFilesystem::link_at(&files, directory, flags, path, to, new).await)
}

fn write_limited(
    mut store: StoreContextMut<'_, HostState>,
    data: StreamReader<u8>,
    limited: LimitedFile,
    position: Option<u64>,
) -> Result<FutureReader<WriteEnd>> {
    let (end, ended) = oneshot::channel();
    let writer = LimitedWriter { limited, position, end: Some(end), task: None };
    data.pipe(store.as_context_mut(), writer)?;
    FutureReader::new(store, ended)
}

/// Writes a stream to a file, as far as there is room.
struct LimitedWriter {
    limited: LimitedFile,
    /// Where it writes next; none: at the end of the file.
    position: Option<u64>,
    end: Option<oneshot::Sender<WriteEnd>>,
    task: Option<JoinHandle<io::Result<usize>>>,
}

impl LimitedWriter {
    fn close(&mut self, end: WriteEnd) {
        if let Some(sender) = self.end.take() {
            // The guest may not wait for it.
            sender.send(end).ok();
        }
    }

    fn written(&mut self, bytes: usize) -> StreamResult {
        let Some(position) = self.position else { return StreamResult::Completed };
        let next = u64::try_from(bytes).ok().and_then(|bytes| position.checked_add(bytes));
        match next {
            Some(next) => {
                self.position = Some(next);
                StreamResult::Completed
            }
            None => {
                self.close(Err(ErrorCode::Overflow));
                StreamResult::Dropped
            }
        }
    }
}

impl StreamConsumer<HostState> for LimitedWriter {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, HostState>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let writer = &mut *self;
        let task = writer.task.get_or_insert_with(|| {
            let waiting = source.remaining();
            let bytes = waiting[..waiting.len().min(CHUNK_MAX)].to_vec();
            let (limited, position) = (writer.limited.clone(), writer.position);
            spawn_blocking(move || write(&limited, &bytes, position))
        });
        let result = match Pin::new(&mut *task).poll(context) {
            // A write that has begun cannot be cancelled, and is waited for.
            Poll::Pending if finish => {
                task.abort();
                ready!(Pin::new(task).poll(context))
            }
            polled => ready!(polled),
        };
        self.task = None;
        match result {
            Ok(Ok(written)) => {
                source.mark_read(written);
                Poll::Ready(Ok(self.written(written)))
            }
            Ok(Err(error)) => {
                self.close(Err(code(&error)));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Err(error) if error.is_cancelled() => Poll::Ready(Ok(StreamResult::Cancelled)),
            Err(_) => {
                self.close(Err(ErrorCode::Io));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}

impl Drop for LimitedWriter {
    fn drop(&mut self) {
        self.close(Ok(()));
    }
}

fn write(limited: &LimitedFile, bytes: &[u8], position: Option<u64>) -> io::Result<usize> {
    let _room = limited.make_room(bytes.len(), position)?;
    let file: &File = &limited.file;
    match position {
        Some(position) => file.write_at(bytes, position),
        None => Ok(pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?),
    }
}
