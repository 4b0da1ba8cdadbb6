//! The core dump of an instance that failed, where the manifest asks for it.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::core_dumps::{CoreDumpError, CoreDumpPermit, CoreDumps},
    pool::worker_context::WorkerContext,
    world::HostState,
};
use std::{path::PathBuf, time::Instant};
use tracing::warn;
use wasmtime::{Error, Store, WasmCoreDump};

/// A core dump that may be written.
pub(super) struct PendingDump {
    permit: CoreDumpPermit,
    /// It contains the dump.
    error: Error,
}

impl WorkerContext<'_> {
    /// Whether an instance that ended with this error is to be dumped.
    pub(super) fn pending_dump(&self, error: Error) -> Option<PendingDump> {
        let dumps = self.set.shared.core_dumps.as_ref()?;
        error.downcast_ref::<WasmCoreDump>()?;
        let permit = dumps.begin(&self.set.linked.release.name, Instant::now())?;
        Some(PendingDump { permit, error })
    }

    /// Writes the core dump of an instance and drops its store, in a thread that may wait. Returns the file.
    pub(super) async fn dump(
        &self,
        store: Store<HostState>,
        pending: PendingDump,
    ) -> Option<PathBuf> {
        let name = self.set.linked.release.name.clone();
        let (generation, worker) = (self.set.shared.identity.generation, self.handle.number);
        let background = self.set.executors.background();
        let writing =
            background.spawn_blocking(move || write(store, &pending, &name, generation, worker));
        match writing.await.unwrap_or(Err(CoreDumpError::Runtime)) {
            Ok(path) => Some(path),
            Err(error) => {
                let plugin = &self.set.linked.release.name;
                warn!(%plugin, generation, worker, error = %ErrorChain(&error), "cannot write core dump");
                None
            }
        }
    }
}

fn write(
    mut store: Store<HostState>,
    pending: &PendingDump,
    name: &PluginName,
    generation: u64,
    worker: u32,
) -> Result<PathBuf, CoreDumpError> {
    CoreDumps::check_size(store.data().memory_used())?;
    let dump = pending.error.downcast_ref::<WasmCoreDump>().ok_or(CoreDumpError::Runtime)?;
    let dump = dump.serialize(&mut store, name.as_str());
    pending.permit.write(name, generation, worker, &dump)
}
