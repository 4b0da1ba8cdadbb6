//! The properties that the requests of one HTTP connection share.

use crate::{
    base::name::SocketName,
    listen::{
        access_log::{AccessGuard, AccessTarget},
        forwarded::ForwardedFields,
        health::HealthRoute,
        request_record::RequestRecord,
        spans::{SpanGuard, SpanSink},
        stream::Peer,
    },
    route::table::TableReader,
};
use http::{Request, StatusCode};
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The properties that the requests of a connection share.
pub struct HttpEndpoint {
    /// The socket.
    pub socket: SocketName,
    /// The routes.
    pub reader: TableReader,
    /// Where the requests come from.
    pub client: ForwardedFields,
    /// Answers requests for the health of the daemon, if that is configured.
    pub health: Option<Arc<HealthRoute>>,
    /// Where they are logged, if they are.
    pub access_log: Option<AccessTarget>,
    /// The sink of their spans, if traces are exported.
    pub spans: Option<SpanSink>,
    /// The peer of the connection, for the log.
    pub peer: Peer,
    /// Cancelled when no more requests are accepted.
    pub closing: CancellationToken,
    /// The WebSockets of the connection.
    pub websockets: TaskTracker,
}

impl HttpEndpoint {
    /// Begins the record of a request.
    #[must_use]
    pub fn record<B>(&self, request: &Request<B>) -> RequestRecord {
        let (socket, peer) = (&self.socket, self.client.peer());
        let access = self.access_log.as_ref();
        let span = self.spans.as_ref();
        RequestRecord {
            access: access.map(|target| AccessGuard::begin(target, socket, peer, request)),
            span: span
                .map(|sink| SpanGuard::begin(sink, socket, peer, self.client.scheme(), request)),
        }
    }

    /// Logs data that was not a request and was refused with this status.
    pub fn log_refused(&self, status: StatusCode) {
        if let Some(target) = &self.access_log {
            AccessGuard::refused(target, &self.socket, self.client.peer(), status.as_u16());
        }
    }
}
