//! The record of a request while it is answered: for the access log, and for a trace. Both are optional.

use crate::{
    base::{name::PluginName, request_identity::RequestIdentity},
    listen::{access_log::AccessGuard, spans::SpanGuard},
};
use http::{HeaderValue, StatusCode};

/// The record of one request.
#[derive(Default)]
pub struct RequestRecord {
    /// For the access log.
    pub access: Option<AccessGuard>,
    /// For a trace.
    pub span: Option<SpanGuard>,
}

impl RequestRecord {
    /// It is well-formed, and comes from this client.
    pub fn admitted(&mut self, client: Option<&HeaderValue>, identity: RequestIdentity) {
        if let Some(access) = &mut self.access {
            access.admitted(client, identity);
        }
        if let Some(span) = &mut self.span {
            span.admitted(client, identity);
        }
    }

    /// This plugin has its route.
    pub fn routed(&mut self, plugin: &PluginName) {
        if let Some(access) = &mut self.access {
            access.routed(plugin);
        }
        if let Some(span) = &mut self.span {
            span.routed(plugin);
        }
    }

    /// The response has begun.
    pub fn respond(&mut self, status: StatusCode) {
        if let Some(access) = &mut self.access {
            access.respond(status);
        }
        if let Some(span) = &mut self.span {
            span.respond(status);
        }
    }

    /// The number of bytes of its body that were given to the connection.
    pub fn deliver(&mut self, bytes: usize) {
        if let Some(access) = &mut self.access {
            access.deliver(bytes);
        }
    }
}
