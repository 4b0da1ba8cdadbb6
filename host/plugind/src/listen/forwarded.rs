//! The client of a request, in the header fields in which plugins read it: `Forwarded` (RFC 7239), `X-Forwarded-For`,
//! `X-Forwarded-Proto`, `X-Forwarded-Host`, and `X-Forwarded-Client-Cert` for a client with a certificate.
//!
//! Each of the first four has one element, about the client, and a client can forge none of the five. Behind trusted
//! proxies the client is the last address that a trusted proxy reports and that is not a trusted proxy itself.
//! `X-Forwarded-Client-Cert` of a trusted proxy is passed on as it is.

use crate::{
    base::name::PluginName,
    config::settings::{HttpSetting, ProxyHeader, TrustedProxy},
    listen::{admission::is_host, stream::Peer},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
    uri::{Authority, Scheme},
};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

/// The client of a request, once it was [written](ForwardedFields::write).
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestClient {
    Address(IpAddr),
    Process { pid: Option<i32>, uid: u32, gid: u32 },
    Unknown,
}

impl From<Peer> for RequestClient {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => Self::Address(address.ip().to_canonical()),
            Peer::Unix { pid, uid, gid } => Self::Process { pid, uid, gid },
            Peer::Unknown => Self::Unknown,
        }
    }
}

impl RequestClient {
    /// Parses a proxy's text about a client: an address, possibly with a port. Any other text is an unknown client.
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<IpAddr>().ok();
        let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
        address.map_or(Self::Unknown, |address| Self::Address(address.to_canonical()))
    }

    fn is_trusted(self, setting: &HttpSetting) -> bool {
        setting.trusted_proxies.iter().any(|proxy| match (proxy, self) {
            (TrustedProxy::Network(network), Self::Address(address)) => network.contains(address),
            (TrustedProxy::Unix, Self::Process { .. } | Self::Unknown) => true,
            _ => false,
        })
    }
}

impl fmt::Display for RequestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            // The form of an identifier (RFC 7239, 6.3).
            Self::Process { pid, uid, gid } => {
                f.write_str("_")?;
                if let Some(pid) = pid {
                    write!(f, "pid-{pid}.")?;
                }
                write!(f, "uid-{uid}.gid-{gid}")
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The fields of one connection.
pub struct ForwardedFields {
    setting: Arc<HttpSetting>,
    /// The peer is a trusted proxy.
    trusted: bool,
    peer: RequestClient,
    scheme: Scheme,
    /// `x-forwarded-for` and `x-forwarded-proto` of a client that is the peer itself.
    own: (HeaderValue, HeaderValue),
    /// The last host, and `forwarded` for it: nearly all requests of a connection are for one host.
    last: Mutex<Option<(HeaderValue, HeaderValue)>>,
    /// The certificate that the peer showed.
    certificate: Option<HeaderValue>,
}

/// The origin of a request, by itself or by a proxy.
struct RequestOrigin {
    client: RequestClient,
    scheme: Scheme,
    host: HeaderValue,
}

impl ForwardedFields {
    /// Those of a connection with this peer.
    #[must_use]
    pub fn new(
        peer: Peer,
        scheme: Scheme,
        setting: Arc<HttpSetting>,
        certificate: Option<HeaderValue>,
    ) -> Self {
        let peer = RequestClient::from(peer);
        let own = (value(&peer), value(&scheme));
        let trusted = peer.is_trusted(&setting);
        Self { setting, trusted, peer, scheme, own, last: Mutex::new(None), certificate }
    }

    /// The peer, as a plugin sees a client that is the peer itself.
    #[must_use]
    pub fn peer(&self) -> &HeaderValue {
        &self.own.0
    }

    /// Whether the peer is a trusted proxy.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The scheme of the connection.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.scheme == Scheme::HTTPS { "https" } else { "http" }
    }

    /// Writes them into the header of a request for `host`, and returns the scheme that the client used.
    pub fn write(&self, headers: &mut HeaderMap, host: &Authority) -> Scheme {
        let sent = headers.get(HOST).filter(|sent| sent.as_bytes() == host.as_str().as_bytes());
        let host = sent.cloned().unwrap_or_else(|| value(host));
        match &self.certificate {
            Some(certificate) => drop(headers.insert(CLIENT_CERTIFICATE, certificate.clone())),
            // A trusted proxy may have seen one.
            None if self.trusted => (),
            None => drop(headers.remove(CLIENT_CERTIFICATE)),
        }
        if !self.trusted {
            let (own_for, own_proto) = self.own.clone();
            headers.insert(FORWARDED, self.forwarded(&host));
            headers.insert(FORWARDED_FOR, own_for);
            headers.insert(FORWARDED_PROTO, own_proto);
            headers.insert(FORWARDED_HOST, host);
            return self.scheme.clone();
        }
        let peer = RequestOrigin { client: self.peer, scheme: self.scheme.clone(), host };
        let origin = match self.setting.proxy_header {
            ProxyHeader::XForwarded => of_x_forwarded(headers, peer, &self.setting),
            ProxyHeader::Forwarded => of_forwarded(headers, peer, &self.setting),
        };
        headers.insert(FORWARDED, value(&origin));
        headers.insert(FORWARDED_FOR, value(&origin.client));
        headers.insert(FORWARDED_PROTO, value(&origin.scheme));
        headers.insert(FORWARDED_HOST, origin.host);
        origin.scheme
    }

    fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, forwarded)) = last.as_ref().filter(|(of, _)| of == host) {
            return forwarded.clone();
        }
        let origin =
            RequestOrigin { client: self.peer, scheme: self.scheme.clone(), host: host.clone() };
        let forwarded = value(&origin);
        *last = Some((host.clone(), forwarded.clone()));
        forwarded
    }
}

