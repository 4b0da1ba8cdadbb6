//! The limits for the clients of a socket: connections and rates.

use crate::{base::quantity::Bytes, config::Table};

/// The most connections of a socket by default; further clients wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 8192;
/// Divisor for the part of them that one peer may have.
const PEER_SHARE: u32 = 4;
/// The lowest rate of a client by default: slower than any modem, and faster than one that only occupies its place.
const RATE_MIN: Bytes = Bytes(256);

/// The limits for clients of the sockets of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSetting {
    /// The most connections at a time.
    pub max: u32,
    /// The most connections of one peer at a time.
    pub max_per_peer: u32,
    /// Bytes a second that a client must send of a request, or read of a response.
    pub rate_min: Bytes,
}

impl Default for ConnectionSetting {
    fn default() -> Self {
        let max = CONNECTIONS_MAX;
        Self { max, max_per_peer: max / PEER_SHARE, rate_min: RATE_MIN }
    }
}

impl ConnectionSetting {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let max = table.number("connections-max", 1).unwrap_or(default.max);
        let max_per_peer = table.number("connections-max-per-peer", 1);
        Self {
            max,
            max_per_peer: max_per_peer.unwrap_or((max / PEER_SHARE).max(1)),
            rate_min: table.parsed("rate-min").unwrap_or(default.rate_min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    #[test]
    fn a_peer_has_a_quarter_of_the_connections_unless_a_setting_says_otherwise() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = |text: &str| {
            let settings = parse(&format!("[sockets.web]\n{text}")).unwrap();
            settings.sockets.0[&"web".parse().unwrap()].connections
        };
        let setting = |max, max_per_peer, rate| ConnectionSetting {
            max,
            max_per_peer,
            rate_min: Bytes(rate),
        };
        assert_eq!(web("protocol = \"http\"\n"), setting(8192, 2048, 256));
        assert_eq!(web("connections-max = 2\nrate-min = \"1K\"\n"), setting(2, 1, 1024));
        assert_eq!(
            web("connections-max-per-peer = 9000\nrate-min = \"0\"\n"),
            setting(8192, 9000, 0)
        );
        assert!(parse("[sockets.web]\nconnections-max = 0\n").is_err());
    }
}
