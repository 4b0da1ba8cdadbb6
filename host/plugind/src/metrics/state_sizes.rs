//! The sizes of the state directories and key-value stores of plugins. They are measured in the background after a
//! request for metrics, and not each time.

use crate::{
    base::name::PluginName,
    plugin::state_files::{directory, own_store, size},
};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// A size is measured again when it is as old as this.
const AGE_MAX: Duration = Duration::from_secs(30);
/// The sizes of the state directories of plugins. Cheap to clone.
#[derive(Clone)]
pub struct StateSizes(Arc<MeasuredSizes>);

struct MeasuredSizes {
    state: PathBuf,
    /// Whether the key-value stores are files below it.
    has_stores: bool,
    /// Measuring takes a while, and waits for the disk.
    runtime: Handle,
    is_measuring: AtomicBool,
    last: Mutex<LastSizes>,
}

#[derive(Default)]
struct LastSizes {
    measured: Option<Instant>,
    sizes: BTreeMap<PluginName, u64>,
}

impl StateSizes {
    /// The sizes of the directories below `state`, and with `has_stores`, of the key-value stores in files. Must be
    /// called in the runtime that measures them.
    #[must_use]
    pub fn new(state: PathBuf, has_stores: bool) -> Self {
        let (is_measuring, last) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(MeasuredSizes {
            state,
            has_stores,
            runtime: Handle::current(),
            is_measuring,
            last,
        }))
    }

    /// The sizes that were measured last, by plugin. Without a recent measurement of these plugins, another one begins.
    #[must_use]
    pub fn take(&self, plugins: impl Iterator<Item = PluginName>) -> BTreeMap<PluginName, u64> {
        let last = self.0.last();
        let is_recent = last.measured.is_some_and(|measured| measured.elapsed() < AGE_MAX);
        let sizes = last.sizes.clone();
        drop(last);
        if !is_recent && !self.0.is_measuring.swap(true, AcqRel) {
            let (measured, plugins) = (self.0.clone(), plugins.collect::<Vec<_>>());
            self.0.runtime.spawn_blocking(move || measured.measure(plugins));
        }
        sizes
    }
}

impl MeasuredSizes {
    fn measure(&self, plugins: Vec<PluginName>) {
        let _measuring = Measuring(&self.is_measuring);
        let sizes = plugins.into_iter().filter_map(|plugin| {
            let directory = directory(&self.state, &plugin);
            // A store that was moved to a server may have left its file.
            let own_store = self.has_stores.then(|| own_store(&self.state, &plugin));
            let store = own_store.and_then(|store| fs::metadata(store).ok());
            if store.is_none() && !directory.exists() {
                return None;
            }
            // A size that cannot be determined must not count as zero.
            let files = if directory.exists() { size(&directory)? } else { 0 };
            Some((plugin, files.saturating_add(store.map_or(0, |metadata| metadata.len()))))
        });
        let sizes = sizes.collect();
        *self.last() = LastSizes { measured: Some(Instant::now()), sizes };
    }

    fn last(&self) -> MutexGuard<'_, LastSizes> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another measurement may begin when it is dropped, even by a panic.
struct Measuring<'a>(&'a AtomicBool);

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_that_panics_lets_another_one_begin() {
        let is_measuring = AtomicBool::new(true);
        let measured: Result<(), _> = std::panic::catch_unwind(|| {
            let _measuring = Measuring(&is_measuring);
            panic!("for a reason");
        });
        assert!(measured.is_err());
        assert!(!is_measuring.into_inner());
    }
}
