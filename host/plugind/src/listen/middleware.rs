//! The way of a request through the middleware of its plugin: one pool after the other, without a connection.
//!
//! A plugin that has middleware is never reached without it. Where a part of the way is missing, or has become another
//! one, the request is refused.

use crate::{
    base::{name::PluginName, request_identity::TRACEPARENT},
    listen::{admission, given_back::GivenBack},
    pool::{
        Delivery, Reply,
        call::{BusyCause, Call, NotServed},
        instances::Pool,
    },
    route::table::TableReader,
    runtime::executors::Executors,
    world::middleware_way::MiddlewareWay,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Scheme};
use std::{borrow::Cow, sync::Arc, time::Duration};
use wasmtime_wasi_http::WasiBody;

/// The outcome of a request that was sent along its way.
pub(super) enum Passed {
    /// A plugin answered.
    Answered(PluginName, Box<Response<Delivery>>),
    /// A plugin did not answer; without a reason if its reply is of another kind.
    NotServed(PluginName, Option<NotServed>),
    /// The request was refused.
    Refused(NotPassed),
}

/// The reason that a request is not passed on.
pub(super) struct NotPassed {
    pub(super) status: StatusCode,
    pub(super) why: Cow<'static, str>,
}

impl NotPassed {
    fn malformed() -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: "the request's target is malformed".into() }
    }

    fn not_ready(plugin: &PluginName) -> Self {
        let why = format!("plugin {plugin} is not ready").into();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why }
    }

    fn replaced() -> Self {
        let why = BusyCause::Replaced.to_string().into();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why }
    }
}

/// The plugins before this one, if it has any.
pub(super) fn links(pool: &Pool) -> Option<&Arc<[PluginName]>> {
    let links = &pool.linked().release.manifest.middleware.links;
    (!links.is_empty()).then_some(links)
}

/// Sends a request along its way, to the next plugin of it.
pub(super) async fn pass(
    reader: &TableReader,
    way: &MiddlewareWay,
    mut request: Request<WasiBody>,
) -> Passed {
    let mut given_back = GivenBack::none();
    loop {
        let NextPool { pool, others } = match next(reader, way, request.uri().path()) {
            Ok(next) => next,
            Err(not_passed) => return Passed::Refused(not_passed),
        };
        if !given_back.allows(&pool) {
            return Passed::Refused(NotPassed::replaced());
        }
        if way.next < way.links.len() {
            request.extensions_mut().insert(way.clone());
        }
        match pool.request_within(Box::new(request), way.identity, others).await {
            Ok(Reply::Http(response)) => {
                return Passed::Answered(pool.name().clone(), Box::new(response));
            }
            Err(NotServed::Draining(Call::Http(returned))) => {
                given_back.note(&pool);
                request = *returned;
            }
            Ok(Reply::Stream | Reply::WebSocket | Reply::Datagram(_) | Reply::Message) => {
                return Passed::NotServed(pool.name().clone(), None);
            }
            Err(not_served) => return Passed::NotServed(pool.name().clone(), Some(not_served)),
        }
    }
}

/// The pool that serves a request next, and the time of the plugins behind it.
struct NextPool {
    pool: Arc<Pool>,
    others: Duration,
}

fn next(reader: &TableReader, way: &MiddlewareWay, path: &str) -> Result<NextPool, NotPassed> {
    let table = reader.table();
    let behind = table.plugin(&way.plugin, path).map_err(|dots| NotPassed {
        status: StatusCode::BAD_REQUEST,
        why: dots.to_string().into(),
    })?;
    let behind = behind.and_then(|entry| entry.pool.clone());
    let behind = behind.ok_or_else(|| NotPassed::not_ready(&way.plugin))?;
    // A version with other middleware must not have a request that came by this way.
    if links(&behind) != Some(&way.links) {
        return Err(NotPassed::replaced());
    }
    let mut others = Duration::ZERO;
    let mut pool = None;
    for link in way.links.iter().skip(way.next) {
        let refused = || {
            let figures = behind.figures().core(Executors::this_core().unwrap_or(0));
            figures.refusal(503);
            NotPassed::not_ready(link)
        };
        let link = table.middleware(link).filter(|pool| links(pool).is_none());
        let link = link.ok_or_else(refused)?;
        if pool.is_some() {
            others = others.saturating_add(time(link));
        }
        pool.get_or_insert_with(|| link.clone());
    }
    Ok(match pool {
        Some(pool) => NextPool { others: others.saturating_add(time(&behind)), pool },
        None => NextPool { pool: behind, others },
    })
}

/// The time that a plugin may take for a request.
fn time(pool: &Pool) -> Duration {
    pool.linked().release.manifest.limits.request_timeout
}

/// Brings a request that a plugin passes on into the form in which plugins get those of clients. It keeps the
/// identity of the client's request, even if the plugin changed `traceparent`.
pub(super) fn admit(
    way: &MiddlewareWay,
    request: Request<WasiBody>,
) -> Result<Request<WasiBody>, NotPassed> {
    let malformed = NotPassed::malformed;
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
    let path = path.filter(|_| parts.method != Method::CONNECT).cloned().ok_or_else(malformed)?;
    let authority = parts.uri.authority().cloned().ok_or_else(malformed)?;
    let scheme = parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    parts.uri = admission::uri_of(scheme, authority, path).ok_or_else(malformed)?;
    parts.headers.remove(header::HOST);
    // It consists of hexadecimal digits and hyphens, so it is a valid value.
    if let Ok(value) = HeaderValue::from_bytes(&way.identity.traceparent()) {
        parts.headers.insert(TRACEPARENT, value);
    }
    Ok(Request::from_parts(parts, body))
}
