//! Where something is reached over a network: `host:port`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// The longest name of a host that DNS has.
const NAME_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// An address, or a name that stands for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, in small letters and without a dot at its end.
    Name(String),
}

/// A text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host with a port; write \"api.example.com:443\", \"10.1.2.3:5432\" or \"[2001:db8::1]:80\""
)]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_number = port.chars().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|port| *port != 0 && is_number).ok_or_else(wrong)?;
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') {
            return Err(wrong());
        }
        Ok(Self { host: Host::parse(host).ok_or_else(wrong)?, port })
    }
}

impl Host {
    /// The host that a URL or a manifest means by `text`, in which an address of IPv6 has brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return Some(Self::Address(IpAddr::V6(address.parse().ok()?).to_canonical()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        // A host that ends with a number must be an address: some resolvers take 127.1 for 127.0.0.1.
        let ends_with_number = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
        (name.len() <= NAME_MAX && name.split('.').all(is_label) && !ends_with_number)
            .then_some(Self::Name(name))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, shown) in [
            ("API.Example.com:443", "api.example.com:443"),
            ("localhost.:80", "localhost:80"),
            ("10.1.2.3:5432", "10.1.2.3:5432"),
            ("[2001:DB8::0:1]:80", "[2001:db8::1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_text_without_host_and_port_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:http",
            "::1:80",
            "http://host:80",
            "user@host:80",
            "a..b:80",
            "127.1:80",
            "0x7f000001:80",
            "*:80",
            "ho st:80",
            "[::1:80",
            "[10.0.0.1]:80",
            "-:-:80",
            "+host:80",
            "host:+80",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was accepted");
        }
    }
}
