//! The admission of requests: what RFC 9110, RFC 9112 and RFC 9113 leave to a server in addition to its parser. Pure.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// The status of the response.
    pub status: StatusCode,
    /// The reason, for the client.
    pub why: &'static str,
    /// The end of its body is uncertain, so that no data behind it is trusted.
    pub close: bool,
}

const fn bad(why: &'static str) -> NotAdmitted {
    NotAdmitted { status: StatusCode::BAD_REQUEST, why, close: false }
}

/// Checks how the body of a request is framed; only one with a body needs that.
///
/// # Errors
/// When its coding is not `chunked` alone. One that does not end with it has been refused by the parser.
pub fn check_framing(headers: &HeaderMap) -> Result<(), NotAdmitted> {
    let fields = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let codings = codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    let (chunked, others) = codings.fold((0, 0), |(chunked, others), coding| {
        match coding.eq_ignore_ascii_case(b"chunked") {
            true => (chunked + 1, others),
            false => (chunked, others + 1),
        }
    });
    if chunked > 1 {
        // RFC 9112, 6.1: a sender must not apply it more than once.
        return Err(NotAdmitted {
            close: true,
            ..bad("the request's body is chunked more than once")
        });
    }
    if others > 0 {
        let status = StatusCode::NOT_IMPLEMENTED;
        let why = "no transfer coding but chunked is supported";
        return Err(NotAdmitted { status, why, close: true });
    }
    Ok(())
}

/// Whether the client waits to be asked for the body.
///
/// # Errors
/// When it expects anything else (RFC 9110, 10.1.1).
pub fn check_expectation(version: Version, headers: &HeaderMap) -> Result<bool, NotAdmitted> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        // HTTP/1.0 knows no expectations.
        _ if version < Version::HTTP_11 => Ok(false),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(NotAdmitted {
            status: StatusCode::EXPECTATION_FAILED,
            why: "no expectation but 100-continue is supported",
            close: true,
        }),
    }
}

/// Whether a text is one host, possibly with a port. It is stricter than RFC 3986 where that allows what no client means:
/// a list, a user, or an encoded name.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                (address, port)
            }
            _ => return false,
        },
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let host = &text[..end];
            let is_plain =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte);
            if !host.bytes().all(is_plain) {
                return false;
            }
            (host, &text[end..])
        }
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    // A port may be empty (RFC 3986, 3.2.3).
    let has_port = match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || is_port(digits),
        None => port.is_empty(),
    };
    has_port && !host.is_empty()
}

/// Finds the target of a request: its host, from the URI or the header, and its path.
///
/// # Errors
/// When it has no path, not one host, or one that is malformed.
pub fn target(parts: &Parts) -> Result<(Authority, PathAndQuery), NotAdmitted> {
    // A target without a path is a CONNECT, which no plugin can serve, or the `*` of OPTIONS. A CONNECT that names a
    // protocol has a path (RFC 8441, 4).
    let path = parts.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
    let is_connect =
        parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none();
    let (Some(path), false) = (path, is_connect) else {
        return Err(bad("the request's target is not a path"));
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
                return Err(bad("the request has two hosts that differ"));
            }
            Some(target.clone())
        }
        // A target with a host of its own counts for more than the header, which must be there and well-formed all the
        // same.
        (Some(target), Some(host), None) => Authority::try_from(host.as_bytes())
            .ok()
            .filter(|host| is_host(host.as_str()))
            .map(|_| target.clone()),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        // A second one may be meant for an intermediary (RFC 9112, 3.2).
        _ => return Err(bad("the request has no host, or more than one")),
    };
    let authority = authority.filter(|authority| is_host(authority.as_str()));
    Ok((authority.ok_or(bad("the request's host is malformed"))?, path.clone()))
}

