//! HTTP requests as calls of `wasi:http` handlers: the one place that knows the runtime's adapter.

use crate::{
    pool::call::HttpSender,
    world::{HostState, link::Exports},
};
use futures::future::pending;
use std::task::Context;
use wasmtime::{
    AsContextMut,
    component::{Accessor, GuestTaskId},
};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView,
    handler::{Prepared, Proxy},
};

/// A request that is about to be handled.
pub(super) struct HttpCall<'a>(Prepared<'a, HostState>);

impl<'a> HttpCall<'a> {
    /// Brings a request into an instance; none, if that has no handler.
    ///
    /// # Errors
    /// When it cannot be brought in. That concerns this request alone, and is its reply.
    pub(super) fn begin(
        accessor: &Accessor<HostState>,
        exports: &'a Exports,
        request: http::Request<WasiBody>,
        reply: HttpSender,
    ) -> wasmtime::Result<Option<Self>> {
        let Some(handler) = &exports.http else { return Ok(None) };
        let prepared = accessor.with(|mut store| {
            Prepared::new(store.as_context_mut(), handler, request, HostState::http, reply)
        })?;
        Ok(Some(Self(prepared)))
    }

    /// The task of the guest that handles it.
    pub(super) fn task(&self) -> GuestTaskId {
        match &self.0 {
            Prepared::P2 { call, .. } => call.task(),
            Prepared::P3 { call, .. } => call.task(),
        }
    }

    /// Handles it.
    ///
    /// # Errors
    /// When the instance failed.
    pub(super) async fn run(self, accessor: &Accessor<HostState>) -> wasmtime::Result<()> {
        // Its deadline is kept outside of the instance.
        self.0.run(accessor, pending()).await.map(|_| ())
    }
}

/// Whether the instance's handler can be called now: a guest may refuse further calls for a while.
pub(super) fn accepts_call(
    accessor: &Accessor<HostState>,
    exports: &Exports,
    cx: &mut Context<'_>,
) -> bool {
    let handler = match &exports.http {
        None => return true,
        Some(Proxy::P3(guest)) => *guest.wasi_http_handler().func_handle().func(),
        Some(Proxy::P2(guest)) => *guest.wasi_http_incoming_handler().func_handle().func(),
    };
    accessor.poll_ready_for_concurrent_call(handler, cx).is_ready()
}
