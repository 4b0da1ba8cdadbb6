//! The caller's side of a call: the reply that is waited for, and a response's body on its way.

use crate::pool::{
    call::{BusyCause, NotServed, Outcome, ReplyReceiver},
    call_state::State,
    failure::CallFailure,
    in_flight::InFlight,
    pauses::ResponsePauses,
    request_failures::RequestFailure,
    worker_task::WorkerTask,
};
use bytes::Bytes;
use futures::{FutureExt, channel::oneshot};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use wasmtime_wasi_http::WasiBody;

/// The reply of an instance to a call.
pub enum Reply {
    /// A response, whose body may still be on its way.
    Http(http::Response<Delivery>),
    /// The connection has ended.
    Stream,
    /// The datagram to send back, if any.
    Datagram(Option<Vec<u8>>),
    /// The WebSocket has ended.
    WebSocket,
    /// The message was handled.
    Message,
}

/// The work of an instance that was made for one call. The caller's task does it while it waits for the reply, so no
/// other task has to be woken. What is left then gets a task of its own: its deadlines must not depend on a client that
/// reads slowly. A guest that computes has one from then on.
#[derive(Default)]
pub(crate) struct OwnInstance(Option<WorkerTask>);

impl OwnInstance {
    pub(crate) fn new(work: WorkerTask) -> Self {
        Self(Some(work))
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let Some(work) = &mut self.0 else { return };
        if work.is_on_core() && work.poll_work(cx).is_ready() {
            self.0 = None;
        } else if !work.is_on_core()
            && let Some(work) = self.0.take()
        {
            work.spawn();
        }
    }
}

impl Drop for OwnInstance {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work.spawn();
        }
    }
}

/// A reply that is waited for. Dropping it is the caller leaving.
pub(crate) struct PendingReply {
    call: Option<Arc<InFlight>>,
    receiver: ReplyReceiver,
    instance: OwnInstance,
}

/// The result of waiting for a reply on its channel.
enum Received {
    Http(http::Response<WasiBody>),
    Reply(Reply),
    Failed(CallFailure),
}

impl Received {
    /// A reply in our own terms, or why there is none.
    fn of<T>(
        received: Result<Outcome<T>, oneshot::Canceled>,
        reply: impl FnOnce(T) -> Reply,
    ) -> Self {
        match received.unwrap_or(Err(CallFailure::NoReply)) {
            Ok(value) => Self::Reply(reply(value)),
            Err(failure) => Self::Failed(failure),
        }
    }
}

impl PendingReply {
    pub(crate) fn new(call: Arc<InFlight>, receiver: ReplyReceiver, instance: OwnInstance) -> Self {
        Self { call: Some(call), receiver, instance }
    }
}

impl ReplyReceiver {
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        Poll::Ready(match self {
            Self::Http(receiver) => match ready!(receiver.poll_unpin(cx)) {
                Ok(Ok(response)) => Received::Http(response),
                Ok(Err(error)) => Received::Failed(CallFailure::guest(&error)),
                Err(oneshot::Canceled) => Received::Failed(CallFailure::NoReply),
            },
            Self::Stream(receiver) => {
                Received::of(ready!(receiver.poll_unpin(cx)), |()| Reply::Stream)
            }
            Self::Datagram(receiver) => {
                Received::of(ready!(receiver.poll_unpin(cx)), Reply::Datagram)
            }
            Self::WebSocket(receiver) => {
                Received::of(ready!(receiver.poll_unpin(cx)), |()| Reply::WebSocket)
            }
            Self::Message(receiver) => {
                Received::of(ready!(receiver.poll_unpin(cx)), |()| Reply::Message)
            }
        })
    }
}

impl Future for PendingReply {
    type Output = Result<Reply, NotServed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let call = this.call.as_ref().expect("it is not polled after it was ready");
        call.caller().register(cx.waker());
        this.instance.work(cx);
        let received = match this.receiver.poll_received(cx) {
            // A guest whose calls ended with its time may answer for that reason, which is too late.
            Poll::Ready(Received::Http(_)) if call.state() == State::Expired => {
                Received::Failed(CallFailure::NoReply)
            }
            Poll::Ready(received) => received,
            Poll::Pending => match call.state() {
                State::Expired | State::NotTaken => Received::Failed(CallFailure::NoReply),
                _ => return Poll::Pending,
            },
        };
        let reply = match received {
            Received::Failed(failure) => {
                // A worker that was ended because of the deadline fails to reply, too: the state says which came first.
                let not_served = not_served(call, failure);
                call.fail();
                return Poll::Ready(Err(not_served));
            }
            Received::Reply(reply) => reply,
            Received::Http(response) => {
                call.answer();
                this.instance = OwnInstance::default();
                let call = this.call.take();
                return Poll::Ready(Ok(Reply::Http(Delivery::of(response, call))));
            }
        };
        call.answer();
        call.deliver();
        Poll::Ready(Ok(reply))
    }
}

