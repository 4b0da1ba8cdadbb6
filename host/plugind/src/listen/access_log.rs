//! The access log: what is noted of a request while it is answered, and written when its response has ended.

use crate::{
    base::{
        name::{PluginName, SocketName},
        request_identity::RequestIdentity,
    },
    config::settings::AccessLog,
    journal::{AccessEntry, Journal},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version,
    header::{HOST, REFERER, USER_AGENT},
};
use std::time::{Duration, Instant, SystemTime};

/// The status of a request whose client left before it had a response; nginx has the same one.
const CLIENT_LEFT: u16 = 499;
/// The method and the path of data that is not a request.
const UNREAD: &str = "-";
/// The longest text of a client that is logged, in bytes.
const TEXT_MAX: usize = 8 << 10;

/// The destination and the format of the access log of a socket.
pub struct AccessTarget {
    /// The format.
    pub format: AccessLog,
    /// The destination.
    pub journal: Journal,
}

/// One request on its way to the access log; it is written when this is dropped.
pub struct AccessGuard {
    journal: Journal,
    begun: Instant,
    /// Taken when it is written.
    entry: Option<Box<AccessEntry>>,
}

impl AccessGuard {
    /// A request that has just come on a socket, from this peer.
    #[must_use]
    pub fn begin<B>(
        target: &AccessTarget,
        socket: &SocketName,
        peer: &HeaderValue,
        request: &Request<B>,
    ) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let host = uri.authority().map(|authority| text(authority.as_str().as_bytes()));
        let path = uri.path_and_query().map(|path| text(path.as_str().as_bytes()));
        let entry = AccessEntry {
            format: target.format,
            socket: socket.clone(),
            plugin: None,
            client: text(peer.as_bytes()),
            method: text(request.method().as_str().as_bytes()),
            host: host.unwrap_or_else(|| field(headers, &HOST)),
            target: path.unwrap_or_default(),
            protocol: protocol(request.version()),
            status: CLIENT_LEFT,
            bytes: 0,
            begun: SystemTime::now(),
            duration: Duration::ZERO,
            referer: field(headers, &REFERER),
            user_agent: field(headers, &USER_AGENT),
            request: None,
        };
        let journal = target.journal.clone();
        Self { journal, begun: Instant::now(), entry: Some(Box::new(entry)) }
    }

    /// Logs data from this peer that is not a request and was refused with this status.
    pub fn refused(target: &AccessTarget, socket: &SocketName, peer: &HeaderValue, status: u16) {
        let unread = Request::new(());
        let mut refused = Self::begin(target, socket, peer, &unread);
        if let Some(entry) = &mut refused.entry {
            entry.method = UNREAD.to_owned();
            entry.target = UNREAD.to_owned();
            entry.status = status;
        }
    }

    /// It is well-formed, and comes from this client.
    pub fn admitted(&mut self, client: Option<&HeaderValue>, identity: RequestIdentity) {
        let Some(entry) = &mut self.entry else { return };
        if let Some(client) = client {
            entry.client = text(client.as_bytes());
        }
        entry.request = Some(identity);
    }

    /// This plugin has its route.
    pub fn routed(&mut self, plugin: &PluginName) {
        if let Some(entry) = &mut self.entry {
            entry.plugin = Some(plugin.clone());
        }
    }

    /// The response has begun.
    pub fn respond(&mut self, status: StatusCode) {
        if let Some(entry) = &mut self.entry {
            entry.status = status.as_u16();
        }
    }

    /// The number of bytes of its body that were given to the connection.
    pub fn deliver(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.bytes = entry.bytes.saturating_add(bytes as u64);
        }
    }
}

impl Drop for AccessGuard {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.duration = self.begun.elapsed();
            self.journal.log_access(entry);
        }
    }
}

/// The beginning of a text that a client sent.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)]).into_owned()
}

fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).map(|value| text(value.as_bytes())).unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
