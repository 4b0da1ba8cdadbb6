//! The resources that all plugins share.

use crate::{
    base::{budget::Budget, figures::Figures, name::PluginName},
    journal::Journal,
    plugin::{core_dumps::CoreDumps, grants::Grants},
    pool::shares::InstancePool,
    runtime::{
        executors::Executors,
        file_threads::{AllFileThreads, FileThreads},
    },
    world::{calls::RequestDispatch, movable_clock::MovableClock},
};
use std::sync::Arc;
use tracing::warn;

/// The resources that all plugins share.
#[derive(Clone)]
pub struct Commons {
    /// The runtime on which they run.
    pub executors: Executors,
    /// The journal to which they write.
    pub journal: Journal,
    /// The memory that they use together.
    pub memory: Arc<Budget>,
    /// The instance pool.
    pub places: Arc<InstancePool>,
    /// Where they are counted.
    pub figures: Figures,
    /// Sends the requests of one plugin to another.
    pub dispatch: Arc<dyn RequestDispatch>,
    /// Where core dumps are written.
    pub core_dumps: Arc<CoreDumps>,
    /// The clocks of all plugins, if these can be moved.
    pub clock: Option<MovableClock>,
    /// The threads on which calls for files block.
    pub file_threads: AllFileThreads,
}

impl Commons {
    /// The file threads of a plugin, if it is granted files.
    pub(super) fn file_threads(&self, plugin: &PluginName, grants: &Grants) -> Option<FileThreads> {
        if grants.read.is_empty() && !grants.state {
            return None;
        }
        let threads = self.file_threads.of(plugin);
        if let Err(error) = &threads {
            warn!(%plugin, %error, "cannot start threads for files");
        }
        threads.ok()
    }
}
