//! `wasi:http/handler`, imported: how a plugin that is middleware passes a request on, within the process.

use crate::world::{host_state::HostState, request_tasks::callers};
use futures::future::poll_fn;
use std::{pin::pin, task::Poll};
use wasmtime::{
    Result,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi_http::{
    WasiHttp, WasiHttpView,
    p3::bindings::http::{client::HostWithStore, types as p3},
};

/// Adds the import to a linker.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    to.instance("wasi:http/handler@0.3.0")?.func_wrap_concurrent(
        "handle",
        |accessor: &Accessor<HostState>, (request,): (Resource<p3::Request>,)| {
            Box::pin(async move { Ok((handle(accessor, request).await?,)) })
        },
    )
}

/// Passes a request on: as the library sends one, but along the way of the request that the calling task handles.
async fn handle(
    accessor: &Accessor<HostState>,
    request: Resource<p3::Request>,
) -> Result<Result<Resource<p3::Response>, p3::ErrorCode>> {
    let passed = accessor.with(|mut access| {
        // Finding out who calls has a price.
        if access.get().passed_requests().is_empty() {
            return None;
        }
        let tasks = callers(&mut access);
        access.get().passed_requests().of(&tasks)
    });
    let http = accessor.with_getter::<WasiHttp>(HostState::http);
    let Some(passed) = passed else {
        // Nothing is behind it. The request is dropped as one that is sent, and refused.
        accessor.with(|mut access| access.get().http().table.delete(request).map(drop))?;
        return Ok(Err(p3::ErrorCode::DestinationNotFound));
    };
    let mut sent = pin!(WasiHttp::send(&http, request));
    // The library hands the request over before it waits for the first time, so no other one can come between.
    let first = poll_fn(|cx| {
        accessor.with(|mut access| access.get().set_passed(Some(passed.clone())));
        let polled = sent.as_mut().poll(cx);
        accessor.with(|mut access| access.get().set_passed(None));
        Poll::Ready(polled)
    });
    let answered = match first.await {
        Poll::Ready(answered) => answered,
        Poll::Pending => sent.await,
    };
    match answered {
        Ok(response) => Ok(Ok(response)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}
