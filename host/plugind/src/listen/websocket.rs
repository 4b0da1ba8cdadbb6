//! One WebSocket: its messages between the client and a plugin, its limits, and its end.

use crate::{
    base::{name::SocketName, quantity::Bytes},
    listen::{stream::Peer, streams::report},
    pool::{
        Reply,
        call::{Call, NotServed},
        instances::Pool,
    },
    world::client_websocket::{
        ClientWebSocket, HostWebSocket, NO_CODE, WebSocketDecision, WebSocketError,
        WebSocketMessage, WebSocketRequest,
    },
};
use futures::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// After so long without anything in either direction the client is pinged.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The time that the client may take to read the data that was sent last.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that the client has to confirm a close.
const LINGER: Duration = Duration::from_secs(2);
/// The most bytes that are read at a time.
const READ_BUFFER: usize = 4 << 10;
/// Answers to pings that may wait to be written. A client that sends more pings has to read first.
const PONGS_MAX: usize = 16;
/// The reason that the library writes in the place of that of a close with a code that must not be sent.
const REFUSED: &str = "Protocol violation";
/// The longest time before the end of a plugin's time to stop at which its WebSockets are closed.
const STOP_MARGIN_MAX: Duration = Duration::from_secs(1);

/// Where a WebSocket comes from, for the log.
#[derive(Clone)]
pub struct WebSocketOrigin {
    /// The socket.
    pub socket: SocketName,
    /// The client.
    pub peer: Peer,
}

/// A plugin's answer to a request for a WebSocket.
pub enum Opening {
    /// It accepts.
    Accepted(Box<AcceptedWebSocket>),
    /// It refuses with this status.
    Refused(StatusCode),
}

/// A WebSocket that a plugin accepts, before the client knows.
pub struct AcceptedWebSocket {
    /// The subprotocol that the plugin chose from those that the client offers.
    pub subprotocol: Option<String>,
    pool: Arc<Pool>,
    host: HostWebSocket,
    served: Served,
    _place: OwnedSemaphorePermit,
}

/// The plugin's call.
type Served = BoxFuture<'static, Result<Reply, NotServed>>;

/// Asks a plugin whether it accepts a WebSocket.
///
/// # Errors
/// When the plugin does not decide.
pub async fn open(
    pool: &Arc<Pool>,
    request: WebSocketRequest,
    origin: &WebSocketOrigin,
) -> Result<Opening, NotServed> {
    let Some(place) = pool.connection_place() else {
        report(pool, &origin.socket, origin.peer, &NotServed::Busy);
        return Err(NotServed::Busy);
    };
    let (guest, mut host) = ClientWebSocket::new(request);
    let mut served: Served = {
        let pool = pool.clone();
        async move { pool.call(Call::WebSocket(guest)).await }.boxed()
    };
    let decision = tokio::select! {
        biased;
        decision = &mut host.decision => decision.ok(),
        ended = &mut served => {
            // It may have decided in its last turn.
            match host.decision.try_recv() {
                Ok(Some(decision)) => {
                    served = std::future::ready(ended).boxed();
                    Some(decision)
                }
                _ => return ended.map(|_| Opening::Refused(StatusCode::FORBIDDEN)),
            }
        }
    };
    match decision {
        Some(WebSocketDecision::Accept(subprotocol)) => {
            let pool = pool.clone();
            let accepted = AcceptedWebSocket { subprotocol, pool, host, served, _place: place };
            Ok(Opening::Accepted(Box::new(accepted)))
        }
        Some(WebSocketDecision::Refuse(status)) => {
            let stop = pool.linked().release.manifest.service.timeout_stop;
            tokio::spawn(async move {
                // Other work of the plugin is not waited for.
                timeout(stop, served).await.ok();
                drop(place);
            });
            Ok(Opening::Refused(status))
        }
        None => served.await.map(|_| Opening::Refused(StatusCode::FORBIDDEN)),
    }
}

/// The part that ended first.
enum FirstEnd {
    Plugin(Result<Reply, NotServed>),
    Client(TransportEnd),
}

