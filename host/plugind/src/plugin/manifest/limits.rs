//! `[limits]` of a manifest.

use crate::{
    base::quantity::{Bytes, Percent, Rate, Span},
    config::{Origin, Table},
};
use std::time::Duration;

/// The most connections of a plugin at a time, unless its manifest says otherwise.
const CONNECTIONS_MAX: u32 = 1024;
/// The largest datagram that a plugin takes, unless its manifest says otherwise: the largest of UDP.
const DATAGRAM_MAX: Bytes = Bytes(64 << 10);
/// The largest message of a WebSocket that a plugin takes, unless its manifest says otherwise: each client that sends one
/// has the daemon keep it.
const MESSAGE_MAX: Bytes = Bytes(64 << 10);
/// The largest that a manifest may allow: a buffer of this size is kept for each socket.
const DATAGRAM_MAX_MAX: Bytes = Bytes(1 << 20);
/// The largest that a manifest may allow: as much as a plugin may send in one call.
const MESSAGE_MAX_MAX: Bytes = Bytes(4 << 20);

/// The most messages of subscriptions at a time that a manifest may allow: the daemon keeps each of them.
const MESSAGES_IN_FLIGHT_MAX: u32 = 10_000;

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Of all instances: their memories and tables, and what the host keeps for them.
    pub memory_max: Bytes,
    /// Of one instance: its memories and tables, and what the host keeps for it.
    pub instance_memory_max: Bytes,
    /// Of the processor, for all instances together; none: as much as there is.
    pub cpu_quota: Option<Percent>,
    /// From a request's arrival until its response begins.
    pub request_timeout: Duration,
    /// The most connections at a time, on all sockets that the plugin serves.
    pub connections_max: u32,
    /// The time without a byte in either direction after which a connection is closed, and the longest pause of a
    /// response; none: no limit.
    pub idle_timeout: Option<Duration>,
    /// The largest datagram that the plugin takes.
    pub datagram_max: Bytes,
    /// The largest message of a WebSocket that the plugin takes.
    pub message_max: Bytes,
    /// The most messages of subscriptions at a time; none: as many as its instances take.
    pub messages_in_flight: Option<u32>,
    /// Of the files in the plugin's state; none: as much as the disk has.
    pub state_max: Option<Bytes>,
    /// Limits of what is written to the journal.
    pub log_rate: Rate,
    /// Where `memory-max` and `instance-memory-max` were written.
    pub origins: MemoryOrigins,
}

/// Where the limits of memory were written, which are compared with the component later.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "one for each key")]
pub struct MemoryOrigins {
    pub memory_max: Origin,
    pub instance_memory_max: Origin,
}

impl Limits {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let datagram_max = table.parsed("datagram-max");
        check_size(table, "datagram-max", datagram_max, DATAGRAM_MAX_MAX);
        let message_max = table.parsed("message-max");
        check_size(table, "message-max", message_max, MESSAGE_MAX_MAX);
        let messages_in_flight = table.number("messages-in-flight", 1);
        if let Some(max) = messages_in_flight.filter(|max| *max > MESSAGES_IN_FLIGHT_MAX) {
            let message = format!(
                "limits.messages-in-flight must be at most {MESSAGES_IN_FLIGHT_MAX}, not {max}"
            );
            table.complain_about("messages-in-flight", message);
        }
        let state_max = table.parsed("state-max");
        if state_max == Some(Bytes(0)) {
            let message = "limits.state-max must be greater than 0, not \"0\"".to_owned();
            table.complain_about("state-max", message);
        }
        Self {
            memory_max: table.parsed("memory-max").unwrap_or(Bytes(256 << 20)),
            instance_memory_max: table.parsed("instance-memory-max").unwrap_or(Bytes(64 << 20)),
            cpu_quota: table.parsed("cpu-quota"),
            request_timeout: table
                .parsed::<Span>("request-timeout")
                .map_or(Duration::from_secs(30), |span| span.0),
            connections_max: table.number("connections-max", 1).unwrap_or(CONNECTIONS_MAX),
            idle_timeout: table
                .parsed::<Span>("idle-timeout")
                .map(|span| span.0)
                .filter(|idle| !idle.is_zero()),
            datagram_max: datagram_max.unwrap_or(DATAGRAM_MAX),
            message_max: message_max.unwrap_or(MESSAGE_MAX),
            messages_in_flight,
            state_max,
            log_rate: table
                .parsed("log-rate")
                .unwrap_or(Rate { count: 1000, every: Duration::from_secs(10) }),
            origins: MemoryOrigins {
                memory_max: table.origin("memory-max"),
                instance_memory_max: table.origin("instance-memory-max"),
            },
        }
    }
}

/// Complains about the size of something that has at least one byte and at most `max`.
fn check_size(table: &Table<'_>, key: &str, size: Option<Bytes>, max: Bytes) {
    if let Some(size) = size.filter(|size| *size == Bytes(0) || *size > max) {
        let rule = format!("limits.{key} must be greater than 0 and at most \"{max}\"");
        table.complain_about(key, format!("{rule}, not \"{size}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::test_text::parse;

    #[test]
    fn a_state_has_no_limit_unless_one_is_written_which_is_not_zero() {
        assert_eq!(parse("").unwrap().limits.state_max, None);
        let limits = parse("[limits]\nstate-max = \"100M\"\n").unwrap().limits;
        assert_eq!(limits.state_max, Some(Bytes(100 << 20)));
        let mistakes = parse("[limits]\nstate-max = \"0\"\n").unwrap_err();
        let rule = "limits.state-max must be greater than 0, not \"0\"";
        assert_eq!(mistakes, [format!("m.toml:2:13: {rule}")]);
    }

    #[test]
    fn a_datagram_has_no_more_bytes_than_the_buffer_of_its_socket() {
        assert_eq!(parse("").unwrap().limits.datagram_max, Bytes(64 << 10));
        for max in ["0", "2M"] {
            let mistakes = parse(&format!("[limits]\ndatagram-max = \"{max}\"\n")).unwrap_err();
            let rule = "limits.datagram-max must be greater than 0 and at most \"1M\"";
            assert_eq!(mistakes, [format!("m.toml:2:16: {rule}, not \"{max}\"")]);
        }
        assert!(parse("[limits]\ndatagram-max = \"1M\"\n").is_ok());
    }

    #[test]
    fn a_message_has_no_more_bytes_than_one_call_may_pass() {
        assert_eq!(parse("").unwrap().limits.message_max, Bytes(64 << 10));
        for max in ["0", "5M"] {
            let mistakes = parse(&format!("[limits]\nmessage-max = \"{max}\"\n")).unwrap_err();
            let rule = "limits.message-max must be greater than 0 and at most \"4M\"";
            assert_eq!(mistakes, [format!("m.toml:2:15: {rule}, not \"{max}\"")]);
        }
        assert!(parse("[limits]\nmessage-max = \"4M\"\n").is_ok());
    }
}
