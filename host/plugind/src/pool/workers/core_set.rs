//! A set of workers, as each core refers to it.

use crate::pool::workers::WorkerSet;
use std::{ops::Deref, sync::Arc};

/// A core's own reference to a set: cloning it writes nothing that another core writes.
#[derive(Clone)]
pub(crate) struct CoreSet(Arc<CoreSetInner>);

#[repr(align(128))]
struct CoreSetInner(Arc<WorkerSet>);

impl CoreSet {
    pub(crate) fn new(set: Arc<WorkerSet>) -> Self {
        Self(Arc::new(CoreSetInner(set)))
    }
}

impl Deref for CoreSet {
    type Target = Arc<WorkerSet>;

    fn deref(&self) -> &Self::Target {
        &self.0.0
    }
}
