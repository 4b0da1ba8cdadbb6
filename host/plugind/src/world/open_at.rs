//! `open-at` of `wasi:filesystem`: only files and directories are opened, and so few that the daemon itself keeps
//! enough descriptors.
//!
//! The library opens whatever is there: a FIFO would make it wait for ever for a process at the other end, in one of
//! the few threads that the plugin has for files.

use crate::{
    base::descriptors,
    world::{
        host_state::HostState,
        limited_files::{entry_limit, room_for_entry},
        open_files::OpenFiles,
        replacing::replace,
        state_limit::{ReservedRoom, StateLimit},
    },
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::{fs::File, sync::Arc};
use tokio::task::spawn_blocking;
use wasmtime::{
    Result, StoreContextMut,
    component::{Accessor, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView},
    p2::bindings::filesystem::types::{self as p2, Host as _, HostDescriptor as _},
    p3::bindings::filesystem::types::{self as p3, HostDescriptorWithStore as _},
};

/// The interface of both versions, as the library links it.
const TYPES: [&str; 2] = ["wasi:filesystem/types@0.2.12", "wasi:filesystem/types@0.3.0"];
const OPEN_AT: &str = "[method]descriptor.open-at";

type Arguments02 =
    (Resource<Descriptor>, p2::PathFlags, String, p2::OpenFlags, p2::DescriptorFlags);
type Arguments03 =
    (Resource<Descriptor>, p3::PathFlags, String, p3::OpenFlags, p3::DescriptorFlags);

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    replace(to, |to| {
        to.instance(TYPES[0])?.func_wrap_async(OPEN_AT, |store, arguments: Arguments02| {
            Box::new(open_02(store, arguments))
        })?;
        to.instance(TYPES[1])?.func_wrap_concurrent(OPEN_AT, |store, arguments: Arguments03| {
            Box::pin(open_03(store, arguments))
        })
    })
}

async fn open_02(
    mut store: StoreContextMut<'_, HostState>,
    (directory, path_flags, path, open_flags, flags): Arguments02,
) -> Result<(Result<Resource<Descriptor>, p2::ErrorCode>,)> {
    let follow = path_flags.contains(p2::PathFlags::SYMLINK_FOLLOW);
    let found = directory_of(store.data_mut().ctx().table, &directory);
    let limit = entry_limit(store.data_mut(), &directory);
    let limit = limit.filter(|_| open_flags.contains(p2::OpenFlags::CREATE));
    let entry = look_at(found, &path, follow).await;
    let _room = match admit(entry, limit).await {
        Ok(room) => room,
        Err(NotOpened::Kind) => return Ok((Err(p2::ErrorCode::NotPermitted),)),
        Err(NotOpened::Full) => return Ok((Err(p2::ErrorCode::Quota),)),
    };
    let mut view = store.data_mut().filesystem();
    let opened = view.open_at(directory, path_flags, path, open_flags, flags).await;
    let opened = match opened {
        Err(error) => Err(view.convert_error_code(error)?),
        Ok(opened) => {
            let files = store.data().open_files();
            let table = store.data_mut().ctx().table;
            keep(table, &files, opened)?.ok_or(p2::ErrorCode::Quota)
        }
    };
    Ok((opened,))
}

async fn open_03(
    store: &Accessor<HostState>,
    (directory, path_flags, path, open_flags, flags): Arguments03,
) -> Result<(Result<Resource<Descriptor>, p3::ErrorCode>,)> {
    let follow = path_flags.contains(p3::PathFlags::SYMLINK_FOLLOW);
    let (found, limit) = store.with(|mut store| {
        let state = store.get();
        (directory_of(state.ctx().table, &directory), entry_limit(state, &directory))
    });
    let limit = limit.filter(|_| open_flags.contains(p3::OpenFlags::CREATE));
    let entry = look_at(found, &path, follow).await;
    let _room = match admit(entry, limit).await {
        Ok(room) => room,
        Err(NotOpened::Kind) => return Ok((Err(p3::ErrorCode::NotPermitted),)),
        Err(NotOpened::Full) => return Ok((Err(p3::ErrorCode::Quota),)),
    };
    let files = store.with_getter::<WasiFilesystem>(HostState::filesystem);
    let opened =
        WasiFilesystem::open_at(&files, directory, path_flags, path, open_flags, flags).await;
    let opened = match opened {
        Err(error) => Err(error.downcast()?),
        Ok(opened) => store
            .with(|mut store| {
                let files = store.get().open_files();
                keep(store.get().ctx().table, &files, opened)
            })?
            .ok_or(p3::ErrorCode::Quota),
    };
    Ok((opened,))
}

