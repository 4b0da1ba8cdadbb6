//! Which requests ask for a WebSocket, and how they are answered (RFC 6455, 4.2; RFC 8441). Pure.

use crate::world::client_websocket::WebSocketRequest;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The name of WebSocket as a protocol.
pub const WEBSOCKET: &str = "websocket";
/// The protocol of a route that serves no WebSockets.
pub const HTTP: &str = "HTTP/1.1";
/// The one version of the protocol.
const VERSION: &str = "13";
/// The length of a key: 16 bytes in Base64.
const KEY_LENGTH: usize = 24;

/// Whether a request asks for a protocol other than HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It does not.
    Nothing,
    /// It asks for a WebSocket.
    WebSocket,
    /// It is a CONNECT of HTTP/2 for another protocol.
    Connect,
}

/// Why a request for a WebSocket is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Only the one version is known.
    #[error("the version of the WebSocket must be 13")]
    Version,
    /// The key is missing or malformed.
    #[error("the request has no key for a WebSocket, or a malformed one")]
    Key,
    /// Only GET asks for a WebSocket, and it has no body.
    #[error("a request for a WebSocket must be a GET without a body")]
    Method,
}

impl HandshakeError {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Method => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request for a WebSocket that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The proof that the key was read; none in HTTP/2.
    accept: Option<HeaderValue>,
    /// The subprotocols that the client offers.
    pub subprotocols: Vec<String>,
}

/// Returns the protocol that a request asks for instead of HTTP.
#[must_use]
pub fn asks<B>(request: &Request<B>) -> Asks {
    if let Some(protocol) = request.extensions().get::<Protocol>() {
        return match protocol.as_str() {
            WEBSOCKET => Asks::WebSocket,
            _ => Asks::Connect,
        };
    }
    // HTTP/1.0 knows no upgrades, nor does HTTP/2 know them by header fields (RFC 9110, 7.8).
    let headers = request.headers();
    let is_upgrade = request.version() == Version::HTTP_11
        && has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, WEBSOCKET);
    if is_upgrade { Asks::WebSocket } else { Asks::Nothing }
}

/// The elements of a field that is a list.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(|one| !one.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

impl Handshake {
    /// Reads a request that asks for a WebSocket.
    ///
    /// # Errors
    /// When it cannot have one.
    pub fn read<B: http_body::Body>(request: &Request<B>) -> Result<Self, HandshakeError> {
        let headers = request.headers();
        let is_http2 = request.version() >= Version::HTTP_2;
        if !is_http2 && (request.method() != Method::GET || !request.body().is_end_stream()) {
            return Err(HandshakeError::Method);
        }
        let version = headers.get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version.as_bytes().trim_ascii() != VERSION.as_bytes()) {
            return Err(HandshakeError::Version);
        }
        let accept = match is_http2 {
            true => None,
            false => {
                let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
                let (Some(key), None) = (keys.next(), keys.next()) else {
                    return Err(HandshakeError::Key);
                };
                let key = key.as_bytes().trim_ascii();
                if !is_key(key) {
                    return Err(HandshakeError::Key);
                }
                let accept = HeaderValue::from_str(&derive_accept_key(key));
                Some(accept.map_err(|_| HandshakeError::Key)?)
            }
        };
        let offered = elements(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned);
        Ok(Self { accept, subprotocols: offered.collect() })
    }

    /// Returns the request as the plugin gets it, with the path that it sees.
    #[must_use]
    pub fn request<B>(&self, request: &Request<B>, socket: &str) -> WebSocketRequest {
        let uri = request.uri();
        let own = [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
        ];
        let fields = request.headers().iter().filter(|(name, _)| !own.contains(name));
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        WebSocketRequest {
            socket: socket.to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            subprotocols: self.subprotocols.clone(),
            headers: fields.map(field).collect(),
        }
    }

    /// The response that opens the WebSocket.
    #[must_use]
    pub fn response(&self, subprotocol: Option<&str>) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        if let Some(accept) = &self.accept {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        // It is one that the client offered.
        if let Some(Ok(subprotocol)) = subprotocol.map(HeaderValue::from_str) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        *response.status_mut() = match self.accept {
            Some(_) => StatusCode::SWITCHING_PROTOCOLS,
            None => StatusCode::OK,
        };
        response
    }
}

