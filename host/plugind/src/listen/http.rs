//! One exchange over HTTP: find the plugin, and return its response or an error.

use crate::{
    base::{
        figures::CoreFigures,
        name::{PluginName, SocketName},
        request_identity::RequestIdentity,
    },
    listen::{
        access_log::{AccessGuard, AccessTarget},
        activity::ExchangeGuard,
        admission::{self, NotAdmitted},
        forwarded::{FORWARDED_FOR, ForwardedFields},
        health::{HealthAnswer, HealthRoute},
        middleware::{self, NotPassed, Passed},
        request_body::RequestBody,
        request_record::RequestRecord,
        spans::{SpanGuard, SpanSink},
        stream::Peer,
        trace_context,
        upgrade::{self, Asks, HTTP, Handshake, HandshakeError, WEBSOCKET},
        websocket::{self, Opening, WebSocketOrigin},
    },
    plugin::serve::WebSocketUse,
    pool::{
        Delivery, Reply,
        call::{Call, NotServed},
        instances::Pool,
    },
    route::table::{RouteEntry, TableReader},
    runtime::executors::Executors,
    world::middleware_way::MiddlewareWay,
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use std::{borrow::Cow, convert::Infallible, sync::Arc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;
use wasmtime_wasi_http::WasiBody;

/// A response's body: from a plugin, or from the host.
pub type Body = Either<Delivery, Full<Bytes>>;

/// Limit of attempts for a request that meets generations which are leaving. Two are rare, three would be a mistake
/// of ours.
pub(super) const TRIES: usize = 3;

/// The part of the path that a plugin does not see: its route, as the client wrote it.
pub(super) const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The properties that the requests of a connection share.
pub struct HttpEndpoint {
    /// The socket.
    pub socket: SocketName,
    /// The routes.
    pub reader: TableReader,
    /// Where the requests come from.
    pub client: ForwardedFields,
    /// Answers for the health of the daemon, if that is asked for.
    pub health: Option<Arc<HealthRoute>>,
    /// Where they are logged, if they are.
    pub access_log: Option<AccessTarget>,
    /// The sink of their spans, if traces are exported.
    pub spans: Option<SpanSink>,
    /// The same for the log.
    pub peer: Peer,
    /// When no more requests are wanted.
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

/// Answers one request.
///
/// # Errors
/// Never: a failure is a response, too.
pub async fn answer(
    endpoint: &HttpEndpoint,
    request: Request<Incoming>,
    exchange: ExchangeGuard,
    record: &mut RequestRecord,
) -> Result<Response<Body>, Infallible> {
    let asked = RequestForm { head: request.method() == Method::HEAD, version: request.version() };
    if let Some(response) = health(endpoint, &request) {
        return Ok(response);
    }
    let asks = upgrade::asks(&request);
    let Admitted { mut request, identity, found } = match admit(endpoint, request, exchange.clone())
    {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(refusal.into()),
    };
    record.admitted(request.headers().get(FORWARDED_FOR), identity);
    let mut found = Some(found);
    for _ in 0..TRIES {
        // In a later try the table may be another one.
        let entry = match found.take().unwrap_or_else(|| find(endpoint, request.uri())) {
            Ok(entry) => entry,
            Err(refusal) => return Ok(refusal.into()),
        };
        record.routed(&entry.plugin);
        let whole = (entry.used.strip > 0).then(|| request.uri().clone());
        if let Some(whole) = &whole {
            let (prefix, rest) = split_prefix(whole.path(), entry.used.strip);
            // A path is text that a header may have; if it were not, the plugin would do without the header.
            if let Ok(prefix) = HeaderValue::from_str(prefix) {
                request.headers_mut().insert(FORWARDED_PREFIX, prefix);
            }
            *request.uri_mut() = with_path(whole, rest);
        }
        let plugin = &entry.plugin;
        let Some(pool) = &entry.pool else {
            core_figures(&entry).refusal(503);
            let why = format!("plugin {plugin} is not ready");
            return Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).into());
        };
        let has_http = pool.linked().release.inspection.http.is_some();
        let served = match treatment(asks, entry.used.websocket, has_http) {
            Treatment::Http if let Some(links) = middleware::links(pool) => {
                let way = MiddlewareWay::new(plugin.clone(), links.clone(), identity);
                let passed = middleware::pass(&endpoint.reader, &way, request).await;
                return Ok(passed_on(passed, identity, asked));
            }
            Treatment::Http => pool.request(Box::new(request), identity).await,
            Treatment::WebSocket => match open(endpoint, pool, &mut request, &exchange).await {
                Ok(response) => return Ok(response),
                Err(NotServed::Draining(_)) => {
                    Err(NotServed::Draining(Call::Http(Box::new(request))))
                }
                Err(not_served) => Err(not_served),
            },
            Treatment::Require(protocol) => return Ok(required(plugin, asked.version, protocol)),
        };
        match served {
            Ok(Reply::Http(response)) => return Ok(deliver(plugin, identity, asked, response)),
            Err(NotServed::Draining(Call::Http(given_back))) => {
                request = *given_back;
                if let Some(whole) = whole {
                    *request.uri_mut() = whole;
                    request.headers_mut().remove(FORWARDED_PREFIX);
                }
            }
            Ok(Reply::Stream | Reply::Datagram(_) | Reply::WebSocket) => {
                return Ok(failed(plugin, identity, None).into());
            }
            Err(not_served) => return Ok(failed(plugin, identity, Some(not_served)).into()),
        }
    }
    Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the plugin is being replaced").into())
}

/// The answer for a load balancer, if one asks.
fn health(endpoint: &HttpEndpoint, request: &Request<Incoming>) -> Option<Response<Body>> {
    let health = endpoint.health.as_ref()?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) || !request.body().is_end_stream() {
        return None;
    }
    let HealthAnswer { status, body } = health.answer(&endpoint.socket, request.uri().path())?;
    let length = body.len();
    let is_bodiless = request.method() == Method::HEAD && request.version() >= Version::HTTP_2;
    let body = if is_bodiless { Full::default() } else { Full::from(body) };
    let mut response = Response::new(Either::Right(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// The plugin answers it over HTTP.
    Http,
    /// The plugin's handler of WebSockets has it.
    WebSocket,
    /// It is refused: it is not for this protocol, which the route requires.
    Require(&'static str),
}

/// What is done with a request that asks for this, by what its route does with requests for a WebSocket, and by whether
/// the plugin answers others.
fn treatment(asks: Asks, websocket: WebSocketUse, has_http: bool) -> Treatment {
    match (asks, websocket) {
        (Asks::WebSocket, WebSocketUse::Serve) => Treatment::WebSocket,
        (Asks::WebSocket, WebSocketUse::Ignore) | (Asks::Nothing, _) if has_http => Treatment::Http,
        (Asks::WebSocket | Asks::Connect, _) => Treatment::Require(HTTP),
        (Asks::Nothing, _) => Treatment::Require(WEBSOCKET),
    }
}

/// The response to a request that is not for the protocol which its route requires. In HTTP/2, no response can ask for
/// another protocol.
fn required(plugin: &PluginName, version: Version, protocol: &'static str) -> Response<Body> {
    let why = match protocol {
        WEBSOCKET => format!("plugin {plugin} serves WebSockets only"),
        _ => format!("plugin {plugin} does not serve the protocol that the request asks for"),
    };
    if version >= Version::HTTP_2 {
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, why).into();
    }
    let mut response = Refusal::new(StatusCode::UPGRADE_REQUIRED, why).into();
    upgrade::require(&mut response, protocol);
    response
}

/// Asks a plugin whether it accepts a WebSocket, and serves it beside this.
async fn open(
    endpoint: &HttpEndpoint,
    pool: &Arc<Pool>,
    request: &mut Request<WasiBody>,
    exchange: &ExchangeGuard,
) -> Result<Response<Body>, NotServed> {
    let handshake = match Handshake::read(request) {
        Ok(handshake) => handshake,
        Err(error) => {
            let mut response = Refusal::new(error.status(), error.to_string()).into();
            if error == HandshakeError::Version {
                upgrade::require(&mut response, WEBSOCKET);
            }
            return Ok(response);
        }
    };
    let origin = WebSocketOrigin { socket: endpoint.socket.clone(), peer: endpoint.peer };
    let asked = handshake.request(request, endpoint.socket.as_str());
    match websocket::open(pool, asked, &origin).await? {
        Opening::Refused(status) => {
            let why = format!("plugin {} refuses the WebSocket", pool.name());
            Ok(Refusal::new(status, why).into())
        }
        Opening::Accepted(accepted) => {
            let response = handshake.response(accepted.subprotocol.as_deref());
            let (on, closing) = (hyper::upgrade::on(request), endpoint.closing.clone());
            let exchange = exchange.clone();
            endpoint.websockets.spawn(async move {
                accepted.run(on, closing, origin).await;
                drop(exchange);
            });
            Ok(response.map(|()| Either::Right(Full::default())))
        }
    }
}

/// The properties of a request on which its response depends.
#[derive(Clone, Copy)]
pub(super) struct RequestForm {
    pub(super) head: bool,
    pub(super) version: Version,
}

/// A request in the form in which guests get it.
struct Admitted {
    request: Request<WasiBody>,
    identity: RequestIdentity,
    /// The route that serves it, in the current table.
    found: Result<Arc<RouteEntry>, Refusal>,
}

/// Brings a request into the form in which guests get it: with its authority and its client, and with a body that can
/// wait.
fn admit(
    endpoint: &HttpEndpoint,
    request: Request<Incoming>,
    exchange: ExchangeGuard,
) -> Result<Admitted, Refusal> {
    let (mut parts, body) = request.into_parts();
    let waits = admission::check_expectation(parts.version, &parts.headers);
    // One that is refused is not asked for its body either.
    let mut body = RequestBody::new(body, waits.unwrap_or(true), exchange);
    waits?;
    if !body.is_end_stream() {
        admission::check_framing(&parts.headers)?;
    }
    let (authority, path) = admission::target(&parts)?;
    let scheme = endpoint.client.write(&mut parts.headers, &authority);
    let identity = trace_context::identify(&mut parts.headers, endpoint.client.is_trusted());
    parts.uri = admission::uri_of(scheme, authority, path)
        .ok_or(Refusal::new(StatusCode::BAD_REQUEST, "the request's target is malformed"))?;
    // Here, since the body cannot be reached any more afterwards.
    let found = find(endpoint, &parts.uri);
    if !body.is_end_stream()
        && let Ok(entry) = &found
    {
        body.count_in(core_figures(entry).clone());
    }
    // A plugin trusts this header for the beginning of its links, so a client must not be able to set it.
    parts.headers.remove(FORWARDED_PREFIX);
    // A body without a byte needs no box: a box of nothing is no allocation.
    let body = match body.is_end_stream() {
        true => Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync(),
        false => body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync(),
    };
    Ok(Admitted { request: Request::from_parts(parts, body), identity, found })
}

/// Brings the response of a plugin into a form that is allowed (RFC 9110, 6.4.1 and 8.6).
pub(super) fn deliver(
    plugin: &PluginName,
    identity: RequestIdentity,
    asked: RequestForm,
    mut response: Response<Delivery>,
) -> Response<Body> {
    let status = response.status();
    if status.is_informational() {
        let cause = format!("the status of the response must be final; it is {}", status.as_u16());
        response.body().note(&cause);
        return failed(plugin, identity, None).into();
    }
    let nothing = || Either::Right(Full::default());
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        return response.map(|_| nothing());
    }
    // In HTTP/1.1, hyper leaves out the body itself.
    if asked.head && asked.version >= Version::HTTP_2 {
        if let Some(length) = response.body().size_hint().exact() {
            let headers = response.headers_mut();
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        return response.map(|_| nothing());
    }
    response.map(Either::Left)
}

/// The response to a request that went through middleware.
pub(super) fn passed_on(
    passed: Passed,
    identity: RequestIdentity,
    asked: RequestForm,
) -> Response<Body> {
    match passed {
        Passed::Answered(plugin, response) => deliver(&plugin, identity, asked, *response),
        Passed::NotServed(plugin, why) => failed(&plugin, identity, why).into(),
        Passed::Refused(NotPassed { status, why }) => Refusal::new(status, why).into(),
    }
}

/// Where the requests of a route are counted on this core.
fn core_figures(entry: &RouteEntry) -> &Arc<CoreFigures> {
    entry.figures.core(Executors::this_core().unwrap_or(0))
}

/// Finds who serves the request.
fn find(endpoint: &HttpEndpoint, uri: &Uri) -> Result<Arc<RouteEntry>, Refusal> {
    let table = endpoint.reader.table();
    match table.route(&endpoint.socket, uri.authority().map(Authority::as_str), uri.path()) {
        Err(dot_segments) => Err(Refusal::new(StatusCode::BAD_REQUEST, dot_segments.to_string())),
        Ok(None) => Err(Refusal::new(StatusCode::NOT_FOUND, "no plugin serves this path")),
        Ok(Some(entry)) => Ok(entry.clone()),
    }
}

/// Splits a path after its first `segments` segments. They are counted, not compared: the client may have written them
/// in another way than the route.
fn split_prefix(path: &str, segments: usize) -> (&str, &str) {
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(slash, _)| slash);
    path.split_at(end)
}

/// The target with another path.
fn with_path(whole: &Uri, path: &str) -> Uri {
    let slash = if path.is_empty() { "/" } else { "" };
    let query = whole.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = PathAndQuery::try_from(format!("{slash}{path}{query}"));
    let scheme = whole.scheme().cloned().unwrap_or(Scheme::HTTP);
    let other = path
        .ok()
        .zip(whole.authority())
        .and_then(|(path, authority)| admission::uri_of(scheme, authority.clone(), path));
    other.unwrap_or_else(|| whole.clone())
}

/// The response to a request that was not served; without a reason where the reply was none to a request.
pub(super) fn failed(
    plugin: &PluginName,
    identity: RequestIdentity,
    not_served: Option<NotServed>,
) -> Refusal {
    let (status, what) = match not_served {
        Some(NotServed::Busy | NotServed::Draining(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "is busy")
        }
        Some(NotServed::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, "did not answer in time"),
        Some(NotServed::Failed(error)) => {
            let (request_id, trace_id) = (identity.request_id(), identity.trace_id());
            debug!(%plugin, %error, %request_id, %trace_id, "request failed");
            (StatusCode::BAD_GATEWAY, "failed")
        }
        None => (StatusCode::BAD_GATEWAY, "failed"),
    };
    Refusal::new(status, format!("plugin {plugin} {what}"))
}

/// A response of the host's own. It says who did not answer, and nothing of why.
pub(super) struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
    /// No further request of the connection is believed.
    close: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into(), close: false }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(NotAdmitted { status, why, close }: NotAdmitted) -> Self {
        Self { status, why: why.into(), close }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(Refusal { status, why, close }: Refusal) -> Self {
        let mut response = Response::new(Either::Right(Full::from(format!("{why}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_websocket_is_never_taken_for_another_one_unasked() {
        use WebSocketUse::{Ignore, Refuse, Serve};
        for (asks, websocket, has_http, treated) in [
            (Asks::WebSocket, Serve, true, Treatment::WebSocket),
            (Asks::WebSocket, Serve, false, Treatment::WebSocket),
            (Asks::WebSocket, Refuse, true, Treatment::Require(HTTP)),
            (Asks::WebSocket, Ignore, true, Treatment::Http),
            (Asks::WebSocket, Ignore, false, Treatment::Require(HTTP)),
            (Asks::Connect, Serve, true, Treatment::Require(HTTP)),
            (Asks::Nothing, Serve, true, Treatment::Http),
            (Asks::Nothing, Serve, false, Treatment::Require(WEBSOCKET)),
            (Asks::Nothing, Refuse, true, Treatment::Http),
        ] {
            assert_eq!(treatment(asks, websocket, has_http), treated, "{asks:?} {websocket:?}");
        }
    }

    #[test]
    fn what_is_taken_off_a_path_are_whole_segments() {
        for (whole, segments, prefix, rest) in [
            ("http://h/hello", 1, "/hello", "http://h/"),
            ("http://h/hello?a=/b", 1, "/hello", "http://h/?a=/b"),
            ("http://h/%68ello/x/?q", 1, "/%68ello", "http://h/x/?q"),
            ("http://h/a/b/c", 2, "/a/b", "http://h/c"),
            ("https://h/a/b", 2, "/a/b", "https://h/"),
            ("http://h/a//b", 1, "/a", "http://h//b"),
        ] {
            let whole: Uri = whole.parse().unwrap();
            let (taken, path) = split_prefix(whole.path(), segments);
            assert_eq!(taken, prefix, "{whole}");
            assert_eq!(with_path(&whole, path), rest, "{whole}");
        }
    }
}
