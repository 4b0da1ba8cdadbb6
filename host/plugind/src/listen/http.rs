//! One exchange over HTTP: find the plugin, have it answer, or say why it did not.

use crate::{
    base::name::{PluginName, SocketName},
    listen::{activity::ExchangeGuard, request_body::RequestBody},
    pool::{
        Delivery, Reply,
        call::{Call, NotServed},
    },
    route::table::{RouteEntry, TableReader},
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use std::{borrow::Cow, convert::Infallible, sync::Arc};
use tracing::debug;
use wasmtime_wasi_http::WasiBody;

/// A response's body: from a plugin, or from the host.
pub type Body = Either<Delivery, Full<Bytes>>;

/// How often a request may meet a generation that is just going. A second time is rare, a third would be a mistake
/// of ours.
const TRIES: usize = 3;

/// A socket on which HTTP is served, and by whom.
#[derive(Clone)]
pub struct HttpEndpoint {
    /// Which.
    pub socket: SocketName,
    /// The routes.
    pub reader: TableReader,
}

/// Answers one request.
///
/// # Errors
/// Never: what goes wrong is a response, too.
pub async fn answer(
    endpoint: &HttpEndpoint,
    request: Request<Incoming>,
    exchange: ExchangeGuard,
) -> Result<Response<Body>, Infallible> {
    let mut request = match admit(request, exchange) {
        Ok(request) => request,
        Err(refusal) => return Ok(refusal.into()),
    };
    for _ in 0..TRIES {
        let entry = match find(endpoint, &request) {
            Ok(found) => found,
            Err(refusal) => return Ok(refusal.into()),
        };
        let whole = (entry.strip > 0).then(|| request.uri().clone());
        if let Some(whole) = &whole {
            *request.uri_mut() = without_prefix(whole, entry.strip);
        }
        let plugin = &entry.plugin;
        let Some(pool) = &entry.pool else {
            let why = format!("plugin {plugin} is not ready");
            return Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).into());
        };
        match pool.call(Call::Http(Box::new(request))).await {
            Ok(Reply::Http(response)) => return Ok(response.map(Either::Left)),
            Err(NotServed::Draining(Call::Http(given_back))) => {
                request = *given_back;
                if let Some(whole) = whole {
                    *request.uri_mut() = whole;
                }
            }
            Ok(Reply::Stream | Reply::Datagram(_)) => return Ok(failed(plugin, None).into()),
            Err(not_served) => return Ok(failed(plugin, Some(not_served)).into()),
        }
    }
    Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the plugin is being replaced").into())
}

/// Brings a request into the form in which guests get it: with its authority, and with a body that can wait.
fn admit(
    request: Request<Incoming>,
    exchange: ExchangeGuard,
) -> Result<Request<WasiBody>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let body = RequestBody::new(body, parts.headers.contains_key(header::EXPECT), exchange);
    parts.uri = match target(&parts) {
        Ok(target) => target,
        Err(why) => return Err(Refusal::new(StatusCode::BAD_REQUEST, why)),
    };
    // A body without a byte needs no box: a box of nothing is no allocation.
    let body = match body.is_end_stream() {
        true => Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync(),
        false => body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync(),
    };
    Ok(Request::from_parts(parts, body))
}

/// What a request is for: with its authority, wherever that was.
fn target(parts: &Parts) -> Result<Uri, &'static str> {
    // What is not a path is a CONNECT, which no plugin can serve, or the `*` of OPTIONS.
    let path = parts.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
    let (Some(path), false) = (path, parts.method == Method::CONNECT) else {
        return Err("the request's target is not a path");
    };
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        // HTTP/1.0 knows no hosts.
        (None, None, _) if parts.version < Version::HTTP_11 => {
            Some(Authority::from_static("localhost"))
        }
        // Since HTTP/2 the target has the host, and the header may repeat it (RFC 9113, 8.3.1).
        (Some(target), host, None) if parts.version >= Version::HTTP_2 => {
            if host.is_some_and(|host| {
                !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes())
            }) {
                return Err("the request has two hosts that differ");
            }
            Some(target.clone())
        }
        // A target with a host of its own counts for more than the header, which must be there all the same.
        (Some(target), Some(_), None) => Some(target.clone()),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        // A second one may be meant for somebody on the way (RFC 9112, 3.2).
        _ => return Err("the request has no host, or more than one"),
    };
    // A user's name does not belong there (RFC 9110, 4.2.4), and could be taken for the host.
    let authority = authority.filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or("the request's host is malformed")?;
    with_authority(authority, path.clone()).ok_or("the request's target is malformed")
}

