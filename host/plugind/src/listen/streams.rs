//! Connections that plugins serve as they are.

use crate::{
    base::name::SocketName,
    listen::{
        given_back::GivenBack,
        socket_service::{Accepted, Server},
        stream::{DetachedStream, Peer},
    },
    pool::{
        Reply,
        call::{BusyCause, Call, NotServed},
        instances::Pool,
    },
    route::table::TableReader,
    world::{
        client_address::{ClientAddress, Process},
        client_connection::ClientConnection,
    },
};
use futures::FutureExt;
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// Time that a peer may continue to send on a connection that the plugin has closed.
const LINGER: Duration = Duration::from_secs(2);
/// The mistake of a plugin that uses a connection for too long.
const LATE: &str = "the plugin did not return after idle-timeout had closed the connection";

/// Has plugins serve the connections of their sockets.
#[must_use]
pub fn server(reader: TableReader) -> Server {
    Arc::new(move |accepted| serve(accepted, reader.clone()).boxed())
}

async fn serve(accepted: Accepted, reader: TableReader) {
    let Accepted { stream, peer, socket, .. } = accepted;
    let client = match peer {
        Peer::Tcp(address) => ClientAddress::Ip(address),
        Peer::Unix { pid, uid, gid } => {
            let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
            ClientAddress::Unix(Some(Process { pid, uid, gid }))
        }
        Peer::Unknown => ClientAddress::Unix(None),
    };
    let connection = match stream.detach() {
        Ok(DetachedStream::Tcp(stream)) => ClientConnection::new(stream, client, socket.clone()),
        Ok(DetachedStream::Unix(stream)) => ClientConnection::new(stream, client, socket.clone()),
        Err(error) => return debug!(%peer, %error, "cannot serve connection"),
    };
    let mut given_back = GivenBack::none();
    loop {
        let pool = reader.table().whole_socket(&socket).and_then(|entry| entry.pool.clone());
        let Some(pool) = pool else { break };
        if !given_back.allows(&pool) {
            report(&pool, &socket, peer, &NotServed::Busy(BusyCause::Replaced), LATE);
            break;
        }
        match in_pool(&pool, &connection).await {
            Ok(_) => return connection.close(LINGER).await,
            Err(NotServed::Draining(_)) => given_back.note(&pool),
            Err(not_served) => {
                report(&pool, &socket, peer, &not_served, LATE);
                return connection.reset();
            }
        }
    }
    connection.reset();
}

/// Has an instance serve a connection, as long as it is used.
async fn in_pool(pool: &Pool, connection: &ClientConnection) -> Result<Reply, NotServed> {
    let Some(_place) = pool.connection_place() else {
        return Err(NotServed::Busy(BusyCause::Connections));
    };
    let manifest = &pool.linked().release.manifest;
    let mut served = pin!(pool.call(Call::Stream(connection.clone())));
    let Some(idle) = manifest.limits.idle_timeout else { return served.await };
    tokio::select! {
        ended = &mut served => return ended,
        () = connection.idle(idle) => connection.time_out(),
    }
    // The guest learns of it, and has some time to end.
    timeout(manifest.service.timeout_stop, served).await.unwrap_or(Err(NotServed::TimedOut))
}

/// Logs why a connection was reset, within the rate of its plugin: clients can cause it. A plugin that was too late has
/// the error `late`.
pub(super) fn report(
    pool: &Pool,
    socket: &SocketName,
    peer: Peer,
    not_served: &NotServed,
    late: &'static str,
) {
    if !pool.shared().journal.admit(Instant::now()) {
        return;
    }
    let plugin = pool.name();
    match not_served {
        NotServed::Failed(error) => {
            info!(%plugin, %socket, %peer, %error, "connection failed");
        }
        NotServed::TimedOut => {
            info!(%plugin, %socket, %peer, error = late, "connection failed");
        }
        NotServed::Busy(BusyCause::Connections) => {
            warn!(%plugin, %socket, %peer, "connection limit reached");
        }
        NotServed::Busy(cause) => {
            info!(%plugin, %socket, %peer, error = %cause, "connection failed");
        }
        NotServed::Draining(_) => {
            info!(%plugin, %socket, %peer, error = %BusyCause::Replaced, "connection failed");
        }
    }
}
