//! One exchange over HTTP: find the plugin, and return its response or an error.

use crate::{
    base::{figures::CoreFigures, request_identity::RequestIdentity},
    listen::{
        activity::ExchangeGuard,
        admission,
        forwarded::FORWARDED_FOR,
        given_back::GivenBack,
        health::HealthAnswer,
        http_endpoint::HttpEndpoint,
        middleware,
        request_body::RequestBody,
        request_record::RequestRecord,
        response::{Body, Refusal, RequestForm, deliver, failed, passed_on},
        route_prefix::{FORWARDED_PREFIX, split_prefix, with_path},
        trace_context, upgrade,
        websocket_request::{Treatment, open, required, treatment},
    },
    pool::{
        Reply,
        call::{BusyCause, Call, NotServed},
    },
    route::table::RouteEntry,
    runtime::executors::Executors,
    world::middleware_way::MiddlewareWay,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body::Body as _;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use std::{convert::Infallible, sync::Arc};
use wasmtime_wasi_http::WasiBody;

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
    let asked = RequestForm::of(&request);
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
    let (mut found, mut given_back) = (Some(found), GivenBack::none());
    loop {
        // After a draining generation, the route is looked up again: the table may have changed.
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
        if !given_back.allows(pool) {
            core_figures(&entry).refusal(503);
            let why = BusyCause::Replaced.to_string();
            return Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).into());
        }
        let has_http = pool.linked().release.inspection.http.is_some();
        let served = match treatment(asks, asked.version, entry.used.websocket, has_http) {
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
            Err(NotServed::Draining(Call::Http(returned))) => {
                given_back.note(pool);
                request = *returned;
                if let Some(whole) = whole {
                    *request.uri_mut() = whole;
                    request.headers_mut().remove(FORWARDED_PREFIX);
                }
            }
            Ok(Reply::Stream | Reply::Datagram(_) | Reply::WebSocket | Reply::Message) => {
                return Ok(failed(plugin, identity, None).into());
            }
            Err(not_served) => return Ok(failed(plugin, identity, Some(not_served)).into()),
        }
    }
}

/// The answer for a load balancer, if one asks.
fn health(endpoint: &HttpEndpoint, request: &Request<Incoming>) -> Option<Response<Body>> {
    let health = endpoint.health.as_ref()?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) || !request.body().is_end_stream() {
        return None;
    }
    let HealthAnswer { status, body } = health.answer(&endpoint.socket, request.uri().path())?;
    let length = body.len();
    let mut response = Response::new(Either::Right(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
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
    admission::join_cookies(parts.version, &mut parts.headers);
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
    // A body without a byte costs no allocation: boxing a zero-sized type does not allocate.
    let body = match body.is_end_stream() {
        true => Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync(),
        false => body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync(),
    };
    Ok(Admitted { request: Request::from_parts(parts, body), identity, found })
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