/// Adds to a response of status 426 what it must have (RFC 9110, 15.5.22): the protocol that is required.
pub fn require<B>(response: &mut Response<B>, protocol: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if protocol == WEBSOCKET {
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    }
}

/// Whether these are 16 bytes in Base64.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let digits = text.strip_suffix(b"==");
    text.len() == KEY_LENGTH && digits.is_some_and(|digits| digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().uri("http://h.example/chat?room=1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Empty::new()).unwrap()
    }

    fn upgrade(key: &str, version: &str) -> Request<Empty<Bytes>> {
        request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", key),
            ("sec-websocket-version", version),
            ("sec-websocket-protocol", "chat.v2, chat.v1"),
            ("origin", "https://h.example"),
        ])
    }

    #[test]
    fn a_request_asks_for_a_websocket_by_both_fields_and_not_in_http_1_0() {
        assert_eq!(asks(&upgrade(KEY, "13")), Asks::WebSocket);
        assert_eq!(asks(&request(&[("upgrade", "websocket")])), Asks::Nothing);
        let other = [("connection", "upgrade"), ("upgrade", "h2c")];
        assert_eq!(asks(&request(&other)), Asks::Nothing);
        let mut old = upgrade(KEY, "13");
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(asks(&old), Asks::Nothing);
        for (protocol, asked) in [("websocket", Asks::WebSocket), ("connect-udp", Asks::Connect)] {
            let mut connect = request(&[]);
            connect.extensions_mut().insert(Protocol::from_static(protocol));
            assert_eq!(asks(&connect), asked);
        }
    }

    #[test]
    fn a_handshake_is_answered_by_the_key_of_the_example_in_the_rfc() {
        let upgrade = upgrade(KEY, "13");
        let handshake = Handshake::read(&upgrade).unwrap();
        let response = handshake.response(Some("chat.v1"));
        assert_eq!(response.status(), 101);
        let field = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(field("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((field("upgrade"), field("connection")), ("websocket", "upgrade"));
        assert_eq!(field("sec-websocket-protocol"), "chat.v1");
        let seen = handshake.request(&upgrade, "http");
        assert_eq!((seen.path.as_str(), seen.host.as_str()), ("/chat?room=1", "h.example"));
        assert_eq!(seen.subprotocols, ["chat.v2", "chat.v1"]);
        let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sec-websocket-protocol", "origin"]);
    }

    #[test]
    fn a_handshake_with_another_version_key_or_method_is_refused() {
        for (key, version, error) in [
            (KEY, "12", HandshakeError::Version),
            ("", "13", HandshakeError::Key),
            ("dGhlIHNhbXBsZSBub25jZQ", "13", HandshakeError::Key),
            ("dGhlIHNhbXBsZSBub25jZ!==", "13", HandshakeError::Key),
        ] {
            assert_eq!(Handshake::read(&upgrade(key, version)), Err(error), "{key} {version}");
        }
        let mut post = upgrade(KEY, "13");
        *post.method_mut() = Method::POST;
        assert_eq!(Handshake::read(&post), Err(HandshakeError::Method));
        let body = upgrade(KEY, "13").map(|_| Full::<Bytes>::from("x"));
        assert_eq!(Handshake::read(&body), Err(HandshakeError::Method));
    }

    #[test]
    fn in_http_2_the_handshake_has_no_key_and_is_answered_200() {
        let mut connect = request(&[("sec-websocket-version", "13")]);
        *connect.version_mut() = Version::HTTP_2;
        *connect.method_mut() = Method::CONNECT;
        let response = Handshake::read(&connect).unwrap().response(None);
        assert_eq!(response.status(), 200);
        assert!(response.headers().is_empty());
    }
}