/// The directory behind a resource; without one, the library says what is wrong.
fn directory_of(table: &ResourceTable, resource: &Resource<Descriptor>) -> Option<Arc<File>> {
    match table.get(resource) {
        Ok(Descriptor::Dir(directory)) => Some(directory.dir.clone()),
        _ => None,
    }
}

/// Why nothing is opened.
enum NotOpened {
    /// Something else than a file or a directory is there.
    Kind,
    /// Nothing is there, and the state is full.
    Full,
}

/// Room for a file that is created, if a limit counts for it.
async fn admit(
    entry: FoundEntry,
    limit: Option<StateLimit>,
) -> std::result::Result<Option<ReservedRoom>, NotOpened> {
    match entry {
        FoundEntry::Other => Err(NotOpened::Kind),
        FoundEntry::FileOrDirectory => Ok(None),
        FoundEntry::Unseen => room_for_entry(limit, 0).await.map_err(|_| NotOpened::Full),
    }
}

/// The object at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoundEntry {
    /// A file, a directory, or a link that is not followed.
    FileOrDirectory,
    /// Nothing is there, or it cannot be seen: the library says so.
    Unseen,
    Other,
}

async fn look_at(directory: Option<Arc<File>>, path: &str, follow: bool) -> FoundEntry {
    let Some(directory) = directory else { return FoundEntry::Unseen };
    let path = path.to_owned();
    // It may block, on a file system of the network.
    spawn_blocking(move || entry_at(&directory, &path, follow)).await.unwrap_or(FoundEntry::Unseen)
}

fn entry_at(directory: &File, path: &str, follow: bool) -> FoundEntry {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follow);
    // It is looked at, not opened.
    let found = openat2(directory, path, flags, Mode::empty(), ResolveFlags::BENEATH);
    let kind = found.and_then(fstat).map(|found| FileType::from_raw_mode(found.st_mode));
    match kind {
        Ok(FileType::RegularFile | FileType::Directory | FileType::Symlink) => {
            FoundEntry::FileOrDirectory
        }
        Ok(_) => FoundEntry::Other,
        Err(_) => FoundEntry::Unseen,
    }
}

/// Keeps what was opened, unless the plugin has too many `files` open, or it takes one of the descriptors that are kept
/// for the daemon.
fn keep(
    table: &mut ResourceTable,
    files: &OpenFiles,
    opened: Resource<Descriptor>,
) -> Result<Option<Resource<Descriptor>>> {
    let file = match table.get(&opened)? {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    };
    if descriptors::is_reserved(file) || !files.admit(file) {
        table.delete(opened)?;
        return Ok(None);
    }
    Ok(Some(opened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine;
    use rustix::fs::mkfifoat;

    #[test]
    fn only_files_and_directories_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let directory = File::open(root.path()).unwrap();
        mkfifoat(&directory, "fifo", Mode::RWXU).unwrap();
        std::os::unix::fs::symlink("fifo", root.path().join("link")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        std::fs::create_dir(root.path().join("below")).unwrap();
        for (path, follow, entry) in [
            ("fifo", true, FoundEntry::Other),
            ("fifo", false, FoundEntry::Other),
            ("link", true, FoundEntry::Other),
            ("link", false, FoundEntry::FileOrDirectory),
            ("below/../fifo", true, FoundEntry::Other),
            ("file", true, FoundEntry::FileOrDirectory),
            ("below", true, FoundEntry::FileOrDirectory),
            ("none", true, FoundEntry::Unseen),
            ("../..", true, FoundEntry::Unseen),
        ] {
            assert_eq!(entry_at(&directory, path, follow), entry, "{path}");
        }
    }

    #[test]
    fn the_replaced_functions_are_those_that_the_library_links() {
        let engine = engine::plain(engine::EngineKind::Native).unwrap();
        let mut linker = Linker::new(&engine);
        for name in TYPES {
            let mut instance = linker.instance(name).unwrap();
            assert!(instance.func_wrap(OPEN_AT, |_, (): ()| Ok(())).is_ok());
        }
        let added = wasmtime_wasi::p2::bindings::filesystem::types::add_to_linker::<
            _,
            WasiFilesystem,
        >(&mut linker, HostState::filesystem);
        assert!(added.is_err(), "both have the same name");
        assert!(wasmtime_wasi::p3::filesystem::add_to_linker(&mut linker).is_err());
    }
}
