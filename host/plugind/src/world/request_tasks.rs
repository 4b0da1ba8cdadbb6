//! Which request a task of a guest works for, in an instance that may have several at a time.

use crate::base::request_identity::RequestIdentity;
use wasmtime::{
    AsContextMut,
    component::{Access, GuestTaskId, HasData},
};

/// So many callers of a task are looked at; a component in a component is one more.
const CALLERS_MAX: usize = 8;

/// The requests of an instance that it has not answered yet, by the tasks that handle them.
#[derive(Default)]
pub(super) struct RequestTasks(Vec<(GuestTaskId, RequestIdentity)>);

impl RequestTasks {
    /// A task begins to handle a request.
    pub(super) fn begin(&mut self, task: GuestTaskId, request: RequestIdentity) {
        self.0.push((task, request));
    }

    /// It has answered it.
    pub(super) fn end(&mut self, task: GuestTaskId) {
        self.0.retain(|(known, _)| *known != task);
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The request of the first of these tasks that has one.
    pub(super) fn request_of(&self, tasks: &[GuestTaskId]) -> Option<RequestIdentity> {
        let of = |task| self.0.iter().find(|(known, _)| known == task);
        tasks.iter().find_map(of).map(|(_, request)| *request)
    }
}

/// The task that calls the host, and those that called it.
pub(super) fn callers<T: 'static, D: HasData + ?Sized>(
    host: &mut Access<'_, T, D>,
) -> Vec<GuestTaskId> {
    let mut store = host.as_context_mut();
    // Without an answer it is not known who called.
    store.async_call_stack().map(|tasks| tasks.take(CALLERS_MAX).collect()).unwrap_or_default()
}
