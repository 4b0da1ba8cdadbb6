//! One WebSocket, as a guest has it and as the host does, and the messages between the two.
//!
//! The host keeps one message for the guest, and takes one from it at a time: the slower side makes the other side
//! wait.

use crate::{
    base::figures::CoreFigures,
    world::heartbeat::{Heartbeat, ServerHeartbeat},
};
use futures::{
    SinkExt, StreamExt,
    channel::{mpsc, oneshot},
};
use http::StatusCode;
use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

/// The longest reason of a close, in bytes (RFC 6455, 5.5).
const REASON_MAX: usize = 123;
/// A close without a code.
pub const NO_CODE: u16 = 1005;

/// A request for a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocketRequest {
    /// The socket on which it came.
    pub socket: String,
    /// The path with the query, as the plugin sees it.
    pub path: String,
    /// The host, as the client wrote it.
    pub host: String,
    /// The subprotocols that the client offers.
    pub subprotocols: Vec<String>,
    /// The header.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A message, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// The end.
    Close {
        /// The code of RFC 6455, 7.4.
        code: u16,
        /// The reason, as text.
        reason: String,
    },
}

impl WebSocketMessage {
    /// The bytes that the host keeps while it waits.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close { reason, .. } => reason.len(),
        }
    }
}

/// A guest's answer to a request for a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketDecision {
    /// It is accepted, with this subprotocol.
    Accept(Option<String>),
    /// It is refused.
    Refuse(StatusCode),
}

/// Why nothing is received or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketError {
    /// The client or the network broke the connection.
    Reset,
    /// It was not used for too long.
    TimedOut,
    /// It is closed, or not open yet.
    Closed,
    /// The host closes it, because the plugin or the daemon stops.
    GoingAway,
    /// The client broke the protocol.
    Protocol,
    /// Another call in this direction is in progress.
    Busy,
    /// The argument is not allowed.
    Invalid,
}

/// A WebSocket, as a guest has it.
#[derive(Clone)]
pub struct ClientWebSocket(Arc<WebSocketState>);

struct WebSocketState {
    request: WebSocketRequest,
    decision: Mutex<Option<oneshot::Sender<WebSocketDecision>>>,
    /// Called once the guest has accepted or refused the request.
    on_decision: OnceLock<Box<dyn Fn() + Send + Sync>>,
    is_accepted: AtomicBool,
    /// The guest has sent a close.
    is_finished: AtomicBool,
    incoming: tokio::sync::Mutex<mpsc::Receiver<WebSocketMessage>>,
    outgoing: tokio::sync::Mutex<mpsc::Sender<WebSocketMessage>>,
    /// Why no more messages come, and none are taken.
    end: OnceLock<WebSocketError>,
    /// The bytes of the messages that wait, in either direction.
    waiting: AtomicUsize,
    /// Where messages are counted.
    figures: OnceLock<Arc<CoreFigures>>,
    heartbeat: ServerHeartbeat,
}

/// A WebSocket, as the host has it.
pub struct HostWebSocket {
    state: Arc<WebSocketState>,
    /// The decision of the guest; none if its call ends before it decides.
    pub decision: oneshot::Receiver<WebSocketDecision>,
    /// Where messages of the client go.
    pub incoming: mpsc::Sender<WebSocketMessage>,
    /// Where those of the guest come from.
    pub outgoing: mpsc::Receiver<WebSocketMessage>,
}

impl HostWebSocket {
    /// Gives the guest a message, for which `incoming` has room.
    pub fn give(&mut self, message: WebSocketMessage) {
        let bytes = message.bytes();
        self.state.waiting.fetch_add(bytes, Relaxed);
        if self.incoming.start_send(message).is_err() {
            self.state.waiting.fetch_sub(bytes, Relaxed);
        }
    }

    /// Counts a message of the guest that was taken.
    pub fn took(&self, message: &WebSocketMessage) {
        self.state.waiting.fetch_sub(message.bytes(), Relaxed);
        self.state.heartbeat.beat();
        if let Some(figures) = self.state.figures.get() {
            figures.sent.add(message.bytes() as u64);
        }
    }

    /// Says why no more messages come, and none are taken. What has come can still be received.
    pub fn end(&mut self, why: WebSocketError) {
        // The first reason counts.
        self.state.end.set(why).ok();
        self.incoming.close_channel();
        self.outgoing.close();
    }
}

impl fmt::Debug for ClientWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientWebSocket").field(&self.0.request.path).finish()
    }
}