/// Writes the fields of a request that another plugin sends to `host`: that plugin is its client.
pub fn write_for_plugin(headers: &mut HeaderMap, caller: &PluginName, host: &str) {
    // The form of an identifier (RFC 7239, 6.3).
    let client = format!("_plugin-{caller}");
    headers.remove(CLIENT_CERTIFICATE);
    headers.insert(FORWARDED, value(&format!("for={client};host=\"{host}\";proto=http")));
    headers.insert(FORWARDED_FOR, value(&client));
    headers.insert(FORWARDED_PROTO, value(&Scheme::HTTP));
    headers.insert(FORWARDED_HOST, value(&host));
}

/// The element of `Forwarded`.
impl fmt::Display for RequestOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            RequestClient::Address(IpAddr::V6(address)) => write!(f, "for=\"[{address}]\"")?,
            client => write!(f, "for={client}")?,
        }
        // A host has no quotes and no backslashes.
        let host = self.host.to_str().unwrap_or_default();
        write!(f, ";host=\"{host}\";proto={}", self.scheme)
    }
}

/// Text as the value of a field; empty if it is not a valid value, which never happens with the texts of this file.
fn value(text: &impl ToString) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// The elements of a list that may be in several fields, the last one first. A trusted proxy writes
/// text only; an element of other bytes must not hide those of the proxy.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    let values = headers.get_all(name).iter().rev();
    let elements = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    elements.map(|element| String::from_utf8_lossy(element.trim_ascii()))
}

fn scheme_of(text: &str) -> Option<Scheme> {
    match () {
        () if text.eq_ignore_ascii_case("https") => Some(Scheme::HTTPS),
        () if text.eq_ignore_ascii_case("http") => Some(Scheme::HTTP),
        () => None,
    }
}

