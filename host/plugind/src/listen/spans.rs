//! Spans: the facts of a request that a collector of traces keeps, noted while it is answered.
//!
//! Handing one over never waits. If the exporter cannot keep up, spans are dropped and counted.

use crate::{
    base::{
        figures::Count,
        name::{PluginName, SocketName},
        request_identity::{RequestIdentity, TRACEPARENT},
    },
    listen::access_log::text,
};
use http::{HeaderValue, Method, Request, StatusCode, Version, header::HOST};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;

/// The most spans that wait for the exporter.
const QUEUE: usize = 4096;

/// One request that was answered.
#[derive(Clone, Debug)]
pub(super) struct RequestSpan {
    /// Its trace, and itself.
    pub(super) identity: RequestIdentity,
    /// The span of the proxy that passed the request on.
    pub(super) parent: Option<RequestIdentity>,
    pub(super) socket: SocketName,
    pub(super) plugin: Option<PluginName>,
    pub(super) client: String,
    pub(super) method: Method,
    pub(super) scheme: &'static str,
    pub(super) host: String,
    /// Without the query, in which secrets may be.
    pub(super) path: String,
    pub(super) version: Version,
    /// None, if the client left before it had a response.
    pub(super) status: Option<StatusCode>,
    pub(super) begun: SystemTime,
    pub(super) duration: Duration,
}

/// The most bytes of each text in a span: many spans may wait for the collector.
const TEXT_MAX: usize = 1 << 10;

fn short(bytes: &[u8]) -> String {
    text(&bytes[..bytes.len().min(TEXT_MAX)])
}

/// The sink of spans. Cheap to clone.
#[derive(Clone)]
pub struct SpanSink {
    queue: mpsc::Sender<Box<RequestSpan>>,
    counts: Arc<SpanCounts>,
}

/// The numbers of spans so far, by their outcome.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector has accepted them.
    pub exported: Count,
    /// The collector did not accept them, or they did not fit in the queue.
    pub dropped: Count,
}

/// The end of the queue that the exporter has.
pub(super) struct SpanSource {
    pub(super) queue: mpsc::Receiver<Box<RequestSpan>>,
    pub(super) counts: Arc<SpanCounts>,
}

/// A queue of spans.
pub(super) fn channel() -> (SpanSink, SpanSource) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let counts = Arc::new(SpanCounts::default());
    (SpanSink { queue: sender, counts: counts.clone() }, SpanSource { queue, counts })
}

impl SpanSink {
    /// The numbers of spans so far, by their outcome.
    #[must_use]
    pub fn counts(&self) -> &SpanCounts {
        &self.counts
    }

    fn put(&self, span: Box<RequestSpan>) {
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.add(1);
        }
    }
}

/// One request on its way to the exporter, which gets it when this is dropped.
pub struct SpanGuard {
    sink: SpanSink,
    begun: Instant,
    /// The identity that the request came with, from any client.
    sent: Option<RequestIdentity>,
    /// Whether it was well-formed, and its trace is one that is recorded.
    is_wanted: bool,
    /// Taken when it is handed over.
    span: Option<Box<RequestSpan>>,
}

impl SpanGuard {
    /// A request that has just come on a socket, from this peer.
    #[must_use]
    pub fn begin<B>(
        sink: &SpanSink,
        socket: &SocketName,
        peer: &HeaderValue,
        scheme: &'static str,
        request: &Request<B>,
    ) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let host = match uri.authority() {
            Some(authority) => short(authority.as_str().as_bytes()),
            None => headers.get(HOST).map(|host| short(host.as_bytes())).unwrap_or_default(),
        };
        let sent = headers.get(TRACEPARENT).and_then(|it| RequestIdentity::parse(it.as_bytes()));
        let span = RequestSpan {
            identity: RequestIdentity::new(),
            parent: None,
            socket: socket.clone(),
            plugin: None,
            client: short(peer.as_bytes()),
            method: request.method().clone(),
            scheme,
            host,
            path: short(uri.path().as_bytes()),
            version: request.version(),
            status: None,
            begun: SystemTime::now(),
            duration: Duration::ZERO,
        };
        let (sink, begun) = (sink.clone(), Instant::now());
        Self { sink, begun, sent, is_wanted: false, span: Some(Box::new(span)) }
    }

    /// It is well-formed, and comes from this client.
    pub fn admitted(&mut self, client: Option<&HeaderValue>, identity: RequestIdentity) {
        self.is_wanted = identity.is_sampled();
        let Some(span) = &mut self.span else { return };
        if let Some(client) = client {
            span.client = short(client.as_bytes());
        }
        span.identity = identity;
        // It continues the trace that it came with only if the sender is trusted.
        span.parent = self.sent.filter(|sent| sent.is_of_same_trace(identity));
    }

    /// This plugin has its route.
    pub fn routed(&mut self, plugin: &PluginName) {
        if let Some(span) = &mut self.span {
            span.plugin = Some(plugin.clone());
        }
    }

    /// The response has begun.
    pub fn respond(&mut self, status: StatusCode) {
        if let Some(span) = &mut self.span {
            span.status = Some(status);
        }
    }
}

impl Drop for SpanGuard {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take().filter(|_| self.is_wanted) {
            span.duration = self.begun.elapsed();
            self.sink.put(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn begin(sink: &SpanSink) -> SpanGuard {
        let request = Request::get("/a?secret").header(TRACEPARENT, SENT).body(()).unwrap();
        let peer = HeaderValue::from_static("192.0.2.1");
        SpanGuard::begin(sink, &"http".parse().unwrap(), &peer, "http", &request)
    }

    #[test]
    fn a_span_has_a_parent_only_if_it_continues_its_trace() {
        let (sink, mut source) = channel();
        let sent = RequestIdentity::parse(SENT.as_bytes()).unwrap();
        for (identity, parent) in [(sent.child(), Some(sent)), (RequestIdentity::new(), None)] {
            let mut guard = begin(&sink);
            guard.admitted(None, identity);
            guard.respond(StatusCode::OK);
            drop(guard);
            let span = source.queue.try_recv().unwrap();
            assert_eq!((span.identity, span.parent), (identity, parent));
            assert_eq!((span.path.as_str(), span.status), ("/a", Some(StatusCode::OK)));
        }
    }

    #[test]
    fn a_malformed_request_and_a_trace_that_is_not_recorded_have_no_span() {
        let (sink, mut source) = channel();
        drop(begin(&sink));
        let unsampled = SENT.replace("-01", "-00");
        let unsampled = RequestIdentity::parse(unsampled.as_bytes()).unwrap();
        begin(&sink).admitted(None, unsampled.child());
        assert!(source.queue.try_recv().is_err());
    }

    #[test]
    fn spans_that_do_not_fit_in_the_queue_are_dropped_and_counted() {
        let (sink, source) = channel();
        for _ in 0..QUEUE + 3 {
            begin(&sink).admitted(None, RequestIdentity::new());
        }
        assert_eq!((source.queue.len(), sink.counts().dropped.get()), (QUEUE, 3));
    }
}
