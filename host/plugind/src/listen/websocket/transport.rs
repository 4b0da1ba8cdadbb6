//! The messages of a WebSocket between its connection and its plugin.

use crate::{
    listen::websocket::wire::WRITE_TIMEOUT,
    world::{
        client_connection::LATE_BYTES,
        client_websocket::{HostWebSocket, NO_CODE, WebSocketError, WebSocketMessage},
    },
};
use futures::{SinkExt, StreamExt};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// Time without traffic in either direction after which the client is pinged, or is gone if it has a close to confirm.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The time that the client has to confirm a close, when the plugin does not wait for it.
const LINGER: Duration = Duration::from_secs(2);
/// Answers to pings that may wait to be written. A client that sends more pings has to read first.
const PONGS_MAX: usize = 16;
/// The reason that the library puts into a received close whose code must not be sent.
const REFUSED: &str = "Protocol violation";

/// The way in which the client's side ended, or must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransportEnd {
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
    pub(super) fn error(self) -> WebSocketError {
        match self {
            Self::Closed => WebSocketError::Closed,
            Self::Reset => WebSocketError::Reset,
            Self::Idle => WebSocketError::TimedOut,
            Self::GoingAway => WebSocketError::GoingAway,
            Self::Violation(_) => WebSocketError::Protocol,
        }
    }

    /// Returns the close code that the client gets, if it can be reached.
    pub(super) fn code(self) -> Option<CloseCode> {
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
pub(super) struct Transport<S> {
    stream: WebSocketStream<S>,
    host: HostWebSocket,
    idle: Option<Duration>,
    /// When a message came or was sent last.
    used: Instant,
    /// The use after which it was found unused for too long. It is closed if none follows in [`LATE_BYTES`].
    unused_since: Option<Instant>,
    /// When anything came or was sent last.
    heard: Instant,
    is_ping_due: bool,
    /// The plugin has closed, and the client has not confirmed it yet.
    is_closing: bool,
    /// Answers to pings since everything was written last.
    pongs: usize,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Begins to wait for messages.
    pub(super) fn new(
        stream: WebSocketStream<S>,
        host: HostWebSocket,
        idle: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        let mut this = Self {
            stream,
            host,
            idle,
            used: now,
            unused_since: None,
            heard: now,
            is_ping_due: false,
            is_closing: false,
            pongs: 0,
            timer: Box::pin(sleep_until(now)),
        };
        let next = this.next_look();
        this.timer.as_mut().reset(next);
        this
    }

    /// Reports to the guest that no more messages come.
    pub(super) fn end(&mut self, error: WebSocketError) {
        self.host.end(error);
    }

    /// Passes messages in both directions, until no more can come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransportEnd> {
        if self.poll_timer(cx).is_ready() {
            // A message that has come meanwhile counts.
            let used = self.used;
            if let Poll::Ready(end) = self.poll_receive(cx) {
                return Poll::Ready(end);
            }
            if self.used == used || self.poll_timer(cx).is_ready() {
                return Poll::Ready(TransportEnd::Idle);
            }
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
                if self.unused_since == Some(self.used) {
                    return Poll::Ready(());
                }
                self.unused_since = Some(self.used);
                self.timer.as_mut().reset(now + LATE_BYTES);
                continue;
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
                if self.is_closing {
                    // Behind a close nothing may be sent, and the client has had its time to confirm it.
                    let error = ProtocolError::ResetWithoutClosingHandshake;
                    return Poll::Ready(Err(Error::Protocol(error)));
                }
                self.stream.start_send_unpin(Message::Ping(Vec::new().into()))?;
                continue;
            }
            match self.host.outgoing.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    self.host.took(&message);
                    self.is_closing |= matches!(message, WebSocketMessage::Close { .. });
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
    pub(super) async fn finish(&mut self, code: Option<CloseCode>) {
        let Some(code) = code else { return };
        self.host.outgoing.close();
        let left = timeout(WRITE_TIMEOUT, poll_fn(|cx| self.poll_send(cx))).await;
        match left {
            Ok(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => (),
            // The client has closed before it could read the rest.
            Ok(Err(Error::Protocol(ProtocolError::SendAfterClosing))) => (),
            // The client has left, or does not read.
            _ => return,
        }
        let finish = async {
            let frame = CloseFrame { code, reason: "".into() };
            match self.stream.close(Some(frame)).await {
                // One side has closed already. The other one has not confirmed it.
                Ok(()) | Err(Error::Protocol(ProtocolError::SendAfterClosing)) => (),
                Err(_) => return,
            }
            // This also writes what confirms the close of the client.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::client_websocket::{ClientWebSocket, WebSocketRequest};
    use futures::{
        future::{Either, select},
        poll,
    };
    use std::pin::pin;
    use tokio::{
        io::{DuplexStream, duplex},
        time::advance,
    };
    use tokio_tungstenite::tungstenite::protocol::Role;

    const IDLE: Duration = Duration::from_secs(9);

    async fn poll_once(transport: &mut Transport<DuplexStream>) -> Poll<TransportEnd> {
        poll!(poll_fn(|cx| transport.poll(cx)))
    }

    /// A WebSocket of a guest that has accepted it, and its client.
    async fn open(
        idle: Option<Duration>,
    ) -> (ClientWebSocket, Transport<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (client, server) = duplex(1 << 10);
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let (guest, host) = ClientWebSocket::new(WebSocketRequest::default());
        guest.accept(None).unwrap();
        (guest, Transport::new(server, host, idle), client)
    }

    /// Has the guest send a close.
    async fn send_close(guest: &ClientWebSocket, transport: &mut Transport<DuplexStream>) {
        let close = WebSocketMessage::Close { code: 4001, reason: String::new() };
        let send = pin!(guest.send(close));
        let sent = select(send, poll_fn(|cx| transport.poll(cx))).await;
        assert!(matches!(sent, Either::Left((Ok(()), _))));
    }

    fn close_of(code: u16) -> Option<CloseFrame> {
        Some(CloseFrame { code: code.into(), reason: "".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_closes_and_returns_leaves_the_client_time_to_confirm() {
        let (guest, mut transport, mut client) = open(None).await;
        send_close(&guest, &mut transport).await;
        let mut finishing = pin!(transport.finish(Some(CloseCode::Normal)));
        assert!(poll!(&mut finishing).is_pending(), "the client has not confirmed it");
        client.next().await.unwrap().unwrap();
        assert!(poll!(&mut finishing).is_pending(), "the client has not left");
        client.flush().await.unwrap();
        drop(client);
        assert!(timeout(LINGER / 2, finishing).await.is_ok());
    }

    #[tokio::test]
    async fn a_close_of_the_client_is_confirmed_although_a_message_waits() {
        let (guest, mut transport, mut client) = open(None).await;
        let mut sending = pin!(guest.send(WebSocketMessage::Text("late".to_owned())));
        assert!(poll!(&mut sending).is_pending());
        client.send(Message::Close(close_of(4002))).await.unwrap();
        assert!(matches!(poll_once(&mut transport).await, Poll::Ready(TransportEnd::Closed)));
        let finish = async {
            transport.finish(Some(CloseCode::Normal)).await;
            drop(transport);
        };
        let reads = async {
            let confirmed = client.next().await.unwrap().unwrap();
            assert_eq!(confirmed, Message::Close(close_of(4002)));
            assert!(client.next().await.is_none());
            drop(client);
        };
        tokio::join!(finish, reads);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_confirms_a_close_has_gone_and_broken_no_protocol() {
        let (guest, mut transport, _client) = open(None).await;
        send_close(&guest, &mut transport).await;
        advance(PING_EVERY / 2).await;
        assert!(poll_once(&mut transport).await.is_pending());
        advance(PING_EVERY / 2).await;
        assert!(matches!(poll_once(&mut transport).await, Poll::Ready(TransportEnd::Reset)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_came_while_the_machine_stood_still_keeps_a_websocket_open() {
        let (guest, mut transport, mut client) = open(Some(IDLE)).await;
        assert!(poll_once(&mut transport).await.is_pending());
        advance(2 * IDLE).await;
        client.send(Message::text("late")).await.unwrap();
        assert!(poll_once(&mut transport).await.is_pending());
        advance(LATE_BYTES).await;
        assert!(poll_once(&mut transport).await.is_pending(), "a message came");
        guest.receive().await.unwrap();
        advance(IDLE).await;
        assert!(poll_once(&mut transport).await.is_pending());
        advance(LATE_BYTES).await;
        client.send(Message::text("very late")).await.unwrap();
        assert!(poll_once(&mut transport).await.is_pending());
        advance(IDLE).await;
        assert!(poll_once(&mut transport).await.is_pending());
        advance(LATE_BYTES).await;
        assert!(matches!(poll_once(&mut transport).await, Poll::Ready(TransportEnd::Idle)));
    }
}