impl AcceptedWebSocket {
    /// Serves it to its end, once the connection speaks its protocol.
    pub async fn run(
        mut self: Box<Self>,
        upgrade: OnUpgrade,
        closing: CancellationToken,
        origin: WebSocketOrigin,
    ) {
        let manifest = &self.pool.linked().release.manifest;
        let (idle, stop) = (manifest.limits.idle_timeout, manifest.service.timeout_stop);
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                debug!(peer = %origin.peer, %error, "connection ended");
                self.host.end(WebSocketError::Reset);
                // The guest learns of it, and has some time to end.
                timeout(stop, self.served).await.ok();
                return;
            }
        };
        let config = config(manifest.limits.message_max);
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
        let mut transport = Transport::new(stream, self.host, idle);
        let first = tokio::select! {
            biased;
            ended = &mut self.served => FirstEnd::Plugin(ended),
            end = poll_fn(|cx| transport.poll(cx)) => FirstEnd::Client(end),
            () = stop_is_near(&self.pool, &closing, stop) => {
                FirstEnd::Client(TransportEnd::GoingAway)
            }
        };
        let outcome = match first {
            FirstEnd::Plugin(outcome) => {
                let code = match &outcome {
                    Ok(_) => CloseCode::Normal,
                    Err(_) if self.pool.draining().is_cancelled() => CloseCode::Away,
                    Err(_) => CloseCode::Error,
                };
                transport.finish(Some(code)).await;
                Some(outcome)
            }
            FirstEnd::Client(end) => {
                transport.host.end(end.error());
                let served = timeout(stop, self.served);
                let (served, ()) = tokio::join!(served, transport.finish(end.code()));
                served.ok()
            }
        };
        if let Some(Err(not_served)) = outcome {
            report(&self.pool, &origin.socket, origin.peer, &not_served);
        }
    }
}

/// Returns the settings for reading and writing messages.
fn config(Bytes(message_max): Bytes) -> WebSocketConfig {
    let max = usize::try_from(message_max).unwrap_or(usize::MAX);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Each message is on its way before the next one is taken.
        .write_buffer_size(0)
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
}

/// Waits until what lasts in a pool has to end, so that its instances end in their time to stop.
async fn stop_is_near(pool: &Pool, closing: &CancellationToken, stop: Duration) {
    tokio::select! {
        () = pool.draining().cancelled() => (),
        () = closing.cancelled() => (),
    }
    sleep(stop - STOP_MARGIN_MAX.min(stop / 4)).await;
}

/// The way in which the client's side ended, or must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransportEnd {
    /// Both sides have closed, or the client has.
    Closed,
    /// The connection ended without a close.
    Reset,
    /// Nothing was sent in either direction for too long.
    Idle,
    /// The plugin or the daemon stops.
    GoingAway,
    /// The client broke the protocol.
    Violation(CloseCode),
}

impl TransportEnd {
    /// Returns the error that the guest gets.
    fn error(self) -> WebSocketError {
        match self {
            Self::Closed => WebSocketError::Closed,
            Self::Reset => WebSocketError::Reset,
            Self::Idle => WebSocketError::TimedOut,
            Self::GoingAway => WebSocketError::GoingAway,
            Self::Violation(_) => WebSocketError::Protocol,
        }
    }

    /// Returns the close code that the client gets, if it can be reached.
    fn code(self) -> Option<CloseCode> {
        match self {
            // It has confirmed, or is confirmed.
            Self::Closed => Some(CloseCode::Normal),
            Self::Reset => None,
            Self::Idle | Self::GoingAway => Some(CloseCode::Away),
            Self::Violation(code) => Some(code),
        }
    }
}

impl From<Error> for TransportEnd {
    fn from(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed,
            Error::Capacity(_) => Self::Violation(CloseCode::Size),
            Error::Utf8(_) => Self::Violation(CloseCode::Invalid),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Reset,
            Error::Protocol(_) => Self::Violation(CloseCode::Protocol),
            _ => Self::Reset,
        }
    }
}

/// A WebSocket between its connection and its plugin.
struct Transport<S> {
    stream: WebSocketStream<S>,
    host: HostWebSocket,
    idle: Option<Duration>,
    /// When a message came or was sent last.
    used: Instant,
    /// When anything came or was sent last.
    heard: Instant,
    is_ping_due: bool,
    /// Answers to pings since everything was written last.
    pongs: usize,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    fn new(stream: WebSocketStream<S>, host: HostWebSocket, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        let mut this = Self {
            stream,
            host,
            idle,
            used: now,
            heard: now,
            is_ping_due: false,
            pongs: 0,
            timer: Box::pin(sleep_until(now)),
        };
        let next = this.next_look();
        this.timer.as_mut().reset(next);
        this
    }

    /// Passes messages in both directions, until no more can come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransportEnd> {
        if self.poll_timer(cx).is_ready() {
            return Poll::Ready(TransportEnd::Idle);
        }
        // A message that waits in one direction must not block the other direction.
        if let Poll::Ready(end) = self.poll_receive(cx) {
            return Poll::Ready(end);
        }
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error.into()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// When it has to be looked at next; a limit may be infinite.
    fn next_look(&self) -> Instant {
        let idle = self.idle.and_then(|idle| self.used.checked_add(idle));
        let ping = self.heard + PING_EVERY;
        idle.map_or(ping, |idle| idle.min(ping))
    }