impl ClientWebSocket {
    /// One for which a client asks, and the host's part of it.
    #[must_use]
    pub fn new(request: WebSocketRequest) -> (Self, HostWebSocket) {
        let (sender, decision) = oneshot::channel();
        let (to_guest, incoming) = mpsc::channel(0);
        let (from_guest, outgoing) = mpsc::channel(0);
        let state = Arc::new(WebSocketState {
            request,
            decision: Mutex::new(Some(sender)),
            on_decision: OnceLock::new(),
            is_accepted: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            incoming: tokio::sync::Mutex::new(incoming),
            outgoing: tokio::sync::Mutex::new(from_guest),
            end: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            figures: OnceLock::new(),
            heartbeat: ServerHeartbeat::default(),
        });
        (Self(state.clone()), HostWebSocket { state, decision, incoming: to_guest, outgoing })
    }

    /// Returns the request of the client.
    #[must_use]
    pub fn request(&self) -> &WebSocketRequest {
        &self.0.request
    }

    /// Calls `decided` when the guest accepts or refuses the request, before that call of the guest returns.
    pub fn on_decision(&self, decided: impl Fn() + Send + Sync + 'static) {
        // One instance serves it.
        self.0.on_decision.set(Box::new(decided)).ok();
    }

    /// Counts messages in these figures, unless they are counted in others.
    pub fn count_in(&self, figures: &Arc<CoreFigures>) {
        self.0.figures.set(figures.clone()).ok();
    }

    /// Has what is transferred be a heartbeat of the instance that serves it.
    pub fn beat_with(&self, heartbeat: &Arc<Heartbeat>) {
        self.0.heartbeat.set(heartbeat);
    }

    /// The bytes of the messages that wait, in either direction.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    fn decide(&self, decision: WebSocketDecision) -> Result<(), WebSocketError> {
        let sender = self.0.decision.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sent = sender.ok_or(WebSocketError::Closed)?.send(decision);
        if let Some(decided) = self.0.on_decision.get() {
            decided();
        }
        // The client may have left.
        sent.map_err(|_| WebSocketError::Closed)
    }

    /// Accepts the request.
    ///
    /// # Errors
    /// When the client does not offer this subprotocol, or the guest has decided before.
    pub fn accept(&self, subprotocol: Option<String>) -> Result<(), WebSocketError> {
        let is_offered = |chosen: &String| self.0.request.subprotocols.contains(chosen);
        if subprotocol.as_ref().is_some_and(|chosen| !is_offered(chosen)) {
            return Err(WebSocketError::Invalid);
        }
        self.0.is_accepted.store(true, Release);
        self.decide(WebSocketDecision::Accept(subprotocol))
    }

    /// Refuses the request.
    ///
    /// # Errors
    /// When the status is neither 4xx nor 5xx, or the guest has decided before.
    pub fn refuse(&self, status: u16) -> Result<(), WebSocketError> {
        let status = StatusCode::from_u16(status).map_err(|_| WebSocketError::Invalid)?;
        if !status.is_client_error() && !status.is_server_error() {
            return Err(WebSocketError::Invalid);
        }
        self.decide(WebSocketDecision::Refuse(status))
    }

    fn ended(&self) -> WebSocketError {
        self.0.end.get().copied().unwrap_or(WebSocketError::Closed)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// When another call waits, or no more messages come.
    pub async fn receive(&self) -> Result<WebSocketMessage, WebSocketError> {
        if !self.0.is_accepted.load(Acquire) {
            return Err(WebSocketError::Closed);
        }
        let mut incoming = self.0.incoming.try_lock().map_err(|_| WebSocketError::Busy)?;
        let message = incoming.next().await.ok_or_else(|| self.ended())?;
        self.0.waiting.fetch_sub(message.bytes(), Relaxed);
        self.0.heartbeat.beat();
        if let Some(figures) = self.0.figures.get() {
            figures.received.add(message.bytes() as u64);
        }
        Ok(message)
    }

    /// Sends a message, and waits until the host has it.
    ///
    /// # Errors
    /// When another call waits, the message is not allowed, or no more are taken.
    pub async fn send(&self, message: WebSocketMessage) -> Result<(), WebSocketError> {
        if !self.0.is_accepted.load(Acquire) {
            return Err(WebSocketError::Closed);
        }
        if !is_allowed(&message) {
            return Err(WebSocketError::Invalid);
        }
        let mut outgoing = self.0.outgoing.try_lock().map_err(|_| WebSocketError::Busy)?;
        let is_last = matches!(message, WebSocketMessage::Close { .. });
        if self.0.is_finished.fetch_or(is_last, AcqRel) {
            return Err(WebSocketError::Closed);
        }
        poll_fn(|cx| outgoing.poll_ready(cx)).await.map_err(|_| self.ended())?;
        // From here on the host has it, even if nobody waits for the end of this call.
        let bytes = message.bytes();
        self.0.waiting.fetch_add(bytes, Relaxed);
        if outgoing.start_send(message).is_err() {
            self.0.waiting.fetch_sub(bytes, Relaxed);
            return Err(self.ended());
        }
        outgoing.flush().await.map_err(|_| self.ended())
    }
}

