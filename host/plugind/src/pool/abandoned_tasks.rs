//! The tasks that a guest has left for callers that are gone: how long an instance that ends waits for them.

use crate::{
    pool::{in_flight::GONE_GRACE, worker_handle::WorkerHandle},
    world::HostState,
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep};
use wasmtime::component::Accessor;

/// The tasks of an instance for callers that left before they had their whole reply. The component model cannot cancel
/// them, and does not say which tasks they are.
pub(super) struct AbandonedTasks<'a> {
    handle: &'a WorkerHandle,
    /// Runs while the instance waits for nothing else.
    grace: Option<Pin<Box<Sleep>>>,
}

impl<'a> AbandonedTasks<'a> {
    /// The tasks of the instance with this handle.
    pub(super) fn new(handle: &'a WorkerHandle) -> Self {
        Self { handle, grace: None }
    }

    /// Forgets them if the instance is at rest: the tasks that it has later are not for those callers.
    pub(super) fn forget_if_ended(&self, accessor: &Accessor<HostState>, cx: &mut Context<'_>) {
        if self.handle.has_abandoned_calls()
            && self.handle.in_flight() == 0
            && accessor.poll_no_interesting_tasks(cx).is_ready()
        {
            self.handle.forget_abandoned_calls();
        }
    }

    /// Whether an instance that ends waits for no task any more: it has none, or may have some for callers that are
    /// gone, and neither a caller nor their grace time is left.
    pub(super) fn poll_end(
        &mut self,
        accessor: &Accessor<HostState>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if accessor.poll_no_interesting_tasks(cx).is_ready() {
            return Poll::Ready(());
        }
        // In this order, so that the end of the last call wakes the instance.
        if self.handle.is_full(1) || !self.handle.has_abandoned_calls() {
            return Poll::Pending;
        }
        self.grace.get_or_insert_with(|| Box::pin(sleep(GONE_GRACE))).as_mut().poll(cx)
    }
}
