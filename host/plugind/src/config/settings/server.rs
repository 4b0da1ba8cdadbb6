//! A server that the daemon uses: its address, and the credential that the daemon shows it.

use crate::{
    base::endpoint::{Endpoint, Host},
    config::{Origin, Table, settings::tls::CredentialFile},
};
use std::{fmt, path::PathBuf, str::FromStr};

/// The ports of servers whose URL has none.
const NATS_PORT: u16 = 4222;
const VALKEY_PORT: u16 = 6379;

/// A server, and the way to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSetting<U> {
    /// Its address.
    pub url: U,
    /// Where that was written.
    pub origin: Origin,
    /// The file that has the password or token; none: no login.
    pub credential: Option<(CredentialFile, Origin)>,
    /// The file with the authorities that sign the server's certificate; there is one if the connection uses TLS.
    pub ca: Option<(CredentialFile, Origin)>,
}

/// The address of a server of some kind.
pub trait ServerUrl: FromStr<Err = ServerUrlError> {
    /// Whether the connection uses TLS.
    fn is_tls(&self) -> bool;
}

/// The address of a NATS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsUrl {
    /// Host and port.
    pub endpoint: Endpoint,
    /// Whether the connection must use TLS.
    pub tls: bool,
}

/// The address of a server that speaks the protocol of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValkeyUrl {
    /// At an address of the network.
    Tcp {
        /// Host and port.
        endpoint: Endpoint,
        /// Whether the connection uses TLS.
        tls: bool,
    },
    /// On a unix socket.
    Unix(PathBuf),
}

/// A text is not the address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the text, and what it must be")]
pub enum ServerUrlError {
    #[error("{text:?} must be {wanted}")]
    Form { text: String, wanted: &'static str },
    /// The text is not repeated, since it has a password.
    #[error(
        "the URL must not contain a user or a password; write them as \"USER:PASSWORD\" into a credential, and its name \
         under credential"
    )]
    Login,
}

const NATS_FORM: &str = "\"nats://HOST:PORT\", or \"tls://HOST:PORT\" with TLS";
const VALKEY_FORM: &str =
    "\"valkey://HOST:PORT\", \"valkeys://HOST:PORT\" with TLS, or \"unix:/PATH\"";

/// Reads host and port behind `://`.
fn endpoint(
    text: &str,
    authority: &str,
    port: u16,
    wanted: &'static str,
) -> Result<Endpoint, ServerUrlError> {
    if authority.contains('@') {
        return Err(ServerUrlError::Login);
    }
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let form = || ServerUrlError::Form { text: text.to_owned(), wanted };
    match Host::parse(authority) {
        Some(host) => Ok(Endpoint { host, port }),
        None => authority.parse().map_err(|_| form()),
    }
}

impl FromStr for NatsUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let (authority, tls) = match text.split_once("://") {
            Some(("nats", authority)) => (authority, false),
            Some(("tls", authority)) => (authority, true),
            _ if text.contains('@') => return Err(ServerUrlError::Login),
            _ => return Err(ServerUrlError::Form { text: text.to_owned(), wanted: NATS_FORM }),
        };
        Ok(Self { endpoint: endpoint(text, authority, NATS_PORT, NATS_FORM)?, tls })
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "tls" } else { "nats" }, self.endpoint)
    }
}

impl FromStr for ValkeyUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let form = || ServerUrlError::Form { text: text.to_owned(), wanted: VALKEY_FORM };
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(form()) };
        }
        let (authority, tls) = match text.split_once("://") {
            Some(("valkey" | "redis", authority)) => (authority, false),
            Some(("valkeys" | "rediss", authority)) => (authority, true),
            _ if text.contains('@') => return Err(ServerUrlError::Login),
            _ => return Err(form()),
        };
        Ok(Self::Tcp { endpoint: endpoint(text, authority, VALKEY_PORT, VALKEY_FORM)?, tls })
    }
}

impl ValkeyUrl {
    /// Host and port, if it is reached over a network.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Tcp { endpoint, .. } => Some(endpoint),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ValkeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { endpoint, tls: false } => write!(f, "valkey://{endpoint}"),
            Self::Tcp { endpoint, tls: true } => write!(f, "valkeys://{endpoint}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ServerUrl for NatsUrl {
    fn is_tls(&self) -> bool {
        self.tls
    }
}

impl ServerUrl for ValkeyUrl {
    fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

impl<U> ServerSetting<U> {
    /// The files that it names, each with its key and its place.
    pub(super) fn files(&self) -> Vec<(&'static str, &CredentialFile, &Origin)> {
        let files = [("credential", &self.credential), ("ca", &self.ca)];
        let named = files
            .into_iter()
            .filter_map(|(key, file)| file.as_ref().map(|(file, origin)| (key, file, origin)));
        named.collect()
    }
}

impl<U: ServerUrl> ServerSetting<U> {
    /// Reads `url`, `credential` and `ca` of `[section]`. None if `url` is missing, which is no mistake here, or wrong.
    pub fn read(table: &Table<'_>, section: &str) -> Option<Self> {
        let file = |key| table.parsed(key).map(|file| (file, table.origin(key)));
        let (url, credential, ca) = (table.parsed::<U>("url"), file("credential"), file("ca"));
        let (url, has_ca) = (url?, table.origin("ca").0.is_some());
        if url.is_tls() && !has_ca {
            let message = format!(
                "{section}.ca is missing; TLS needs the authorities that sign the server's certificate, as a credential \
                 or a file in PEM format"
            );
            table.complain_about("url", message);
        } else if has_ca && !url.is_tls() {
            let message = format!("{section}.ca needs a URL with TLS under {section}.url");
            table.complain_about("ca", message);
        }
        Some(Self { url, origin: table.origin("url"), credential, ca })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_never_a_password() {
        for (text, meaning) in [
            ("nats://127.0.0.1:4333", "nats://127.0.0.1:4333"),
            ("nats://nats.example", "nats://nats.example:4222"),
            ("tls://nats.example:4443/", "tls://nats.example:4443"),
            ("nats://[::1]", "nats://[::1]:4222"),
        ] {
            assert_eq!(text.parse::<NatsUrl>().unwrap().to_string(), meaning);
        }
        for (text, meaning) in [
            ("redis://db.example", "valkey://db.example:6379"),
            ("valkeys://10.1.2.3:1", "valkeys://10.1.2.3:1"),
            ("unix:/run/valkey/sock", "unix:/run/valkey/sock"),
        ] {
            assert_eq!(text.parse::<ValkeyUrl>().unwrap().to_string(), meaning);
        }
        for text in
            ["", "nats.example", "nats://", "http://a", "nats://a:0", "nats://a/b", "nats:a"]
        {
            let error = text.parse::<NatsUrl>().unwrap_err().to_string();
            assert!(error.contains("\"nats://HOST:PORT\""), "{error}");
        }
        for text in ["", "unix:", "unix:a", "valkey://a/1", "nats://a"] {
            let error = text.parse::<ValkeyUrl>().unwrap_err().to_string();
            assert!(error.contains("\"valkey://HOST:PORT\""), "{error}");
        }
        for text in ["nats://me:secret@a", "me:secret@a", "valkey://:secret@a"] {
            let errors = [
                text.parse::<NatsUrl>().unwrap_err().to_string(),
                text.parse::<ValkeyUrl>().unwrap_err().to_string(),
            ];
            assert!(errors.iter().any(|error| error.contains("credential")), "{errors:?}");
        }
        let error = "nats://me:secret@a".parse::<NatsUrl>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