/// Whether a plugin may send this. Some codes are never sent, others are not defined (RFC 6455, 7.4).
fn is_allowed(message: &WebSocketMessage) -> bool {
    let WebSocketMessage::Close { code, reason } = message else { return true };
    match code {
        &NO_CODE => reason.is_empty(),
        1000..=1003 | 1007..=1014 | 3000..=4999 => reason.len() <= REASON_MAX,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, poll};

    fn websocket() -> (ClientWebSocket, HostWebSocket) {
        let subprotocols = vec!["chat.v1".to_owned()];
        ClientWebSocket::new(WebSocketRequest { subprotocols, ..WebSocketRequest::default() })
    }

    fn text(text: &str) -> WebSocketMessage {
        WebSocketMessage::Text(text.to_owned())
    }

    fn close(code: u16, reason: &str) -> WebSocketMessage {
        WebSocketMessage::Close { code, reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn a_guest_decides_once_and_within_what_the_client_offers() {
        let (guest, host) = websocket();
        let decided = Arc::new(AtomicUsize::new(0));
        let counted = decided.clone();
        guest.on_decision(move || {
            counted.fetch_add(1, Relaxed);
        });
        assert_eq!(guest.receive().await, Err(WebSocketError::Closed), "it is not open yet");
        assert_eq!(guest.accept(Some("other".to_owned())), Err(WebSocketError::Invalid));
        for status in [0, 101, 200, 302, 600] {
            assert_eq!(guest.refuse(status), Err(WebSocketError::Invalid), "{status}");
        }
        assert_eq!(decided.load(Relaxed), 0);
        assert_eq!(guest.accept(Some("chat.v1".to_owned())), Ok(()));
        assert_eq!(guest.refuse(403), Err(WebSocketError::Closed));
        assert_eq!(decided.load(Relaxed), 1);
        let accepted = WebSocketDecision::Accept(Some("chat.v1".to_owned()));
        assert_eq!(host.decision.await, Ok(accepted));
    }

    #[tokio::test]
    async fn one_message_waits_in_each_direction_and_the_next_one_with_its_sender() {
        let (guest, mut host) = websocket();
        guest.accept(None).unwrap();
        host.incoming.send(text("first")).now_or_never();
        let mut second = Box::pin(host.incoming.send(text("second")));
        assert!(poll!(second.as_mut()).is_pending());
        drop(second);
        assert_eq!(guest.receive().await, Ok(text("first")));

        let other = guest.clone();
        let mut sends = Box::pin(other.send(text("out")));
        assert!(poll!(sends.as_mut()).is_pending());
        assert_eq!(guest.send(text("beside it")).await, Err(WebSocketError::Busy));
        assert_eq!(host.outgoing.next().await, Some(text("out")));
        assert_eq!(sends.await, Ok(()));
    }

    #[tokio::test]
    async fn the_bytes_of_messages_that_wait_are_known() {
        let (guest, mut host) = websocket();
        guest.accept(None).unwrap();
        poll_fn(|cx| host.incoming.poll_ready(cx)).await.unwrap();
        host.give(text("four"));
        let other = guest.clone();
        let mut sends = Box::pin(other.send(text("sixsix")));
        assert!(poll!(sends.as_mut()).is_pending());
        assert_eq!(guest.waiting(), 10);
        guest.receive().await.unwrap();
        assert_eq!(guest.waiting(), 6);
        // A call that is not waited for any more has handed its message over.
        drop(sends);
        let sent = host.outgoing.next().await.unwrap();
        host.took(&sent);
        assert_eq!((sent, guest.waiting()), (text("sixsix"), 0));
    }

    #[tokio::test]
    async fn after_a_close_nothing_is_sent_and_the_end_says_why() {
        let (guest, mut host) = websocket();
        guest.accept(None).unwrap();
        for (code, reason) in
            [(999, ""), (1004, ""), (1005, "x"), (1006, ""), (1015, ""), (5000, "")]
        {
            assert_eq!(
                guest.send(close(code, reason)).await,
                Err(WebSocketError::Invalid),
                "{code}"
            );
        }
        let long = "x".repeat(REASON_MAX + 1);
        assert_eq!(guest.send(close(1000, &long)).await, Err(WebSocketError::Invalid));
        let (sent, taken) = tokio::join!(guest.send(close(4000, "done")), host.outgoing.next());
        assert_eq!((sent, taken), (Ok(()), Some(close(4000, "done"))));
        assert_eq!(guest.send(text("late")).await, Err(WebSocketError::Closed));

        host.incoming.send(text("last")).now_or_never();
        host.end(WebSocketError::GoingAway);
        host.end(WebSocketError::Reset);
        assert_eq!(guest.receive().await, Ok(text("last")));
        assert_eq!(guest.receive().await, Err(WebSocketError::GoingAway));
    }
}
