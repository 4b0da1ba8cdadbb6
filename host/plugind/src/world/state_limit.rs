//! The limit of the files in a plugin's state, `limits.state-max`.
//!
//! The bytes of all writes are added up to an upper bound of the size of the files. The files are measured when
//! a generation is linked, when this sum would exceed the limit, and while the state is full. So overwriting,
//! truncating and removing need no records, and a write usually costs no more than an addition.

use crate::{
    base::{name::PluginName, quantity::Bytes},
    plugin::state_files::size_with_entries,
};
use rustix::io::Errno;
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// After a refused write, a state counts as full if its room is smaller than this and smaller than the write.
const FULL_BELOW: u64 = 64 << 10;
/// The shortest time between two warnings about one plugin.
const WARNING_PAUSE: Duration = Duration::from_secs(60);
/// While a state is full, its size is measured again when it is asked for and is at least this old.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The usage of the states of all plugins with a limit, for the daemon's life: all generations of a plugin use one
/// directory.
#[derive(Clone, Debug, Default)]
pub struct StateUsages(Arc<Mutex<BTreeMap<PluginName, Arc<StateUsage>>>>);

/// The usage of one plugin's state.
#[derive(Debug)]
struct StateUsage {
    plugin: PluginName,
    directory: PathBuf,
    /// One thread at a time measures.
    measuring: Mutex<()>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// An upper bound of the size; none, if it cannot be determined.
    used: Option<u64>,
    /// Bytes of the writes in progress.
    pending: u64,
    /// Bytes that a measurement in progress may not see.
    unseen: u64,
    measured: Option<Instant>,
    /// The measurement that `failure` has started last.
    measurement: Option<JoinHandle<()>>,
    /// The room that a refused write needed, and the limit, until there is this room.
    refused: Option<(u64, u64)>,
    warned: Option<Instant>,
}

/// The limit of a generation.
#[derive(Clone, Debug)]
pub(super) struct StateLimit {
    usage: Arc<StateUsage>,
    max: u64,
}

/// Room for a write. It counts as in progress until this is dropped.
#[derive(Debug)]
pub(super) struct ReservedRoom {
    usage: Arc<StateUsage>,
    bytes: u64,
}

/// How a write or a change of the size makes a file grow.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileGrowth {
    /// The file has at least this size then.
    UpTo(u64),
    /// By so many bytes.
    By(u64),
}

impl StateUsages {
    /// Limits the state of `plugin`, and measures it. Blocks.
    pub(super) fn limit(
        &self,
        plugin: &PluginName,
        directory: PathBuf,
        Bytes(max): Bytes,
    ) -> StateLimit {
        let usage = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || {
                Arc::new(StateUsage {
                    plugin: plugin.clone(),
                    directory,
                    measuring: Mutex::default(),
                    counts: Mutex::default(),
                })
            };
            all.entry(plugin.clone()).or_insert_with(new).clone()
        };
        {
            let mut counts = usage.counts();
            counts.refused = counts.refused.map(|(needed, _)| (needed, max));
        }
        usage.measure();
        StateLimit { usage, max }
    }
}

impl StateUsage {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measuring(&self) -> MutexGuard<'_, ()> {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self) {
        self.measure_within(&self.measuring());
    }

    fn measure_within(&self, _measuring: &MutexGuard<'_, ()>) {
        {
            let mut counts = self.counts();
            counts.unseen = counts.pending;
        }
        let size = size_with_entries(&self.directory);
        let mut counts = self.counts();
        counts.used = size.map(|size| size.saturating_add(counts.unseen));
        counts.measured = Some(Instant::now());
        self.note_room(&mut counts);
    }

    /// Notes that the state is no longer full, if it has room.
    fn note_room(&self, counts: &mut Counts) {
        let (Some(used), Some((needed, max))) = (counts.used, counts.refused) else { return };
        if used.saturating_add(needed) <= max {
            counts.refused = None;
            info!(plugin = %self.plugin, size = used, "state has room again");
        }
    }
}

impl StateLimit {
    /// Reserves room for so many bytes, unless the upper bound would exceed the limit.
    pub(super) fn reserve(&self, bytes: u64) -> Option<ReservedRoom> {
        let mut counts = self.usage.counts();
        if bytes > 0 {
            let used = counts.used?.checked_add(bytes).filter(|used| *used <= self.max)?;
            counts.used = Some(used);
            counts.pending = counts.pending.saturating_add(bytes);
            counts.unseen = counts.unseen.saturating_add(bytes);
            self.usage.note_room(&mut counts);
        }
        Some(ReservedRoom { usage: self.usage.clone(), bytes })
    }

