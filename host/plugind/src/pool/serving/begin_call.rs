//! How a worker has its guest begin with a call, of each kind.

use crate::{
    pool::{
        call::{Call, HttpSender, Outcome, ReplySender},
        failure::CallFailure,
        http::HttpCall,
        in_flight::{GuestWork, InFlight},
        messages::handle_message,
        progress::with_progress,
        queue::QueuedCall,
        serving::Serving,
        streams::{answer_datagram, serve_connection},
        websockets::serve_websocket,
    },
    world::{
        client_connection::ClientConnection, client_websocket::ClientWebSocket,
        guest_message::GuestMessage, passed_requests::PassedRequest,
        received_datagram::ReceivedDatagram,
    },
};
use futures::channel::oneshot;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tracing::debug;
use wasmtime::component::GuestTaskId;
use wasmtime_wasi_http::WasiBody;

impl Serving<'_> {
    /// Has the guest begin with a call.
    pub(super) fn begin(&mut self, call: QueuedCall) {
        // A guest at work takes the processor first of all, so others should take the next call.
        self.worker.since_rest.fetch_add(1, Relaxed);
        self.worker.served.store(true, Relaxed);
        self.worker.handle.note_activity();
        // It was saved for the next instance, and is not any more.
        self.is_unsaved = self.exports.handover.is_some();
        self.taken = self.taken.saturating_add(1);
        let QueuedCall { call, reply, in_flight } = call;
        self.identify(&in_flight);
        let work = in_flight.begin_work();
        match (call, reply) {
            (Call::Http(request), ReplySender::Http(reply)) => {
                self.begin_http(*request, reply, in_flight, work);
            }
            (Call::Stream(connection), ReplySender::Stream(reply)) => {
                self.begin_connection(connection, reply, in_flight, work);
            }
            (Call::Datagram(datagram), ReplySender::Datagram(reply)) => {
                self.begin_datagram(*datagram, reply, in_flight, work);
            }
            (Call::WebSocket(websocket), ReplySender::WebSocket(reply)) => {
                self.begin_websocket(websocket, reply, in_flight, work);
            }
            (Call::Message(message), ReplySender::Message(reply)) => {
                self.begin_message(*message, reply, in_flight, work);
            }
            (
                Call::Http(_)
                | Call::Stream(_)
                | Call::Datagram(_)
                | Call::WebSocket(_)
                | Call::Message(_),
                _,
            ) => {
                in_flight.note(CallFailure::NotExported);
            }
        }
    }

    /// Attributes what the guest does from now on to this call, if it has no other one.
    fn identify(&mut self, in_flight: &InFlight) {
        let handle = self.worker.handle;
        let is_alone = handle.in_flight() <= 1 && handle.lingering() == 0;
        self.set_request(in_flight.identity().filter(|_| is_alone));
    }

    /// Notes which task of the guest has which request, where it may have several or pass it on.
    fn begin_task(
        &self,
        call: &HttpCall<'_>,
        in_flight: &InFlight,
        passed: Option<PassedRequest>,
    ) -> Option<GuestTaskId> {
        let is_shared = self.worker.set.config.concurrency > 1;
        let identity = in_flight.identity().filter(|_| is_shared);
        if identity.is_none() && passed.is_none() {
            return None;
        }
        let task = call.task();
        self.accessor.with(|mut store| {
            let state = store.get();
            if let Some(identity) = identity {
                state.begin_task(task, identity);
            }
            if let Some(passed) = passed {
                state.begin_passing(task, passed);
            }
        });
        Some(task)
    }

    fn begin_http(
        &mut self,
        request: http::Request<WasiBody>,
        reply: HttpSender,
        in_flight: Arc<InFlight>,
        work: GuestWork,
    ) {
        let scope = self.accessor.with(|mut store| store.get().enter_request(&request));
        let passed = scope.as_ref().and_then(|scope| {
            in_flight.set_scope(scope);
            PassedRequest::of(&request, scope, || in_flight.begin_passage(self.worker.handle))
        });
        let request = with_progress(request, &self.worker.handle.heartbeat);
        match HttpCall::begin(self.accessor, self.exports, request, reply) {
            Ok(Some(call)) => {
                let accessor = self.accessor;
                let task = self.begin_task(&call, &in_flight, passed);
                self.calls.push(Box::pin(async move {
                    let ended = call.run(accessor).await;
                    drop(scope);
                    if let Some(task) = task {
                        accessor.with(|mut store| store.get().end_task(task));
                    }
                    in_flight.answer();
                    drop(work);
                    ended
                }));
            }
            Ok(None) => in_flight.note(CallFailure::NotExported),
            Err(error) if self.accessor.with(|mut store| store.get().is_closed()) => {
                self.broken = Some(error);
            }
            Err(error) => {
                // It concerns this request alone, and dropping it has answered it.
                let (plugin, error) = (&self.worker.set.linked.release.name, format!("{error:#}"));
                let request = in_flight.identity();
                debug!(
                    %plugin, %error,
                    request_id = request.map(|request| display(request.request_id())),
                    trace_id = request.map(|request| display(request.trace_id())),
                    "request dropped"
                );
                in_flight.answer();
            }
        }
    }

    fn begin_connection(
        &mut self,
        connection: ClientConnection,
        reply: oneshot::Sender<Outcome<()>>,
        in_flight: Arc<InFlight>,
        work: GuestWork,
    ) {
        let Some(handler) = &self.exports.connections else {
            return in_flight.note(CallFailure::NotExported);
        };
        let figures = &self.worker.handle.figures;
        connection.count_in(figures);
        figures.connections.add(1);
        // It may last as long as both ends want.
        in_flight.answer();
        connection.beat_with(&self.worker.handle.heartbeat);
        // Calls that wait must not depend on its end. Where this worker counts as available still, the same is looked at
        // when it no longer does.
        self.worker.set.check_shortage();
        let accessor = self.accessor;
        self.calls.push(Box::pin(async move {
            let outcome = serve_connection(accessor, handler, connection).await?;
            drop(work);
            // Its client may have left.
            reply.send(outcome).ok();
            Ok(())
        }));
    }

    fn begin_websocket(
        &mut self,
        websocket: ClientWebSocket,
        reply: oneshot::Sender<Outcome<()>>,
        in_flight: Arc<InFlight>,
        work: GuestWork,
    ) {
        let Some(handler) = &self.exports.websockets else {
            return in_flight.note(CallFailure::NotExported);
        };
        let figures = &self.worker.handle.figures;
        websocket.count_in(figures);
        figures.connections.add(1);
        websocket.beat_with(&self.worker.handle.heartbeat);
        // Once accepted it may last as long as both ends want. The guest's own call reports that: while a blocking one
        // waits, nothing else of this instance runs.
        let decided = in_flight.clone();
        websocket.on_decision(move || decided.answer());
        // As with a connection.
        self.worker.set.check_shortage();
        let accessor = self.accessor;
        self.calls.push(Box::pin(async move {
            let outcome = serve_websocket(accessor, handler, websocket).await?;
            drop(work);
            in_flight.answer();
            // Its client may have left.
            reply.send(outcome).ok();
            Ok(())
        }));
    }

    fn begin_datagram(
        &mut self,
        datagram: ReceivedDatagram,
        reply: oneshot::Sender<Outcome<Option<Vec<u8>>>>,
        in_flight: Arc<InFlight>,
        work: GuestWork,
    ) {
        let Some(handler) = &self.exports.datagrams else {
            return in_flight.note(CallFailure::NotExported);
        };
        self.worker.handle.figures.datagrams.add(1);
        let accessor = self.accessor;
        self.calls.push(Box::pin(async move {
            let answer = answer_datagram(accessor, handler, datagram).await?;
            drop(work);
            in_flight.answer();
            // It may have been given up meanwhile.
            reply.send(Ok(answer)).ok();
            Ok(())
        }));
    }

    fn begin_message(
        &mut self,
        message: GuestMessage,
        reply: oneshot::Sender<Outcome<()>>,
        in_flight: Arc<InFlight>,
        work: GuestWork,
    ) {
        let Some(handler) = &self.exports.messages else {
            return in_flight.note(CallFailure::NotExported);
        };
        let accessor = self.accessor;
        self.calls.push(Box::pin(async move {
            let outcome = handle_message(accessor, handler, message).await?;
            drop(work);
            in_flight.answer();
            // It may have been given up meanwhile.
            reply.send(outcome).ok();
            Ok(())
        }));
    }
}
