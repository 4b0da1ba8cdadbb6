//! A request of WASI 0.2 in an instance that was made for it alone.
//!
//! The guest is called as a function. The event loop in which an instance takes calls beside each other, answers for its
//! health and is replaced would have nothing to do but this one call.

use crate::{
    pool::{
        call::{Call, HttpSender, ReplySender},
        failure::End,
        in_flight::InFlight,
        progress::with_progress,
        queue::QueuedCall,
        worker_context::WorkerContext,
    },
    world::{HostState, link::Exports},
};
use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed};
use wasmtime::{Store, component::Resource, format_err};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView,
    handler::Proxy,
    p2::bindings::{
        self,
        http::types::{IncomingRequest, ResponseOutparam, Scheme},
    },
};

/// A request, and the handler of the instance that was made for it.
pub(super) struct OwnRequest<'a> {
    handler: &'a bindings::Proxy,
    request: http::Request<WasiBody>,
    reply: OneReply,
    in_flight: Arc<InFlight>,
}

/// Where the response goes, until the guest gives one.
#[derive(Clone)]
struct OneReply(Arc<Mutex<Option<HttpSender>>>);

impl OneReply {
    fn take(&self) -> Option<HttpSender> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// There will be none, unless there was one.
    fn fail(&self) {
        if let Some(reply) = self.take() {
            let error = format_err!("guest never invoked `response-outparam::set` method");
            // The caller may have left.
            reply.send(Err(error)).ok();
        }
    }
}

impl<'a> OwnRequest<'a> {
    /// The call as such a request, if it is one, and otherwise the call.
    pub(super) fn of(exports: &'a Exports, call: QueuedCall) -> Result<Self, QueuedCall> {
        let Some(Proxy::P2(handler)) = &exports.http else { return Err(call) };
        if exports.lifecycle.is_some() || exports.handover.is_some() {
            return Err(call);
        }
        match call {
            QueuedCall {
                call: Call::Http(request),
                reply: ReplySender::Http(reply),
                in_flight,
            } => {
                let reply = OneReply(Arc::new(Mutex::new(Some(reply))));
                Ok(Self { handler, request: *request, reply, in_flight })
            }
            other => Err(other),
        }
    }

    /// Has the instance in `store` handle it.
    ///
    /// # Errors
    /// When the instance failed.
    pub(super) async fn run(
        self,
        worker: &WorkerContext<'_>,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<End> {
        let Self { handler, request, reply, in_flight } = self;
        worker.note_own_ready();
        worker.served.store(true, Relaxed);
        let work = in_flight.begin_work();
        let state = store.data_mut();
        // Whatever the guest does is done for this request.
        state.set_request(in_flight.identity());
        let scope = state.enter_request(&request);
        if let Some(scope) = &scope {
            in_flight.set_scope(scope);
        }
        let request = with_progress(request, &worker.handle.heartbeat);
        match arguments(state, request, &reply) {
            Ok((request, response)) => {
                let handler = handler.wasi_http_incoming_handler();
                let ended = handler.call_handle(&mut *store, request, response).await;
                reply.fail();
                ended?;
            }
            Err(error) if state.is_closed() => return Err(error),
            Err(error) => {
                // It concerns this request alone, and dropping it answers it.
                drop(reply.take());
                worker.note_dropped_request(&in_flight, &error);
            }
        }
        drop(scope);
        in_flight.answer();
        drop(work);
        Ok(End::Finished)
    }
}

/// Brings a request into the instance.
fn arguments(
    state: &mut HostState,
    request: http::Request<WasiBody>,
    reply: &OneReply,
) -> wasmtime::Result<(Resource<IncomingRequest>, Resource<ResponseOutparam>)> {
    let mut http = state.http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let reply = reply.clone();
    let response = http.new_response_outparam_from_callback(move |response| {
        if let Some(reply) = reply.take() {
            // The caller may have left.
            reply.send(response.map_err(Into::into)).ok();
        }
    })?;
    Ok((request, response))
}