    /// Reserves room for so many bytes. If the upper bound leaves none, measures the files, and blocks.
    ///
    /// # Errors
    /// `EDQUOT`, if there is none.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<ReservedRoom> {
        if let Some(room) = self.reserve(bytes) {
            return Ok(room);
        }
        let measuring = self.usage.measuring();
        // Another thread may have measured meanwhile.
        if let Some(room) = self.reserve(bytes) {
            return Ok(room);
        }
        self.usage.measure_within(&measuring);
        drop(measuring);
        self.reserve(bytes).ok_or_else(|| self.refuse(bytes))
    }

    /// As [`Self::make_room`], for a change that makes `file` grow.
    pub(super) fn make_room_in(&self, file: &File, growth: FileGrowth) -> io::Result<ReservedRoom> {
        let bytes = match growth {
            FileGrowth::By(bytes) => bytes,
            FileGrowth::UpTo(size) => size.saturating_sub(file.metadata()?.len()),
        };
        self.make_room(bytes)
    }

    fn refuse(&self, bytes: u64) -> io::Error {
        let needed = bytes.min(FULL_BELOW);
        let mut counts = self.usage.counts();
        let is_full = counts.used.is_none_or(|used| used.saturating_add(needed) > self.max);
        if is_full {
            counts.refused = Some((needed, self.max));
            if counts.warned.is_none_or(|warned| warned.elapsed() >= WARNING_PAUSE) {
                counts.warned = Some(Instant::now());
                let (plugin, max) = (&self.usage.plugin, self.max);
                match counts.used {
                    Some(size) => warn!(%plugin, size, max, "state is full"),
                    None => warn!(%plugin, max, "state cannot be measured"),
                }
            }
        }
        Errno::DQUOT.into()
    }

    /// The reason why the plugin is degraded, if its state is full. If the last measurement is old, starts another one,
    /// whose result the next call has.
    pub(super) fn failure(&self) -> Option<String> {
        let mut counts = self.usage.counts();
        counts.refused?;
        let used = counts.used;
        let is_old = counts.measured.is_none_or(|measured| measured.elapsed() >= AGE_MAX);
        let is_measuring = counts.measurement.as_ref().is_some_and(|it| !it.is_finished());
        if is_old && !is_measuring {
            let usage = self.usage.clone();
            let measure = thread::Builder::new().name("measure".to_owned());
            // Without a thread, the next call tries again. The file threads of the plugin may have ended.
            counts.measurement = measure.spawn(move || usage.measure()).ok();
        }
        drop(counts);
        Some(match used {
            Some(used) => format!("its state is full ({})", of_max(used, self.max)),
            None => "its state cannot be measured; remove files, or nested directories".to_owned(),
        })
    }
}

/// The size in the unit of the limit, rounded up.
fn of_max(used: u64, max: u64) -> String {
    let unit =
        1_u64 << [30, 20, 10].into_iter().find(|unit| max.trailing_zeros() >= *unit).unwrap_or(0);
    format!("{} of {}", Bytes(used.div_ceil(unit).saturating_mul(unit)), Bytes(max))
}

impl Drop for ReservedRoom {
    fn drop(&mut self) {
        let mut counts = self.usage.counts();
        counts.pending = counts.pending.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::state_files::ENTRY;
    use std::fs;

    fn is_quota(result: io::Result<ReservedRoom>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(Errno::DQUOT.raw_os_error()))
    }

    #[test]
    fn a_state_has_room_up_to_its_limit_and_again_when_files_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, [0; 1000]).unwrap();
        let usages = StateUsages::default();
        let plugin = "a".parse().unwrap();
        let limit = usages.limit(&plugin, root.path().to_owned(), Bytes(ENTRY + 3000));
        let file = File::open(&path).unwrap();
        drop(limit.make_room(2000).unwrap());
        assert!(limit.reserve(1).is_none());
        // Writing the same bytes again needs no room.
        limit.make_room_in(&file, FileGrowth::UpTo(1000)).unwrap();
        // These 2000 bytes were reserved, and not written.
        let pending = limit.make_room(1999).unwrap();
        assert!(is_quota(limit.make_room(2)));
        assert!(limit.failure().unwrap().starts_with("its state is full ("));
        let also = usages.limit(&plugin, root.path().to_owned(), Bytes(ENTRY + 3000));
        assert!(is_quota(also.make_room_in(&file, FileGrowth::By(2))));
        fs::remove_file(&path).unwrap();
        also.make_room(2).unwrap();
        assert_eq!(limit.failure(), None);
        drop(pending);
    }

    #[test]
    fn removed_files_are_noticed_after_the_threads_that_wrote_them_have_ended() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, [0; 3000]).unwrap();
        let usages = StateUsages::default();
        let limit =
            usages.limit(&"a".parse().unwrap(), root.path().to_owned(), Bytes(ENTRY + 3000));
        let file_threads = tokio::runtime::Runtime::new().unwrap();
        file_threads.block_on(async { assert!(is_quota(limit.make_room(1))) });
        drop(file_threads);
        fs::remove_file(&path).unwrap();
        // Otherwise it is measured once a second.
        limit.usage.counts().measured = None;
        assert!(limit.failure().is_some());
        let measurement = limit.usage.counts().measurement.take();
        measurement.unwrap().join().unwrap();
        assert_eq!(limit.failure(), None);
    }

    #[test]
    fn a_state_that_cannot_be_measured_has_no_room() {
        let root = tempfile::tempdir().unwrap();
        let limit = StateUsages::default().limit(
            &"a".parse().unwrap(),
            root.path().join("none"),
            Bytes(100),
        );
        assert!(is_quota(limit.make_room(1)));
        assert!(limit.failure().unwrap().contains("cannot be measured"));
        limit.make_room(0).unwrap();
    }

    #[test]
    fn a_state_is_not_full_because_of_one_large_write() {
        let root = tempfile::tempdir().unwrap();
        let limit = StateUsages::default().limit(
            &"a".parse().unwrap(),
            root.path().to_owned(),
            Bytes(1 << 20),
        );
        assert!(is_quota(limit.make_room(2 << 20)));
        assert_eq!(limit.failure(), None);
        assert_eq!(of_max(1, 1 << 20), "1M of 1M");
        assert_eq!(of_max(1000, 1001), "1000 of 1001");
    }
}
