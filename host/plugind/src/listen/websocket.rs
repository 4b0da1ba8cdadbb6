//! One WebSocket: its messages between the client and a plugin, its limits, and its end.

mod transport;
mod wire;

use crate::{
    base::{name::SocketName, quantity::Bytes},
    listen::{
        stream::Peer,
        streams::report,
        websocket::{
            transport::{Transport, TransportEnd},
            wire::WebSocketWire,
        },
    },
    pool::{
        Reply,
        call::{BusyCause, Call, NotServed},
        instances::Pool,
    },
    world::client_websocket::{
        ClientWebSocket, HostWebSocket, WebSocketDecision, WebSocketError, WebSocketRequest,
    },
};
use futures::{FutureExt, future::BoxFuture};
use http::{StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The most bytes that are read at a time.
const READ_BUFFER: usize = 4 << 10;
/// The longest time before the end of a plugin's time to stop at which its WebSockets are closed.
const STOP_MARGIN_MAX: Duration = Duration::from_secs(1);

/// The mistake of a plugin that decides at the moment when its time is up.
const LATE: &str = "the plugin did not accept the WebSocket within request-timeout";

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
        report(pool, &origin.socket, origin.peer, &NotServed::Busy(BusyCause::Connections), LATE);
        return Err(NotServed::Busy(BusyCause::Connections));
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
                // The client is answered now. Its place is free when the call of the plugin has ended.
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
    /// Serves it to its end, once the connection, of this version of HTTP, speaks its protocol.
    pub async fn run(
        mut self: Box<Self>,
        upgrade: OnUpgrade,
        closing: CancellationToken,
        origin: WebSocketOrigin,
        version: Version,
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
        let wire = WebSocketWire::new(upgraded, version);
        let stream = WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await;
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
                transport.end(end.error());
                let served = timeout(stop, self.served);
                let (served, ()) = tokio::join!(served, transport.finish(end.code()));
                served.ok()
            }
        };
        if let Some(Err(not_served)) = outcome {
            report(&self.pool, &origin.socket, origin.peer, &not_served, LATE);
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

/// Waits until the WebSockets of a pool have to end, so that its instances end within their time to stop.
async fn stop_is_near(pool: &Pool, closing: &CancellationToken, stop: Duration) {
    tokio::select! {
        () = pool.draining().cancelled() => (),
        () = closing.cancelled() => (),
    }
    sleep(stop - STOP_MARGIN_MAX.min(stop / 4)).await;
}
