//! Core dumps of instances that failed, in the state directory of the daemon: few, and of bounded size.
//!
//! `.core-dumps/PLUGIN/TIME-GENERATION-WORKER.coredump` is one of them, with the time in milliseconds since 1970.

use crate::base::{name::PluginName, quantity::Bytes};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

/// Their directory below that of the state. No plugin has such a name.
const DIRECTORY: &str = ".core-dumps";
/// The end of a file's name, as tools for core dumps expect it.
const EXTENSION: &str = "coredump";
/// The number of core dumps that are kept of each plugin: the newest ones.
const DUMPS_MAX: usize = 5;
/// The largest size of the core dumps of all plugins together.
const SIZE_MAX: u64 = 256 << 20;
/// An instance with more memory is not dumped: the host needs as much again while it writes the dump.
const MEMORY_MAX: u64 = 64 << 20;
/// The minimum time between two core dumps of a plugin.
const INTERVAL: Duration = Duration::from_secs(60);

/// The core dumps of all plugins.
#[derive(Debug)]
pub struct CoreDumps {
    directory: PathBuf,
    /// When the last one of each plugin was begun.
    last: Mutex<BTreeMap<PluginName, Instant>>,
    /// One is being written.
    is_busy: AtomicBool,
}

/// The right to write one core dump: no other one is written until it is dropped.
#[derive(Debug)]
pub struct CoreDumpPermit(Arc<CoreDumps>);

impl Drop for CoreDumpPermit {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Release);
    }
}

/// Why an instance was not dumped.
#[derive(Debug, thiserror::Error)]
pub enum CoreDumpError {
    /// Its memory is too large.
    #[error("the instance uses {used} of memory; the most that is dumped is {max}", used = Bytes(*.0), max = Bytes(MEMORY_MAX))]
    TooLarge(u64),
    /// The runtime failed while it made the dump.
    #[error("the runtime cannot make it")]
    Runtime,
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl CoreDumps {
    /// The core dumps below the state directory, which is created when the first one is written.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        let directory = state.join(DIRECTORY);
        Self { directory, last: Mutex::default(), is_busy: AtomicBool::new(false) }
    }

    /// The right to write a core dump of `plugin` now; none if another one is being written, or if one of this plugin was
    /// written lately.
    #[must_use]
    pub fn begin(self: &Arc<Self>, plugin: &PluginName, now: Instant) -> Option<CoreDumpPermit> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Only dumps that are younger than the interval count, so plugins that were removed are forgotten as well.
        last.retain(|_, begun| now.saturating_duration_since(*begun) < INTERVAL);
        let Entry::Vacant(vacant) = last.entry(plugin.clone()) else { return None };
        if self.is_busy.swap(true, AcqRel) {
            return None;
        }
        vacant.insert(now);
        Some(CoreDumpPermit(self.clone()))
    }

    /// Whether an instance that uses so much memory is dumped.
    ///
    /// # Errors
    /// When it uses too much.
    pub fn check_size(used: usize) -> Result<(), CoreDumpError> {
        match used as u64 {
            used if used > MEMORY_MAX => Err(CoreDumpError::TooLarge(used)),
            _ => Ok(()),
        }
    }
}

