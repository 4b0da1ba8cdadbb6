//! Outgoing requests of `wasi:http`: to whom a plugin may send them.

use crate::{
    base::{
        endpoint::{Endpoint, Host},
        request_identity::{RequestIdentity, TRACEPARENT},
    },
    world::{
        calls::{self, RequestScope, callee},
        holdings::CHUNK_MAX,
        memory,
        open_sockets::PluginSockets,
        passed_requests::{Answered, PassedRequest, Sent},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::Scheme};
use http_body_util::BodyExt;
use std::{
    future::ready,
    io::{self, ErrorKind},
    sync::Arc,
};
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, default_send_request, p2::bindings::http::types as p2,
    p3::bindings::http::types as p3,
};

/// Limit of a generation's requests that wait for their responses to begin; others wait for that. Each may look a name
/// up, which takes a thread for as long as the resolver does.
const WAITING_MAX: usize = 128;
/// The library's list. As a constant it is made again for each header that is compared with it.
static FORBIDDEN_HEADERS: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

/// Bytes that the buffers of a connection may keep: the HTTP library has at most 408 KiB for each direction.
const CONNECTION: usize = 2 * (408 << 10);

/// To whom all instances of a generation may send requests.
pub struct Shared {
    endpoints: Vec<Endpoint>,
    calls: calls::Shared,
    room: Arc<Semaphore>,
    sockets: PluginSockets,
    memory: Arc<memory::Shared>,
}

/// The parts of a store that `wasi:http` needs, for requests and responses of both directions.
pub(super) struct Guest {
    context: WasiHttpCtx,
    hooks: Hooks,
}

/// One instance's way out.
struct Hooks {
    shared: Arc<Shared>,
    calls: calls::Guest,
    /// The request that the instance serves, if that is known.
    request: Option<RequestIdentity>,
    /// The next request is this one, passed on.
    passed: Option<PassedRequest>,
}

impl Guest {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            context: WasiHttpCtx::new(),
            hooks: Hooks { shared, calls: calls::Guest::default(), request: None, passed: None },
        }
    }

    /// A request comes to the instance, and is served as long as the scope is kept. None if it can call nothing.
    pub(super) fn enter(&mut self, request: &http::Request<WasiBody>) -> Option<Arc<RequestScope>> {
        self.hooks.calls.enter(&self.hooks.shared.calls, request)
    }

    /// From now on, requests are sent on behalf of this one.
    pub(super) fn set_request(&mut self, request: Option<RequestIdentity>) {
        self.hooks.request = request;
    }

    /// From now on, a request that is sent is this one, passed on; or one of the guest's own.
    pub(super) fn set_passed(&mut self, passed: Option<PassedRequest>) {
        self.hooks.passed = passed;
    }

    /// Returns the view on which the library works.
    pub(super) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { ctx: &mut self.context, table, hooks: &mut self.hooks }
    }
}

impl Shared {
    /// Requests may go to these endpoints, over connections that count in `sockets` and in `memory`, and to plugins.
    pub(super) fn new(
        endpoints: Vec<Endpoint>,
        calls: calls::Shared,
        sockets: &PluginSockets,
        memory: Arc<memory::Shared>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Self { endpoints, calls, room, sockets: sockets.clone(), memory }
    }

    /// Where a request for `uri` goes, if it may go there.
    fn admit(&self, uri: &Uri) -> Option<&Endpoint> {
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = Host::parse(authority.host())?;
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" if uri.scheme() == Some(&Scheme::HTTPS) => 443,
            "" => 80,
            _ => authority.port_u16()?,
        };
        self.endpoints.iter().find(|endpoint| endpoint.host == host && endpoint.port == port)
    }
}

/// Has a request belong to the trace of the one that caused it, unless the guest wrote that itself.
fn name_cause(headers: &mut HeaderMap, cause: RequestIdentity) {
    if !headers.contains_key(TRACEPARENT)
        && let Ok(value) = HeaderValue::from_bytes(&cause.traceparent())
    {
        headers.insert(TRACEPARENT, value);
    }
}

/// Whether no network leads there.
fn is_unroutable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable)
}