fn host_of(text: &str) -> Option<HeaderValue> {
    is_host(text).then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// Where a request comes from according to `X-Forwarded-*` of a trusted proxy.
fn of_x_forwarded(
    headers: &HeaderMap,
    peer: RequestOrigin,
    setting: &HttpSetting,
) -> RequestOrigin {
    let mut client = peer.client;
    for element in elements(headers, &FORWARDED_FOR) {
        client = RequestClient::parse(&element);
        if !client.is_trusted(setting) || client == RequestClient::Unknown {
            break;
        }
    }
    let scheme = elements(headers, &FORWARDED_PROTO).next().and_then(|text| scheme_of(&text));
    let host = elements(headers, &FORWARDED_HOST).next().and_then(|text| host_of(&text));
    RequestOrigin { client, scheme: scheme.unwrap_or(peer.scheme), host: host.unwrap_or(peer.host) }
}

/// Where a request comes from according to `Forwarded` of a trusted proxy.
fn of_forwarded(headers: &HeaderMap, peer: RequestOrigin, setting: &HttpSetting) -> RequestOrigin {
    let mut origin = peer;
    // A proxy may omit unknown parts, so each element adds to those behind it.
    for element in elements(headers, &FORWARDED) {
        let mut client = RequestClient::Unknown;
        for (name, text) in element.split(';').filter_map(|pair| pair.split_once('=')) {
            let text = text.trim().trim_matches('"');
            match () {
                () if name.trim().eq_ignore_ascii_case("for") => {
                    client = RequestClient::parse(text)
                }
                () if name.trim().eq_ignore_ascii_case("proto") => {
                    origin.scheme = scheme_of(text).unwrap_or(origin.scheme);
                }
                () if name.trim().eq_ignore_ascii_case("host") => {
                    origin.host = host_of(text).unwrap_or(origin.host);
                }
                () => (),
            }
        }
        origin.client = client;
        if !client.is_trusted(setting) || client == RequestClient::Unknown {
            break;
        }
    }
    origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(proxies: &[&str], proxy_header: ProxyHeader) -> Arc<HttpSetting> {
        let trusted_proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        Arc::new(HttpSetting { trusted_proxies, proxy_header, ..HttpSetting::default() })
    }

    /// Returns the fields that a plugin receives: for, proto, host, and the one field that has all three.
    fn seen<T: AsRef<[u8]>>(
        peer: Peer,
        setting: Arc<HttpSetting>,
        sent: &[(&'static str, T)],
    ) -> [String; 4] {
        let mut headers = HeaderMap::new();
        for (name, text) in sent {
            headers.append(*name, HeaderValue::from_bytes(text.as_ref()).unwrap());
        }
        let fields = ForwardedFields::new(peer, Scheme::HTTP, setting, None);
        fields.write(&mut headers, &"plugins.example:8080".parse().unwrap());
        [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED].map(|name| {
            let all: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(all.len(), 1);
            all[0].to_str().unwrap().to_owned()
        })
    }

    fn tcp(address: &str) -> Peer {
        Peer::Tcp(SocketAddr::new(address.parse().unwrap(), 4711))
    }

    const FORGED: &[(&str, &str)] = &[
        ("host", "plugins.example:8080"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "203.0.113.10"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "forged.example"),
        ("forwarded", "for=203.0.113.9;proto=https"),
    ];

    #[test]
    fn a_client_cannot_forge_who_it_is() {
        let setting = setting(&["192.0.2.1"], ProxyHeader::XForwarded);
        assert_eq!(
            seen(tcp("192.0.2.7"), setting.clone(), FORGED),
            [
                "192.0.2.7",
                "http",
                "plugins.example:8080",
                "for=192.0.2.7;host=\"plugins.example:8080\";proto=http"
            ]
        );
        assert_eq!(seen(tcp("2001:db8::7"), setting.clone(), FORGED)[0], "2001:db8::7");
        let process = Peer::Unix { pid: Some(7), uid: 1000, gid: 100 };
        let seen = seen(process, setting, FORGED);
        assert_eq!(seen[0], "_pid-7.uid-1000.gid-100");
        assert!(seen[3].starts_with("for=_pid-7.uid-1000.gid-100;"), "{seen:?}");
    }

    #[test]
    fn the_client_is_the_last_one_of_whom_a_trusted_proxy_speaks() {
        let proxies = setting(&["192.0.2.0/24", "unix"], ProxyHeader::XForwarded);
        let client = |sent: &[&str]| {
            let sent: Vec<_> = sent.iter().map(|text| ("x-forwarded-for", *text)).collect();
            seen(tcp("192.0.2.1"), proxies.clone(), &sent)[0].clone()
        };
        assert_eq!(client(&[]), "192.0.2.1", "it asks for itself");
        assert_eq!(client(&["198.51.100.5"]), "198.51.100.5");
        assert_eq!(client(&["203.0.113.9, 198.51.100.5"]), "198.51.100.5", "the first is forged");
        assert_eq!(client(&["203.0.113.9, 198.51.100.5, 192.0.2.3"]), "198.51.100.5");
        assert_eq!(client(&["203.0.113.9", "198.51.100.5", "192.0.2.3"]), "198.51.100.5");
        assert_eq!(client(&["192.0.2.4, 192.0.2.3"]), "192.0.2.4", "all are proxies");
        assert_eq!(client(&["198.51.100.5:4711"]), "198.51.100.5");
        assert_eq!(client(&["[2001:db8::5]:4711"]), "2001:db8::5");
        assert_eq!(client(&["::ffff:198.51.100.5"]), "198.51.100.5");
        assert_eq!(client(&["203.0.113.9, unix:"]), "unknown");
    }

    #[test]
    fn bytes_that_are_not_text_hide_no_element_of_a_trusted_proxy() {
        let client = |field, proxy_header, sent: &[&[u8]]| {
            let sent: Vec<_> = sent.iter().map(|text| (field, *text)).collect();
            seen(tcp("192.0.2.1"), setting(&["192.0.2.1"], proxy_header), &sent)[0].clone()
        };
        for (sent, seen) in [
            (&[&b"\xff, 198.51.100.5"[..]][..], "198.51.100.5"),
            (&[b"\xff", b"198.51.100.5"], "198.51.100.5"),
            (&[b"203.0.113.9", b"\xff, 198.51.100.5"], "198.51.100.5"),
            (&[b"203.0.113.9, \xff, 192.0.2.1"], "unknown"),
            (&[b"203.0.113.9, \xff"], "unknown"),
            (&["203.0.113.9, é".as_bytes()], "unknown"),
        ] {
            assert_eq!(client("x-forwarded-for", ProxyHeader::XForwarded, sent), seen, "{sent:?}");
        }
        for (sent, seen) in [
            (&[&b"for=\xff, for=198.51.100.5"[..]][..], "198.51.100.5"),
            (&[b"for=203.0.113.9, for=198.51.100.5;host=\"\xff\""], "198.51.100.5"),
            (&[b"for=203.0.113.9, for=\xff"], "unknown"),
        ] {
            assert_eq!(client("forwarded", ProxyHeader::Forwarded, sent), seen, "{sent:?}");
        }
    }

    #[test]
    fn scheme_and_host_are_those_that_a_trusted_proxy_says() {
        let seen = |sent: &[(&'static str, &str)]| {
            seen(tcp("192.0.2.1"), setting(&["192.0.2.1"], ProxyHeader::XForwarded), sent)
        };
        let [_, proto, host, forwarded] = seen(&[
            ("x-forwarded-for", "2001:db8::5"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.example"),
            ("forwarded", "for=203.0.113.9"),
        ]);
        assert_eq!((&*proto, &*host), ("https", "www.example"));
        assert_eq!(forwarded, "for=\"[2001:db8::5]\";host=\"www.example\";proto=https");
        let [_, proto, host, _] =
            seen(&[("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a\"b")]);
        assert_eq!((&*proto, &*host), ("http", "plugins.example:8080"));
    }

    #[test]
    fn a_proxy_that_writes_forwarded_is_not_asked_for_other_fields() {
        let proxies = setting(&["192.0.2.0/24"], ProxyHeader::Forwarded);
        let sent: &[(&str, &str)] = &[
            ("x-forwarded-for", "203.0.113.9"),
            (
                "forwarded",
                "for=203.0.113.9, For=\"[2001:db8::5]:4711\";proto=https;host=\"www.example\"",
            ),
            ("forwarded", "for=192.0.2.9"),
        ];
        let [client, proto, host, _] = seen(tcp("192.0.2.1"), proxies.clone(), sent);
        assert_eq!((&*client, &*proto, &*host), ("2001:db8::5", "https", "www.example"));
        let hidden =
            seen(tcp("192.0.2.1"), proxies, &[("forwarded", "for=203.0.113.9, for=_hidden")]);
        assert_eq!(hidden[0], "unknown");
    }

    #[test]
    fn a_certificate_is_that_of_the_connection_or_of_a_trusted_proxy() {
        let passed_on = |peer, own: Option<&'static str>| {
            let setting = setting(&["192.0.2.1"], ProxyHeader::XForwarded);
            let own = own.map(HeaderValue::from_static);
            let fields = ForwardedFields::new(tcp(peer), Scheme::HTTPS, setting, own);
            let mut headers = HeaderMap::new();
            headers.append(CLIENT_CERTIFICATE, HeaderValue::from_static("sent"));
            headers.append(CLIENT_CERTIFICATE, HeaderValue::from_static("twice"));
            fields.write(&mut headers, &"a.example".parse().unwrap());
            headers.get(CLIENT_CERTIFICATE).map(|seen| seen.to_str().unwrap().to_owned())
        };
        assert_eq!(passed_on("192.0.2.7", None), None);
        assert_eq!(passed_on("192.0.2.7", Some("own")).as_deref(), Some("own"));
        assert_eq!(passed_on("192.0.2.1", None).as_deref(), Some("sent"));
        assert_eq!(passed_on("192.0.2.1", Some("own")).as_deref(), Some("own"));
    }

    #[test]
    fn each_host_of_a_connection_has_its_own_field() {
        let setting = setting(&[], ProxyHeader::XForwarded);
        let fields = ForwardedFields::new(tcp("192.0.2.7"), Scheme::HTTPS, setting, None);
        for host in ["a.example", "a.example", "b.example", "a.example"] {
            let mut headers = HeaderMap::new();
            assert_eq!(fields.write(&mut headers, &host.parse().unwrap()), Scheme::HTTPS);
            let expected = format!("for=192.0.2.7;host=\"{host}\";proto=https");
            assert_eq!(headers[FORWARDED], expected);
        }
    }
}