    /// Ready when it was not used for too long. Messages do not touch the timer, which looks again when it goes off.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.idle.is_some_and(|idle| now.duration_since(self.used) >= idle) {
                return Poll::Ready(());
            }
            if now.duration_since(self.heard) >= PING_EVERY {
                (self.is_ping_due, self.heard) = (true, now);
            }
            let next = self.next_look();
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// Reads as long as the guest has room for a message.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<TransportEnd> {
        loop {
            if ready!(self.host.incoming.poll_ready(cx)).is_err() {
                return Poll::Ready(TransportEnd::Closed);
            }
            if self.pongs >= PONGS_MAX
                && let Err(error) = ready!(self.poll_flush(cx))
            {
                return Poll::Ready(error.into());
            }
            let message = match ready!(self.stream.poll_next_unpin(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(error.into()),
                None => return Poll::Ready(TransportEnd::Closed),
            };
            if is_refused(&message) {
                return Poll::Ready(TransportEnd::Violation(CloseCode::Protocol));
            }
            self.heard = Instant::now();
            self.pongs += usize::from(message.is_ping());
            let Some(message) = received(message) else { continue };
            self.used = self.heard;
            let is_last = matches!(message, WebSocketMessage::Close { .. });
            self.host.give(message);
            if is_last {
                return Poll::Ready(TransportEnd::Closed);
            }
        }
    }

    /// Writes what the guest sends. Ready when it sends no more, and all of it is written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let is_last = loop {
            ready!(self.stream.poll_ready_unpin(cx))?;
            if std::mem::take(&mut self.is_ping_due) {
                self.stream.start_send_unpin(Message::Ping(Vec::new().into()))?;
                continue;
            }
            match self.host.outgoing.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    self.host.took(&message);
                    self.stream.start_send_unpin(sent(message))?;
                }
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
            self.used = Instant::now();
            self.heard = self.used;
        };
        ready!(self.poll_flush(cx))?;
        if is_last { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Ready when everything is written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.stream.poll_flush_unpin(cx))?;
        self.pongs = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what is left, closes with this code unless the guest has sent a close, and waits for the client to confirm.
    async fn finish(&mut self, code: Option<CloseCode>) {
        let Some(code) = code else { return };
        self.host.outgoing.close();
        let left = timeout(WRITE_TIMEOUT, poll_fn(|cx| self.poll_send(cx))).await;
        // The client has left, or does not read.
        let Ok(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) = left else { return };
        let finish = async {
            // After a close of either side this only writes what there is to be written.
            let frame = CloseFrame { code, reason: "".into() };
            if self.stream.close(Some(frame)).await.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.stream.next().await {}
            // Further data of the client is dropped: because of unread bytes, the kernel would discard the data that
            // was written.
            let connection = self.stream.get_mut();
            connection.shutdown().await.ok();
            let mut dropped = [0; 512];
            while let Ok(1..) = connection.read(&mut dropped).await {}
        };
        // It has had its time.
        timeout(LINGER, finish).await.ok();
    }
}

/// Whether this is what the library makes of a close with a code that must not be sent (RFC 6455, 7.4): to the plugin it
/// is a client that broke the protocol, and not one that closes with 1002.
fn is_refused(message: &Message) -> bool {
    let Message::Close(Some(frame)) = message else { return false };
    frame.code == CloseCode::Protocol && frame.reason.as_str() == REFUSED
}

/// A message of the client, for the guest; none if it is not for it.
fn received(message: Message) -> Option<WebSocketMessage> {
    Some(match message {
        Message::Text(text) => WebSocketMessage::Text(text.as_str().to_owned()),
        Message::Binary(bytes) => WebSocketMessage::Binary(bytes.into()),
        Message::Close(frame) => {
            let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                (frame.code.into(), frame.reason.as_str().to_owned())
            });
            WebSocketMessage::Close { code, reason }
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return None,
    })
}

/// A message of the guest, for the client.
fn sent(message: WebSocketMessage) -> Message {
    match message {
        WebSocketMessage::Text(text) => Message::Text(text.into()),
        WebSocketMessage::Binary(bytes) => Message::Binary(bytes.into()),
        WebSocketMessage::Close { code: NO_CODE, .. } => Message::Close(None),
        WebSocketMessage::Close { code, reason } => {
            Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
        }
    }
}