impl WasiHttpHooks for Hooks {
    // As by default, without an allocation for each header.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Answered> + Send> {
        if let Some(passed) = self.passed.take() {
            return passed.forward(self.shared.calls.dispatch(), request, options);
        }
        if let Some(cause) = self.request {
            name_cause(request.headers_mut(), cause);
        }
        let room = self.shared.room.clone();
        if let Some(callee) = callee(request.uri()) {
            let call = self.shared.calls.call(&self.calls, &callee, request, options);
            return Box::new(async move {
                // It is never closed.
                let _room = room.acquire_owned().await;
                Ok((call?.await?, Box::new(ready(Ok(()))) as Sent))
            });
        }
        let granted = self.shared.admit(request.uri()).map(ToString::to_string);
        let uri = granted.and_then(|endpoint| {
            // The address that was compared is the one to connect to, for any spelling of the guest.
            let mut parts = request.uri().clone().into_parts();
            parts.authority = Some(endpoint.parse().ok()?);
            Uri::from_parts(parts).ok()
        });
        let Some(uri) = uri else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        *request.uri_mut() = uri;
        let shared = self.shared.clone();
        Box::new(async move {
            // It is never closed.
            let _room = room.acquire_owned().await;
            let socket = shared.sockets.admit().ok_or(Error::ConnectionLimitReached)?;
            let charge = shared.memory.charge(CONNECTION).ok_or(Error::ConnectionLimitReached)?;
            let (response, rest) = default_send_request(request, options).await?;
            let rest = async move {
                // They count until the rest of the work, which uses the connection, has ended.
                let _counts = (socket, charge);
                rest.await
            };
            Ok((response.map(BodyExt::boxed_unsync), Box::new(rest) as Sent))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_MAX
    }

    // Errors are returned to the guest, which can report them; by default the library would log them.

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> p2::ErrorCode {
        p2::ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> p2::ErrorCode {
        match error.kind() {
            ErrorKind::PermissionDenied => p2::ErrorCode::DestinationIpProhibited,
            kind if is_unroutable(kind) => p2::ErrorCode::DestinationIpUnroutable,
            _ => p2::ErrorCode::ConnectionRefused,
        }
    }

    fn p2_error_from_tls(&mut self, _: &io::Error) -> p2::ErrorCode {
        p2::ErrorCode::TlsProtocolError
    }

    fn p3_error_from_hyper(&mut self, _: &hyper::Error) -> p3::ErrorCode {
        p3::ErrorCode::HttpProtocolError
    }

    fn p3_error_from_connect(&mut self, error: &io::Error) -> p3::ErrorCode {
        match error.kind() {
            ErrorKind::PermissionDenied => p3::ErrorCode::DestinationIpProhibited,
            kind if is_unroutable(kind) => p3::ErrorCode::DestinationIpUnroutable,
            _ => p3::ErrorCode::ConnectionRefused,
        }
    }

    fn p3_error_from_tls(&mut self, _: &io::Error) -> p3::ErrorCode {
        p3::ErrorCode::TlsProtocolError
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::budget::Budget;

    fn shared(endpoints: Vec<Endpoint>) -> Shared {
        let memory = Arc::new(memory::Shared::new(0, 0, 0, Arc::new(Budget::new(0))));
        Shared::new(endpoints, calls::tests::shared(), &PluginSockets::new(), memory)
    }

    #[test]
    fn a_guest_learns_whether_a_server_refuses_it_or_is_unroutable() {
        let mut guest = Hooks {
            shared: Arc::new(shared(Vec::new())),
            calls: calls::Guest::default(),
            request: None,
            passed: None,
        };
        for (kind, p2, p3) in [
            (
                ErrorKind::PermissionDenied,
                p2::ErrorCode::DestinationIpProhibited,
                p3::ErrorCode::DestinationIpProhibited,
            ),
            (
                ErrorKind::NetworkUnreachable,
                p2::ErrorCode::DestinationIpUnroutable,
                p3::ErrorCode::DestinationIpUnroutable,
            ),
            (
                ErrorKind::ConnectionRefused,
                p2::ErrorCode::ConnectionRefused,
                p3::ErrorCode::ConnectionRefused,
            ),
        ] {
            let error = io::Error::from(kind);
            assert_eq!(format!("{:?}", guest.p2_error_from_connect(&error)), format!("{p2:?}"));
            assert_eq!(format!("{:?}", guest.p3_error_from_connect(&error)), format!("{p3:?}"));
        }
    }

    #[test]
    fn a_request_belongs_to_the_trace_of_its_cause_unless_the_guest_says_so_itself() {
        let cause = RequestIdentity::new();
        let mut headers = HeaderMap::new();
        name_cause(&mut headers, cause);
        assert_eq!(headers[TRACEPARENT].as_bytes(), cause.traceparent());
        name_cause(&mut headers, RequestIdentity::new());
        assert_eq!(headers[TRACEPARENT].as_bytes(), cause.traceparent());
    }

    #[test]
    fn a_request_goes_where_it_was_granted_and_nowhere_else() {
        let endpoints = ["api.example:443", "api.example:80", "10.0.0.1:8080", "[::1]:80"];
        let endpoints = endpoints.map(|endpoint| endpoint.parse().unwrap());
        let shared = shared(endpoints.into());
        let admit = |uri: &str| shared.admit(&uri.parse().unwrap()).map(ToString::to_string);
        for (uri, to) in [
            ("https://api.example/", "api.example:443"),
            ("http://API.example/x?y", "api.example:80"),
            ("http://api.example:443/", "api.example:443"),
            ("http://10.0.0.1:8080/", "10.0.0.1:8080"),
            ("http://[::1]/", "[::1]:80"),
            ("http://[0:0::1]:80/", "[::1]:80"),
        ] {
            assert_eq!(admit(uri).as_deref(), Some(to), "{uri}");
        }
        for uri in [
            "https://evil.example/",
            "https://api.example:444/",
            "https://api.example.evil.example/",
            "http://10.0.0.1/",
            "http://10.0.0.2:8080/",
            "https://api.example@evil.example/",
            "https://api.example:443@evil.example/",
            "https://evil.example@api.example/",
            "/api.example",
        ] {
            assert_eq!(admit(uri), None, "{uri}");
        }
    }
}
