//! The HTTP settings: of all connections, and of the sockets of one name.

use crate::{
    base::{
        network::{Network, NetworkParseError},
        quantity::Span,
    },
    config::Table,
};
use std::{str::FromStr, time::Duration};

/// In a shorter time no client sends its next request.
const KEEP_ALIVE_MIN: Span = Span(Duration::from_secs(1));

/// `[http]`: the settings of all HTTP connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Time that a connection may be idle between two requests.
    pub keep_alive: Duration,
}

/// The HTTP settings of the sockets of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSetting {
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The proxies that are trusted to name the client.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header fields in which they name it.
    pub proxy_header: ProxyHeader,
    /// The format of the access log, if there is one.
    pub access_log: Option<AccessLog>,
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// A message with fields.
    Journal,
    /// The line of Apache and nginx.
    Combined,
    /// An object of JSON.
    Json,
}

impl AccessLog {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("journal", Self::Journal), ("combined", Self::Combined), ("json", Self::Json)];
}

/// A proxy that is trusted to name the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Any process of this machine that can connect to the socket.
    Unix,
    /// One with such an address.
    Network(Network),
}

/// The header fields in which a trusted proxy says who the client is. The others may have been sent by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 2] =
        [("x-forwarded", Self::XForwarded), ("forwarded", Self::Forwarded)];
}

impl FromStr for TrustedProxy {
    type Err = NetworkParseError;

    fn from_str(text: &str) -> Result<Self, NetworkParseError> {
        if text == "unix" { Ok(Self::Unix) } else { text.parse().map(Self::Network) }
    }
}

impl Http {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let keep_alive = table.parsed::<Span>("keep-alive-sec");
        if let Some(time) = keep_alive.filter(|time| *time < KEEP_ALIVE_MIN) {
            let message = format!(
                "http.keep-alive-sec must be at least \"{KEEP_ALIVE_MIN}\", not \"{time}\""
            );
            table.complain_about("keep-alive-sec", message);
        }
        Self { keep_alive: keep_alive.map_or(Duration::from_secs(75), |time| time.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    #[test]
    fn connections_are_kept_longer_than_proxies_keep_theirs_by_default() {
        assert_eq!(Settings::default().http.keep_alive, Duration::from_secs(75));
        let settings = Settings::parse(&Document::new(Path::new("plugind.toml"), "")).unwrap();
        assert_eq!(settings.http.keep_alive, Duration::from_secs(75));
    }

    #[test]
    fn a_proxy_is_an_address_a_network_or_any_process_of_the_machine() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = "[sockets.web]\nprotocol = \"http\"\n";
        let settings =
            parse(&format!("{web}trusted-proxies = [\"unix\", \"192.0.2.0/24\"]\n")).unwrap();
        let http = &settings.sockets.0[&"web".parse().unwrap()].http;
        let network = TrustedProxy::Network("192.0.2.0/24".parse().unwrap());
        assert_eq!(http.trusted_proxies, [TrustedProxy::Unix, network]);
        assert_eq!(http.proxy_header, ProxyHeader::XForwarded);
        assert!(!http.proxy_protocol);
        let mistakes = parse(&format!("{web}trusted-proxies = [\"localhost\"]\n")).unwrap_err();
        assert!(
            mistakes[0].to_string().starts_with(
                "plugind.toml:3:20: sockets.web.trusted-proxies: \"localhost\" is not a network"
            ),
            "{mistakes:?}"
        );
        let control = "[sockets.web]\nprotocol = \"control\"\nproxy-protocol = true\n";
        assert_eq!(parse(control).unwrap_err().len(), 1);
    }
}