impl CoreDumpPermit {
    /// Writes a core dump, and removes the oldest ones that are too many. Blocks. Memory may contain secrets, so only the
    /// user of the daemon may read it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(
        &self,
        plugin: &PluginName,
        generation: u64,
        worker: u32,
        dump: &[u8],
    ) -> Result<PathBuf, CoreDumpError> {
        let all = &self.0.directory;
        let directory = all.join(plugin.as_str());
        let cannot = |path: &Path| {
            let path = path.to_owned();
            move |source| CoreDumpError::Write { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(cannot(&directory))?;
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let path = directory.join(format!("{time}-{generation}-{worker}.{EXTENSION}"));
        create(&path, dump).map_err(cannot(&path))?;
        if let Err(error) = prune(all, &path, DUMPS_MAX, SIZE_MAX) {
            warn!(%plugin, directory = %all.display(), %error, "old core dumps not removed");
        }
        Ok(path)
    }
}

fn create(path: &Path, dump: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(dump).inspect_err(|_| {
        // A part of it is of no use, and takes room.
        fs::remove_file(path).ok();
    })
}

/// A core dump that is kept.
struct KeptDump {
    /// The time in its name.
    time: u64,
    size: u64,
    path: PathBuf,
}

/// Removes all but the newest core dumps of each plugin, and then the oldest ones until all together are small enough.
/// The clock may have gone back, so `newest` is the newest one, whatever the time in its name.
fn prune(all: &Path, newest: &Path, dumps_max: usize, size_max: u64) -> io::Result<()> {
    let age = |dump: &KeptDump| (dump.path == newest, dump.time);
    let mut kept = Vec::new();
    for plugin in entries(all)?.into_iter().filter(|it| it.is_dir()) {
        let mut dumps = dumps(&plugin)?;
        dumps.sort_by_key(age);
        let excess = dumps.len().saturating_sub(dumps_max);
        for dump in dumps.drain(..excess) {
            remove(&dump.path)?;
        }
        kept.extend(dumps);
    }
    kept.sort_by_key(age);
    let mut size: u64 = kept.iter().map(|dump| dump.size).sum();
    for dump in &kept {
        if size <= size_max {
            break;
        }
        remove(&dump.path)?;
        size -= dump.size;
    }
    Ok(())
}

/// Someone else may have removed it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The core dumps of one plugin. Other files that someone put there are not counted.
fn dumps(directory: &Path) -> io::Result<Vec<KeptDump>> {
    let mut dumps = Vec::new();
    for path in entries(directory)? {
        let is_dump = path.extension().is_some_and(|it| it == EXTENSION);
        let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_dump);
        let time = name.and_then(|name| name.split('-').next()?.parse().ok());
        let Some(time) = time else { continue };
        let size = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        dumps.push(KeptDump { time, size, path });
    }
    Ok(dumps)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PluginName {
        text.parse().unwrap()
    }

    #[test]
    fn a_plugin_is_dumped_once_a_minute_and_one_dump_is_written_at_a_time() {
        let dumps = Arc::new(CoreDumps::new(Path::new("/nonexistent")));
        let (one, other, now) = (name("one"), name("other"), Instant::now());
        let permit = dumps.begin(&one, now);
        assert!(permit.is_some());
        assert!(dumps.begin(&other, now).is_none(), "another one is being written");
        drop(permit);
        assert!(dumps.begin(&other, now).is_some());
        assert!(dumps.begin(&one, now).is_none(), "it was dumped lately");
        assert!(dumps.begin(&one, now + INTERVAL).is_some());
    }

    #[test]
    fn the_newest_dumps_are_kept_up_to_their_number_and_size() {
        let state = tempfile::tempdir().unwrap();
        let dumps = Arc::new(CoreDumps::new(state.path()));
        let all = state.path().join(DIRECTORY);
        let put = |plugin: &str, time: u64| {
            let path = all.join(plugin).join(format!("{time}-1-1.coredump"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [0; 100]).unwrap();
            path
        };
        let old: Vec<_> = (1..=DUMPS_MAX as u64).map(|time| put("one", time)).collect();
        let foreign = all.join("one/notes");
        fs::write(&foreign, "text").unwrap();
        let permit = dumps.begin(&name("one"), Instant::now()).unwrap();
        let newest = permit.write(&name("one"), 7, 8, b"dump").unwrap();
        assert!(newest.to_str().unwrap().ends_with("-7-8.coredump"));
        assert!(!old[0].exists() && old[1].exists() && newest.exists());
        let other = put("other", 2);
        prune(&all, &newest, DUMPS_MAX, 350).unwrap();
        let exist = |paths: &[PathBuf]| paths.iter().map(|it| it.exists()).collect::<Vec<_>>();
        assert_eq!(exist(&old), [false, false, true, true, true]);
        assert!(!other.exists() && newest.exists() && foreign.exists());
    }

    #[test]
    fn a_dump_that_was_just_written_stays_although_the_others_have_later_times() {
        let state = tempfile::tempdir().unwrap();
        let dumps = Arc::new(CoreDumps::new(state.path()));
        let all = state.path().join(DIRECTORY);
        fs::create_dir_all(all.join("one")).unwrap();
        let later: Vec<_> = (1..=DUMPS_MAX)
            .map(|nth| all.join(format!("one/900000000000000{nth}-1-1.coredump")))
            .collect();
        later.iter().for_each(|path| fs::write(path, [0; 100]).unwrap());
        let permit = dumps.begin(&name("one"), Instant::now()).unwrap();
        let newest = permit.write(&name("one"), 7, 8, b"dump").unwrap();
        assert!(newest.exists() && !later[0].exists() && later[1].exists());
        prune(&all, &newest, DUMPS_MAX, 4).unwrap();
        assert!(newest.exists() && !later.iter().any(|path| path.exists()));
    }

    #[test]
    fn a_dump_is_written_although_others_cannot_be_removed() {
        let state = tempfile::tempdir().unwrap();
        let dumps = Arc::new(CoreDumps::new(state.path()));
        // A directory is not removed as a file.
        for time in 1..=DUMPS_MAX {
            let path = format!("{DIRECTORY}/one/{time}-1-1.coredump");
            fs::create_dir_all(state.path().join(path)).unwrap();
        }
        assert!(prune(&state.path().join(DIRECTORY), Path::new(""), 0, SIZE_MAX).is_err());
        let permit = dumps.begin(&name("one"), Instant::now()).unwrap();
        assert!(permit.write(&name("one"), 7, 8, b"dump").unwrap().exists());
    }

    #[test]
    fn a_file_that_is_there_already_is_neither_written_nor_removed() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("1-1-1.coredump");
        fs::write(&path, "of another").unwrap();
        let error = create(&path, b"dump").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"of another");
        assert!(remove(&path).is_ok() && remove(&path).is_ok());
    }

    #[test]
    fn an_instance_with_too_much_memory_is_not_dumped() {
        assert!(CoreDumps::check_size(64 << 20).is_ok());
        let error = CoreDumps::check_size((64 << 20) + 1).unwrap_err().to_string();
        assert!(error.contains("dumped is 64M"), "{error}");
    }
}
