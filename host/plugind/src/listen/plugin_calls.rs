//! Requests of plugins to other plugins: the same admission, table and pools as those of clients, without a connection.

use crate::{
    base::{name::PluginName, request_identity::RequestIdentity},
    listen::{
        admission,
        forwarded::write_for_plugin,
        given_back::GivenBack,
        middleware::{self, Passed},
        response::{Body, Refusal, RequestForm, deliver, failed, passed_on},
        route_prefix::FORWARDED_PREFIX,
        trace_context,
    },
    plugin::grants::call::PLUGIN_DOMAIN,
    pool::{
        Reply,
        call::{BusyCause, Call, NotServed},
    },
    route::table::{RouteEntry, TableReader},
    world::{
        calls::PluginDispatch,
        middleware_way::{MiddlewareDispatch, MiddlewareWay},
    },
};
use futures::{FutureExt, future::BoxFuture};
use http::{
    Method, Request, Response, StatusCode, Version, header,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Either};
use std::sync::Arc;
use wasmtime_wasi_http::WasiBody;

/// Has requests of plugins answered by the plugins in the table.
pub struct PluginCalls(TableReader);

impl PluginCalls {
    /// By the plugins in this table.
    #[must_use]
    pub fn new(reader: TableReader) -> Self {
        Self(reader)
    }
}

impl PluginDispatch for PluginCalls {
    fn dispatch(
        &self,
        caller: PluginName,
        callee: PluginName,
        request: Request<WasiBody>,
    ) -> BoxFuture<'static, Response<WasiBody>> {
        let reader = self.0.clone();
        answer(reader, caller, callee, request).map(|response| response.map(boxed)).boxed()
    }
}

impl MiddlewareDispatch for PluginCalls {
    fn forward(
        &self,
        way: MiddlewareWay,
        request: Request<WasiBody>,
    ) -> BoxFuture<'static, Response<WasiBody>> {
        let reader = self.0.clone();
        forward(reader, way, request).map(|response| response.map(boxed)).boxed()
    }
}

/// Sends a request that a plugin passes on along its way.
async fn forward(
    reader: TableReader,
    way: MiddlewareWay,
    request: Request<WasiBody>,
) -> Response<Body> {
    let asked = form(&request);
    let passed = match middleware::admit(&way, request) {
        Ok(request) => middleware::pass(&reader, &way, request).await,
        Err(not_passed) => Passed::Refused(not_passed),
    };
    passed_on(passed, way.identity, asked)
}

/// As over HTTP/2, no connection leaves out the body of a response to HEAD.
fn form(request: &Request<WasiBody>) -> RequestForm {
    RequestForm { head: request.method() == Method::HEAD, version: Version::HTTP_2 }
}

fn boxed(body: Body) -> WasiBody {
    match body {
        Either::Left(delivery) => delivery.boxed_unsync(),
        Either::Right(full) => full.map_err(|never| match never {}).boxed_unsync(),
    }
}

async fn answer(
    reader: TableReader,
    caller: PluginName,
    callee: PluginName,
    request: Request<WasiBody>,
) -> Response<Body> {
    let asked = form(&request);
    let (mut request, identity) = match admit(&caller, &callee, request) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into(),
    };
    let mut given_back = GivenBack::none();
    loop {
        let pool = match find(&reader, &callee, request.uri().path()) {
            Ok(entry) => entry.and_then(|entry| entry.pool.clone()),
            Err(refusal) => return refusal.into(),
        };
        let Some(pool) = pool else {
            let why = format!("plugin {callee} is not ready");
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).into();
        };
        if !given_back.allows(&pool) {
            let why = BusyCause::Replaced.to_string();
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).into();
        }
        if let Some(links) = middleware::links(&pool) {
            let way = MiddlewareWay::new(callee.clone(), links.clone(), identity);
            let passed = middleware::pass(&reader, &way, request).await;
            return passed_on(passed, identity, asked);
        }
        match pool.request(Box::new(request), identity).await {
            Ok(Reply::Http(response)) => return deliver(&callee, identity, asked, response),
            Err(NotServed::Draining(Call::Http(returned))) => {
                given_back.note(&pool);
                request = *returned;
            }
            Ok(Reply::Stream | Reply::WebSocket | Reply::Datagram(_) | Reply::Message) => {
                return failed(&callee, identity, None).into();
            }
            Err(not_served) => return failed(&callee, identity, Some(not_served)).into(),
        }
    }
}

/// Brings a request into the form in which plugins get those of clients. The plugin that sends it is its client.
fn admit(
    caller: &PluginName,
    callee: &PluginName,
    request: Request<WasiBody>,
) -> Result<(Request<WasiBody>, RequestIdentity), Refusal> {
    let malformed = || Refusal::new(StatusCode::BAD_REQUEST, "the request's target is malformed");
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
    let path = path.filter(|_| parts.method != Method::CONNECT).cloned().ok_or_else(malformed)?;
    let host = format!("{callee}{PLUGIN_DOMAIN}");
    write_for_plugin(&mut parts.headers, caller, &host);
    // The caller's outgoing request names the request that caused it.
    let identity = trace_context::identify(&mut parts.headers, true);
    parts.headers.remove(header::HOST);
    parts.headers.remove(FORWARDED_PREFIX);
    let authority = Authority::try_from(host).map_err(|_| malformed())?;
    parts.uri = admission::uri_of(Scheme::HTTP, authority, path).ok_or_else(malformed)?;
    Ok((Request::from_parts(parts, body), identity))
}

fn find(
    reader: &TableReader,
    callee: &PluginName,
    path: &str,
) -> Result<Option<Arc<RouteEntry>>, Refusal> {
    let found = reader.table().plugin(callee, path).map(Option::<&Arc<_>>::cloned);
    found.map_err(|dots| Refusal::new(StatusCode::BAD_REQUEST, dots.to_string()))
}