/// Joins the cookies of a request, which browsers send as one field each since HTTP/2 (RFC 9113, 8.2.3).
pub fn join_cookies(version: Version, headers: &mut HeaderMap) {
    if version < Version::HTTP_2 {
        return;
    }
    let mut fields = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (fields.next(), fields.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for field in std::iter::once(second).chain(fields) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(field.as_bytes());
    }
    // Values with a separator between them are a value.
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The target of a request in the form in which guests get it.
#[must_use]
pub fn uri_of(scheme: Scheme, authority: Authority, path: PathAndQuery) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Request};

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let values =
            values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_body_is_chunked_once_and_nothing_else() {
        for (codings, status) in [
            (&[][..], None),
            (&["chunked"], None),
            (&[" Chunked "], None),
            (&["chunked, chunked"], Some(400)),
            (&["chunked", "chunked"], Some(400)),
            (&["gzip, chunked"], Some(501)),
            (&["gzip", "chunked"], Some(501)),
            (&["identity, chunked"], Some(501)),
            (&["x-chunked"], Some(501)),
        ] {
            let checked = check_framing(&headers(header::TRANSFER_ENCODING, codings));
            assert_eq!(checked.err().map(|refused| refused.status.as_u16()), status, "{codings:?}");
            assert!(checked.err().is_none_or(|refused| refused.close), "{codings:?}");
        }
    }

    #[test]
    fn expect_100_continue_is_the_only_expectation_that_is_accepted() {
        let check = |version, all: &[&str]| {
            let checked = check_expectation(version, &headers(header::EXPECT, all));
            checked.map_err(|refused| refused.status.as_u16())
        };
        assert_eq!(check(Version::HTTP_11, &[]), Ok(false));
        assert_eq!(check(Version::HTTP_11, &["100-Continue"]), Ok(true));
        assert_eq!(check(Version::HTTP_2, &["100-continue"]), Ok(true));
        assert_eq!(check(Version::HTTP_10, &["anything"]), Ok(false));
        for all in [&["200-ok"][..], &["100-continue, x"], &["100-continue", "100-continue"], &[""]]
        {
            assert_eq!(check(Version::HTTP_11, all), Err(417), "{all:?}");
        }
    }

    #[test]
    fn a_host_is_one_name_or_address_with_a_port_that_exists() {
        for host in [
            "a",
            "a.example.",
            "a_b",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "a:",
            "a:0",
            "a:65535",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "", ":80", "a:65536", "a:http", "a:80:80", "a:+80", "a,b", "a:80,b", "a@b", "a b",
            "a/b", "%61", "[::1", "[a]", "[]", "[::1]80", "::1",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn cookies_are_one_field_since_http_2() {
        for (version, cookies, expected) in [
            (Version::HTTP_2, &[][..], &[][..]),
            (Version::HTTP_2, &["a=1"], &["a=1"]),
            (Version::HTTP_2, &["a=1", "b=2; c=3", "a=1"], &["a=1; b=2; c=3; a=1"]),
            (Version::HTTP_11, &["a=1", "b=2"], &["a=1", "b=2"]),
        ] {
            let mut headers = headers(header::COOKIE, cookies);
            join_cookies(version, &mut headers);
            let joined: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(joined, expected, "{version:?}");
        }
    }

    fn target_of(version: Version, uri: &str, hosts: &[&str]) -> Result<String, NotAdmitted> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        target(&parts).map(|(host, path)| format!("{host}{path}"))
    }

    #[test]
    fn since_http_2_the_target_has_the_host_and_the_header_must_not_differ() {
        let two = |hosts| target_of(Version::HTTP_2, "https://a.example:8443/x?y", hosts);
        let whole = Ok("a.example:8443/x?y".to_owned());
        assert_eq!(two(&[]), whole);
        assert_eq!(two(&["a.example:8443"]), whole);
        assert_eq!(two(&["A.example:8443"]), whole, "hosts have no case");
        for hosts in [&["b.example"][..], &["a.example"], &["a.example:8443", "a.example:8443"]] {
            assert!(two(hosts).is_err(), "{hosts:?}");
        }
        let without = |hosts| target_of(Version::HTTP_2, "/x", hosts);
        assert_eq!(without(&["a.example"]), Ok("a.example/x".to_owned()));
        assert!(without(&[]).is_err());
        assert!(target_of(Version::HTTP_2, "https://a@b/x", &[]).is_err());
    }

    #[test]
    fn in_http_1_1_the_header_must_be_there_and_the_target_counts_for_more() {
        let one = |uri, hosts| target_of(Version::HTTP_11, uri, hosts);
        assert_eq!(one("http://a/x", &["b"]), Ok("a/x".to_owned()));
        assert!(one("http://a/x", &["b:x"]).is_err());
        assert!(one("http://a:x/x", &["b"]).is_err());
        assert!(one("http://a/x", &[]).is_err());
        assert!(one("/x", &[]).is_err());
        assert!(one("/x", &["a", "a"]).is_err());
        assert!(one("/x", &["a,b"]).is_err());
        let old = target_of(Version::HTTP_10, "/x", &[]);
        assert_eq!(old, Ok("localhost/x".to_owned()));
    }
}