fn not_served(call: &InFlight, failure: CallFailure) -> NotServed {
    match (call.state(), call.failure().unwrap_or(failure)) {
        (State::Returned, failure) => match call.take_returned() {
            Some(call) => NotServed::Draining(call),
            None => NotServed::Failed(failure),
        },
        (State::Expired, _) => NotServed::TimedOut,
        (_, CallFailure::NoCapacity) => NotServed::Busy(BusyCause::NoRoom),
        (state, _) if !state.was_taken() => NotServed::Busy(BusyCause::Instances),
        (_, failure) => NotServed::Failed(failure),
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.leave();
        }
    }
}

/// A response's body on its way to the client. When it is dropped, the call has been delivered, or its client has left.
pub struct Delivery {
    body: WasiBody,
    call: Option<Arc<InFlight>>,
    /// Number of bytes still to come, if the guest announced a length.
    left: Option<u64>,
    has_ended: bool,
    /// The number of bytes that were delivered.
    sent: u64,
    pauses: ResponsePauses,
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let max = humantime::format_duration(ready!(self.pauses.poll(cx)));
            self.note(&format!("the response paused for {max}, the value of limits.idle-timeout"));
            return Poll::Ready(Some(Err(Self::Error::HttpResponseIncomplete)));
        };
        self.pauses.end();
        Poll::Ready(match frame {
            None if self.is_cut_off() => {
                self.note("its instance ended before the body of the response");
                Some(Err(Self::Error::HttpResponseIncomplete))
            }
            None => {
                if self.left.is_some_and(|left| left > 0) {
                    self.note("the body of the response is shorter than its content-length");
                }
                self.has_ended = true;
                None
            }
            Some(Err(error)) => {
                self.note(&format!("the body of the response failed: {error}"));
                Some(Err(error))
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                self.note_progress();
                self.sent = self.sent.saturating_add(length);
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_cut_off()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Delivery {
    fn of(response: http::Response<WasiBody>, call: Option<Arc<InFlight>>) -> http::Response<Self> {
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let pauses = ResponsePauses::default();
        response.map(|body| Self { body, call, left, has_ended: false, sent: 0, pauses })
    }

    /// Breaks the response off when the plugin sends nothing for so long.
    pub(crate) fn limit_pauses(&mut self, max: Option<Duration>) {
        self.pauses = ResponsePauses::new(max);
    }

    /// Notes that the client does not get the whole response, and why.
    pub(crate) fn note(&self, cause: &str) {
        let Some(call) = &self.call else { return };
        if let Some(worker) = call.worker() {
            worker.failures.note(RequestFailure::Failed, cause, call.identity());
        }
    }

    /// An instance that produces a long response is at work, even if it does not return to its event loop for long.
    fn note_progress(&self) {
        let worker = self.call.as_ref().filter(|_| self.sent > 0).and_then(|call| call.worker());
        if let Some(worker) = worker {
            worker.heartbeat.beat();
        }
    }

    /// Whether the body may have ended because its instance failed: then the client must see an error, if its protocol
    /// has one. A body that was complete at that moment counts as cut off, too.
    fn is_cut_off(&self) -> bool {
        let worker = self.call.as_ref().and_then(|call| call.worker());
        worker.is_some_and(|worker| worker.has_failed())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(call) = &self.call else { return };
        if let Some(worker) = call.worker().filter(|_| self.sent > 0) {
            worker.figures.sent.add(self.sent);
        }
        if self.has_ended || self.left == Some(0) || self.body.is_end_stream() {
            call.deliver();
        } else {
            call.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{
        call::{BusyCause, Call, ReplySender},
        deadline_sweeper::DeadlineSweeper,
        request_failures::RequestFailures,
        worker_handle::WorkerHandle,
    };
    use crate::world::{
        client_address::ClientAddress, client_connection::ClientConnection, heartbeat::Heartbeat,
        received_datagram::ReceivedDatagram,
    };
    use http_body_util::BodyExt;
    use std::time::Duration;

    fn datagram() -> Call {
        let (socket, client) = ("clock".parse().unwrap(), ClientAddress::Unix(None));
        Call::Datagram(Box::new(ReceivedDatagram { socket, client, bytes: b"ping".to_vec() }))
    }

    /// A call that waits, as a worker sees it, and its reply, as the caller sees it.
    fn pending(call: &Call) -> (Arc<InFlight>, ReplySender, PendingReply) {
        let sweeper = DeadlineSweeper::start(Duration::from_millis(100), None, 1);
        let in_flight = sweeper.begin(0, Duration::ZERO);
        let (sender, receiver) = call.channel();
        let reply = PendingReply::new(in_flight.clone(), receiver, OwnInstance::default());
        (in_flight, sender, reply)
    }

    #[tokio::test]
    async fn a_connection_and_a_datagram_have_replies_of_their_own() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let client = ClientAddress::Unix(None);
        let connection = ClientConnection::new(stream, client, "echo".parse().unwrap());
        let (_, sender, reply) = pending(&Call::Stream(connection));
        let ReplySender::Stream(sender) = sender else { panic!("it is for a connection") };
        sender.send(Ok(())).unwrap();
        assert!(matches!(reply.await, Ok(Reply::Stream)));

        let (_, sender, reply) = pending(&datagram());
        let ReplySender::Datagram(sender) = sender else { panic!("it is for a datagram") };
        sender.send(Ok(Some(b"pong".to_vec()))).unwrap();
        assert!(matches!(reply.await, Ok(Reply::Datagram(Some(pong))) if pong == b"pong"));
    }

    #[tokio::test]
    async fn a_call_that_is_given_back_comes_back_whole() {
        let call = datagram();
        let (in_flight, sender, reply) = pending(&call);
        in_flight.give_back(call);
        drop(sender);
        let Err(NotServed::Draining(Call::Datagram(datagram))) = reply.await else {
            panic!("it was given back")
        };
        assert_eq!(datagram.bytes, b"ping");
    }

    #[tokio::test]
    async fn a_call_that_nothing_takes_is_refused_as_busy() {
        let (_, sender, reply) = pending(&datagram());
        assert!(matches!(reply.await, Err(NotServed::Busy(BusyCause::Instances))));
        drop(sender);
    }

    /// Reads the body of a response with this `content-length` to its end. Returns the worker and the state of the
    /// call.
    async fn deliver(length: &str, body: &'static str) -> (Arc<WorkerHandle>, State) {
        let sweeper = DeadlineSweeper::start(Duration::from_secs(100), None, 1);
        let call = sweeper.begin(0, Duration::ZERO);
        let failures = RequestFailures::new("test".parse().unwrap(), 1);
        let worker = WorkerHandle::new(0, 0, Heartbeat::new(1), failures, Arc::default());
        assert!(call.take(&worker));
        call.answer();
        let body = http_body_util::Full::from(body).map_err(|never| match never {}).boxed_unsync();
        let response = http::Response::builder().header("content-length", length).body(body);
        let delivery = Delivery::of(response.unwrap(), Some(call.clone())).into_body();
        delivery.collect().await.unwrap();
        (worker, call.state())
    }

    #[tokio::test]
    async fn a_body_shorter_than_its_length_is_a_failed_request() {
        let (worker, state) = deliver("5", "whole").await;
        assert_eq!((worker.failures.last_minute().failed, state), (0, State::Delivered));
        let (worker, _) = deliver("6", "short").await;
        assert_eq!(worker.failures.last_minute().failed, 1);
    }

    #[tokio::test]
    async fn a_call_whose_caller_is_gone_keeps_its_place_for_a_moment() {
        let sweeper = DeadlineSweeper::start(Duration::from_secs(100), None, 1);
        let failures = RequestFailures::new("test".parse().unwrap(), 1);
        let worker = WorkerHandle::new(0, 0, Heartbeat::new(1), failures, Arc::default());
        let (gone, noticed) = (sweeper.begin(0, Duration::ZERO), sweeper.begin(0, Duration::ZERO));
        let [work, noticed_work] = [&gone, &noticed].map(|call| {
            assert!(call.take(&worker));
            let work = call.begin_work();
            call.leave();
            work
        });
        assert_eq!((worker.in_flight(), worker.lingering()), (0, 0));
        drop(noticed_work);
        while worker.lingering() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(worker.lingering(), 1, "the guest of the other one is still at it");
        drop(work);
        assert_eq!(worker.lingering(), 0);
    }

    #[tokio::test]
    async fn a_failure_is_the_one_that_the_worker_noted() {
        let (in_flight, sender, reply) = pending(&datagram());
        in_flight.note(CallFailure::NoCapacity);
        drop(sender);
        assert!(matches!(reply.await, Err(NotServed::Busy(BusyCause::NoRoom))));
    }
}
