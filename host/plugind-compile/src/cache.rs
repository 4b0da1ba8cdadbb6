//! The cache on disk, as its only writer sees it: entries appear whole, are never changed, and go when unused.

use anyhow::{Context, anyhow};
use plugind_artifact::entry::{Key, seal};
use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    time::{Duration, SystemTime},
};

/// An entry that nobody read for this long is removed; it is made again when it is asked for.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// An incomplete file of this age has no writer any more: it is written only after its code has
/// been compiled.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// The entry for `key`, open for reading, if there is one. Its user checks whether it is whole.
pub(crate) fn open(cache: &Path, key: &Key) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(cache.join(key.file_name()), flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    // Its last use is known even where reading a file does not change its times. A cache may be read-only.
    let [now, unchanged] = [UTIME_NOW, UTIME_OMIT].map(|tv_nsec| Timespec { tv_sec: 0, tv_nsec });
    let times = Timestamps { last_access: now, last_modification: unchanged };
    rustix::fs::futimens(&file, &times).ok();
    Some(file)
}

/// Writes `code` under `key`, sealed, and hands back a read-only descriptor of it.
///
/// The entry appears by renaming, so a reader sees either the whole entry or an older one.
pub(crate) fn store(cache: &Path, key: &Key, code: &[u8]) -> anyhow::Result<OwnedFd> {
    let in_cache = || format!("cannot write to the cache {}", cache.display());
    DirBuilder::new().recursive(true).mode(0o755).create(cache).with_context(in_cache)?;

    let draft = cache.join(format!(".{key}.{}.part", std::process::id()));
    let entry = cache.join(key.file_name());
    let written =
        write(&draft, &[code, &seal(key, code)]).and_then(|()| fs::rename(&draft, &entry));
    if let Err(error) = written {
        // Best effort: what stays behind is swept later.
        fs::remove_file(&draft).ok();
        return Err(error).with_context(in_cache);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&entry, flags, Mode::empty()).with_context(in_cache)?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&file).with_context(in_cache)?.st_mode);
    if mode.intersects(Mode::WUSR | Mode::WGRP | Mode::WOTH) {
        return Err(anyhow!("its file system does not keep permissions").context(in_cache()));
    }
    Ok(file)
}

fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    // Readable by all, writable by none: the daemon runs as somebody else, and opens it again by its descriptor.
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()
}

/// Removes entries that were not used for long, and incomplete files of former writers.
pub(crate) fn sweep(cache: &Path) {
    // Nothing depends on this, so a file that cannot be removed stays.
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let age_max = match path.extension().and_then(|extension| extension.to_str()) {
            Some("cwasm") => UNUSED,
            Some("part") => ABANDONED,
            _ => continue,
        };
        if last_use(&path).is_some_and(|unused| unused > age_max) {
            fs::remove_file(&path).ok();
        }
    }
}

/// Returns the time since the file was last read or written, if the file system knows it.
fn last_use(path: &Path) -> Option<Duration> {
    let metadata = File::open(path).and_then(|file| file.metadata()).ok()?;
    let latest = metadata.modified().ok()?.max(metadata.accessed().ok()?);
    SystemTime::now().duration_since(latest).ok()
}
