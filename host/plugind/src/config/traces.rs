//! Where spans are sent: the address of a collector of OpenTelemetry.

use std::{fmt, path::PathBuf, str::FromStr};

/// The path of OTLP over HTTP, below that of the address.
const TRACES: &str = "/v1/traces";
/// The port of a URL without one.
const HTTP_PORT: u16 = 80;

/// A collector, which speaks OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEndpoint {
    /// At an address of the network.
    Http {
        /// A name or address; one of IPv6 in brackets.
        host: String,
        /// The port.
        port: u16,
        /// The path for traces.
        path: String,
    },
    /// On a unix socket.
    Unix(PathBuf),
}

/// A text is not the address of a collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} must be \"unix:/PATH\" or \"http://HOST:PORT\", the address of a collector that speaks OTLP over HTTP"
)]
pub struct TraceEndpointError(String);

impl FromStr for TraceEndpoint {
    type Err = TraceEndpointError;

    fn from_str(text: &str) -> Result<Self, TraceEndpointError> {
        let wrong = || TraceEndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let address = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, base) = match address.find('/') {
            Some(slash) => address.split_at(slash),
            None => (address, ""),
        };
        // A colon in brackets belongs to an address of IPv6.
        let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
        let (host, port) = match colon {
            Some(colon) => (&authority[..colon], authority[colon + 1..].parse().ok()),
            None => (authority, Some(HTTP_PORT)),
        };
        let port = port.filter(|port| *port != 0).ok_or_else(wrong)?;
        let is_host = !host.is_empty()
            && host.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._[]:".contains(&it))
            && host.contains(':') == (host.starts_with('[') && host.ends_with(']'));
        let is_path = base.bytes().all(|it| it.is_ascii_graphic() && it != b'?' && it != b'#');
        if !is_host || !is_path {
            return Err(wrong());
        }
        // Some name the whole address, others what is before the path of OTLP.
        let base = base.trim_end_matches('/');
        let path = format!("{}{TRACES}", base.strip_suffix(TRACES).unwrap_or(base));
        Ok(Self::Http { host: host.to_owned(), port, path })
    }
}

impl fmt::Display for TraceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port, path } => write!(f, "http://{host}:{port}{path}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_without_tls_or_a_unix_socket() {
        for (text, meaning) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces"),
            ("http://otel.example/base/", "http://otel.example:80/base/v1/traces"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
            ("http://[::1]", "http://[::1]:80/v1/traces"),
            ("unix:/run/otel/otlp.sock", "unix:/run/otel/otlp.sock"),
        ] {
            assert_eq!(text.parse::<TraceEndpoint>().unwrap().to_string(), meaning);
        }
        for text in [
            "",
            "localhost:4318",
            "https://localhost:4318",
            "http://",
            "http://:4318",
            "http://a:0",
            "http://a:b",
            "http://a:4318?x",
            "http://user@a:4318",
            "http://::1:4318",
            "http://a/ b",
            "unix:",
            "unix:relative",
            "unix:/",
        ] {
            assert!(text.parse::<TraceEndpoint>().is_err(), "{text}");
        }
    }
}
