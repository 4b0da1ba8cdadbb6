//! The sockets of one name while connections are accepted from them, and afterwards until their connections have ended.

use crate::{
    base::name::SocketName,
    config::settings::ConnectionSetting,
    listen::{
        accept::accept,
        datagram_socket::DatagramSocket,
        datagrams::DatagramServer,
        opening::HttpUse,
        places::{LimitsReached, Place, Places},
        sockets::ListenSockets,
        stream::{Peer, Stream, StreamListener},
    },
    route::sockets::{SocketPlan, SocketUse},
    runtime::executors::Executors,
};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use std::{io, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A connection that was accepted.
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// The peer.
    pub peer: Peer,
    /// The socket from which it was accepted.
    pub socket: SocketName,
    /// The HTTP settings of the connection.
    pub how: Arc<HttpUse>,
    /// Its place among the connections of the socket, and when no more requests are wanted.
    pub place: Place,
}

/// Serves the connections of a protocol.
pub type Server = Arc<dyn Fn(Accepted) -> BoxFuture<'static, ()> + Send + Sync>;

/// The sockets of one name while they are accepted from.
pub(super) struct OpenSockets {
    pub(super) socket: SocketName,
    pub(super) used_for: SocketUse,
    pub(super) setting: ConnectionSetting,
    /// The HTTP settings of the next connection.
    pub(super) how: Arc<ArcSwap<HttpUse>>,
    pub(super) closing: CancellationToken,
    /// Those of each socket.
    pub(super) places: Vec<Places>,
}

/// Sockets from which nothing is accepted any more.
pub struct ClosedSockets(pub(super) Vec<OpenSockets>);

impl ClosedSockets {
    /// Waits until none of their connections is left, but no longer than `wait_max`. False if some are.
    pub async fn drained(self, wait_max: Duration) -> bool {
        let places = self.0.iter().flat_map(|open| &open.places);
        let drained = futures::future::join_all(places.map(Places::drained));
        timeout(wait_max, drained).await.is_ok()
    }
}

/// The servers of the sockets of a name, and where they run.
pub(super) struct SocketService<'a> {
    pub(super) executors: Executors,
    pub(super) server: &'a Server,
    /// The server for datagram sockets.
    pub(super) datagrams: Option<&'a DatagramServer>,
    pub(super) limits: &'a LimitsReached,
}

impl OpenSockets {
    /// Accepts from all sockets of a name from now on.
    pub(super) fn open(
        name: &SocketName,
        used_for: SocketUse,
        plan: &SocketPlan,
        sockets: &ListenSockets,
        how: &SocketService<'_>,
    ) -> io::Result<Self> {
        let SocketService { executors, server, datagrams, limits } = how;
        // All of them before the first one accepts: one that fails leaves nothing behind.
        let opened = sockets.of(name).iter().enumerate().map(|(number, socket)| {
            let executor = executors.core(number);
            let _entered = executor.enter();
            Ok((executor, StreamListener::of(socket)?, DatagramSocket::of(socket, name.clone())?))
        });
        let opened = opened.collect::<io::Result<Vec<_>>>()?;
        let mut open = Self {
            socket: name.clone(),
            used_for,
            setting: plan.connections(name),
            how: Arc::new(ArcSwap::from_pointee(http_use(plan, name))),
            closing: CancellationToken::new(),
            places: Vec::new(),
        };
        for (executor, listener, socket) in opened {
            let places = Places::new(name.clone(), &open.setting, (*limits).clone());
            open.places.push(places.clone());
            let closing = open.closing.clone();
            if let Some(listener) = listener {
                let (name, executors) = (name.clone(), executors.clone());
                let (how, server) = (open.how.clone(), (*server).clone());
                executor.spawn(run(name, listener, how, closing, places, executors, server));
            } else if let (Some(socket), Some(server)) = (socket, datagrams) {
                let (served, place) = (server(socket, closing), places.take());
                executor.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
        }
        Ok(open)
    }

    /// Whether connections are left.
    pub(super) fn is_in_use(&self) -> bool {
        self.places.iter().any(Places::are_taken)
    }
}

impl Drop for OpenSockets {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Returns the HTTP settings of the sockets of a name.
pub(super) fn http_use(plan: &SocketPlan, name: &SocketName) -> HttpUse {
    let setting = plan.http.get(name).cloned().unwrap_or_default();
    let (tls, connections) = (plan.tls.get(name).cloned(), plan.connections(name));
    HttpUse { setting: Arc::new(setting), tls, connections }
}

async fn run(
    name: SocketName,
    listener: StreamListener,
    how: Arc<ArcSwap<HttpUse>>,
    closing: CancellationToken,
    places: Places,
    executors: Executors,
    server: Server,
) {
    let socket = name.clone();
    let serve = Arc::new(move |stream, peer, place| {
        let (socket, how) = (socket.clone(), how.load_full());
        server(Accepted { stream, peer, socket, how, place })
    });
    accept(name.as_str(), listener, &closing, &places, &executors, serve).await;
}