fn with_authority(authority: Authority, path: PathAndQuery) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// Finds who serves the request.
fn find(endpoint: &HttpEndpoint, request: &Request<WasiBody>) -> Result<Arc<RouteEntry>, Refusal> {
    let table = endpoint.reader.table();
    let uri = request.uri();
    match table.route(&endpoint.socket, uri.authority().map(Authority::as_str), uri.path()) {
        Err(dot_segments) => Err(Refusal::new(StatusCode::BAD_REQUEST, dot_segments.to_string())),
        Ok(None) => Err(Refusal::new(StatusCode::NOT_FOUND, "no plugin serves this path")),
        Ok(Some(entry)) => Ok(entry.clone()),
    }
}

/// The target without its first `segments` segments. They are counted, not compared: the client may have written
/// them in another way than the route.
fn without_prefix(whole: &Uri, segments: usize) -> Uri {
    let path = whole.path();
    let mut rest = path;
    for _ in 0..segments {
        rest = rest.get(1..).and_then(|rest| Some(&rest[rest.find('/')?..])).unwrap_or_default();
    }
    let slash = if rest.is_empty() { "/" } else { "" };
    let query = whole.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = PathAndQuery::try_from(format!("{slash}{rest}{query}"));
    let stripped = path
        .ok()
        .zip(whole.authority())
        .and_then(|(path, authority)| with_authority(authority.clone(), path));
    stripped.unwrap_or_else(|| whole.clone())
}

/// The response to a request that was not served; without a reason where the reply was none to a request.
fn failed(plugin: &PluginName, not_served: Option<NotServed>) -> Refusal {
    let (status, what) = match not_served {
        Some(NotServed::Busy | NotServed::Draining(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "is busy")
        }
        Some(NotServed::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, "did not answer in time"),
        Some(NotServed::Failed(error)) => {
            debug!(%plugin, %error, "request failed");
            (StatusCode::BAD_GATEWAY, "failed")
        }
        None => (StatusCode::BAD_GATEWAY, "failed"),
    };
    Refusal::new(status, format!("plugin {plugin} {what}"))
}

/// A response of the host's own. It says who did not answer, and nothing of why.
struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into() }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(Refusal { status, why }: Refusal) -> Self {
        let mut response = Response::new(Either::Right(Full::from(format!("{why}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
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
    fn what_is_taken_off_a_path_are_whole_segments() {
        for (whole, segments, rest) in [
            ("http://h/hello", 1, "http://h/"),
            ("http://h/hello?a=/b", 1, "http://h/?a=/b"),
            ("http://h/%68ello/x/?q", 1, "http://h/x/?q"),
            ("http://h/a/b/c", 2, "http://h/c"),
            ("http://h/a/b", 2, "http://h/"),
        ] {
            assert_eq!(without_prefix(&whole.parse().unwrap(), segments), rest, "{whole}");
        }
    }

    fn target_of(version: Version, uri: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        target(&parts).map(|target| target.to_string())
    }

    #[test]
    fn since_http_2_the_target_has_the_host_and_the_header_must_not_differ() {
        let two = |hosts| target_of(Version::HTTP_2, "https://a.example:8443/x?y", hosts);
        let whole = Ok("http://a.example:8443/x?y".to_owned());
        assert_eq!(two(&[]), whole);
        assert_eq!(two(&["a.example:8443"]), whole);
        assert_eq!(two(&["A.example:8443"]), whole, "hosts have no case");
        for hosts in [&["b.example"][..], &["a.example"], &["a.example:8443", "a.example:8443"]] {
            assert!(two(hosts).is_err(), "{hosts:?}");
        }
        let without = |hosts| target_of(Version::HTTP_2, "/x", hosts);
        assert_eq!(without(&["a.example"]), Ok("http://a.example/x".to_owned()));
        assert!(without(&[]).is_err());
        assert!(target_of(Version::HTTP_2, "https://a@b/x", &[]).is_err());
    }

    #[test]
    fn in_http_1_1_the_header_must_be_there_and_the_target_counts_for_more() {
        let one = |uri, hosts| target_of(Version::HTTP_11, uri, hosts);
        assert_eq!(one("http://a/x", &["b"]), Ok("http://a/x".to_owned()));
        assert!(one("http://a/x", &[]).is_err());
        assert!(one("/x", &[]).is_err());
        assert!(one("/x", &["a", "a"]).is_err());
        let old = target_of(Version::HTTP_10, "/x", &[]);
        assert_eq!(old, Ok("http://localhost/x".to_owned()));
    }
}
