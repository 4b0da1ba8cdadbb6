//! Entries as journald takes them, with fields that can be searched for: systemd.journal-fields(7), and
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
//!
//! It waits while journald is busy; only the thread that writes may use it.

use crate::{
    base::{priority::Priority, text::Escaped},
    journal::{
        access::AccessEntry,
        lines::Sentence,
        messages,
        record::{HostRecord, MESSAGE, PluginRecord, Record},
    },
};
use std::{io, os::unix::net::UnixDatagram};
use tracing::{Event, Subscriber, field::Value};
use tracing_journald::PriorityMappings;
use tracing_subscriber::layer::SubscriberExt;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The identifier of the host's own entries.
const IDENTIFIER: &str = "plugind";
/// The most fields of an event of the host's own; each has a handful.
const FIELDS: usize = 16;

/// The connection to journald.
pub(super) struct Native {
    /// Takes what the host says.
    host: Box<dyn Subscriber + Send + Sync>,
    /// The socket for entries of plugins: the names of their fields are their own, and tracing's are fixed in the code.
    socket: UnixDatagram,
}

impl Native {
    /// # Errors
    /// When journald cannot be reached.
    pub(super) fn new() -> io::Result<Self> {
        let priorities = PriorityMappings {
            info: tracing_journald::Priority::Informational,
            debug: tracing_journald::Priority::Debug,
            ..PriorityMappings::new()
        };
        let layer = tracing_journald::layer()?
            // PLUGIN=, and not F_PLUGIN=.
            .with_field_prefix(None)
            .with_priority_mappings(priorities)
            .with_syslog_identifier(IDENTIFIER.to_owned());
        let host = Box::new(tracing_subscriber::registry().with(layer));
        Ok(Self { host, socket: UnixDatagram::unbound()? })
    }

    /// Whether it could be written.
    pub(super) fn put(&self, record: &Record) -> bool {
        match record {
            // tracing-journald does not report whether an entry arrived; an empty datagram arrives in the same cases.
            Record::Host(host) => self.send(&[]) && self.replay(host),
            Record::Plugin(plugin) => self.send(&of_plugin(plugin)),
            Record::Access(entry) => self.send(&of_access(entry)),
            Record::Dropped(count) => self.send(&of_dropped(*count)),
        }
    }

    fn send(&self, datagram: &[u8]) -> bool {
        self.socket.send_to(datagram, SOCKET).is_ok()
    }

    /// Repeats an event of another thread and an earlier time: the same event, from the same place in the code.
    fn replay(&self, host: &HostRecord) -> bool {
        let sentence = Sentence(host).to_string();
        let Some((some_field, _)) = host.values.first() else { return true };
        // Missing values are skipped.
        let mut values: [(_, Option<&dyn Value>); FIELDS] = [(some_field, None); FIELDS];
        let texts: Vec<_> = host
            .values
            .iter()
            .map(|(field, value)| (field, if field.name() == MESSAGE { &sentence } else { value }))
            .collect();
        for (place, (field, text)) in values.iter_mut().zip(&texts) {
            *place = (*field, Some(*text as &dyn Value));
        }
        self.host.event(&Event::new(host.metadata, &host.metadata.fields().value_set(&values)));
        true
    }
}

/// An entry of a plugin's.
fn of_plugin(entry: &PluginRecord) -> Vec<u8> {
    let PluginRecord { plugin, generation, request, priority, message, fields, .. } = entry;
    // A reader of the service's log sees the origin of an entry, and no plugin can pass for another program.
    let mut datagram = Datagram::new(*priority, &format!("plugind/{plugin}"));
    datagram.put("PLUGIN", plugin);
    datagram.put("GENERATION", &generation.to_string());
    if let Some(request) = request {
        datagram.put("REQUEST_ID", &request.request_id().to_string());
        datagram.put("TRACE_ID", &request.trace_id().to_string());
    }
    for (name, value) in fields {
        datagram.put(&format!("PLUGIN_{}", name.to_ascii_uppercase().replace('-', "_")), value);
    }
    datagram.put("MESSAGE", message);
    datagram.0
}

/// A request that was answered.
fn of_access(entry: &AccessEntry) -> Vec<u8> {
    let mut datagram = Datagram::new(Priority::Info, IDENTIFIER);
    datagram.put("MESSAGE_ID", messages::REQUEST_SERVED);
    datagram.put("SOCKET", entry.socket.as_str());
    if let Some(plugin) = &entry.plugin {
        datagram.put("PLUGIN", plugin.as_str());
    }
    datagram.put("CLIENT", &entry.client);
    datagram.put("METHOD", &entry.method);
    datagram.put("HOST", &entry.host);
    datagram.put("TARGET", &entry.target);
    datagram.put("PROTOCOL", entry.protocol);
    datagram.put("STATUS", &entry.status.to_string());
    datagram.put("BYTES", &entry.bytes.to_string());
    datagram.put("DURATION_USEC", &entry.duration_usec().to_string());
    datagram.put("REFERER", &entry.referer);
    datagram.put("USER_AGENT", &entry.user_agent);
    if let Some(request) = entry.request {
        datagram.put("REQUEST_ID", &request.request_id().to_string());
        datagram.put("TRACE_ID", &request.trace_id().to_string());
    }
    match entry.line() {
        Some(line) => datagram.put("MESSAGE", &line),
        None => {
            let AccessEntry { status, method, target, .. } = entry;
            let target = Escaped(target);
            datagram.put(
                "MESSAGE",
                &format!("request served status={status} method={method} target={target}"),
            );
        }
    }
    datagram.0
}

fn of_dropped(count: u64) -> Vec<u8> {
    let mut datagram = Datagram::new(Priority::Warning, IDENTIFIER);
    datagram.put("MESSAGE_ID", messages::DROPPED);
    datagram.put("COUNT", &count.to_string());
    datagram.put("MESSAGE", &format!("log entries dropped count={count}"));
    datagram.0
}

/// An entry as it is sent.
struct Datagram(Vec<u8>);

impl Datagram {
    fn new(priority: Priority, identifier: &str) -> Self {
        let mut datagram = Self(Vec::with_capacity(1 << 10));
        datagram.put("PRIORITY", &priority.number().to_string());
        datagram.put("SYSLOG_IDENTIFIER", identifier);
        datagram
    }

    /// Adds a field. Its value stands behind its length, so that nothing in it can be taken for another field.
    fn put(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            budget::{Budget, MemoryCharge},
            request_identity::RequestIdentity,
        },
        config::settings::AccessLog,
        journal::access::tests::entry,
    };

    fn free() -> MemoryCharge {
        MemoryCharge::always([(); 2].map(|()| Budget::new(0).into()), 0)
    }

    #[test]
    fn an_entry_about_a_request_has_fields_that_no_plugin_can_set() {
        let traceparent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let sent = of_plugin(&PluginRecord {
            plugin: "hello".to_owned(),
            generation: 7,
            request: RequestIdentity::parse(traceparent),
            priority: Priority::Info,
            message: "hi".to_owned(),
            fields: vec![("trace-id".to_owned(), "forged".to_owned())],
            _charge: free(),
        });
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.contains("\nREQUEST_ID\n\u{10}\0\0\0\0\0\0\u{0}00f067aa0ba902b7\n"), "{sent}");
        assert!(sent.contains("4bf92f3577b34da6a3ce929d0e0e4736\nPLUGIN_TRACE_ID\n"), "{sent}");
    }

    #[test]
    fn an_entry_of_the_access_log_has_a_line_and_fields() {
        for (format, message) in [
            (AccessLog::Journal, "request served status=200 method=GET target=/hello?a=\"b\n"),
            (AccessLog::Combined, "192.0.2.7 - - [29/Feb/2000:12:34:56 +0000] "),
            (AccessLog::Json, "{\"bytes\":12,"),
        ] {
            let sent = String::from_utf8(of_access(&entry(format))).unwrap();
            assert!(sent.contains(message), "{sent}");
            assert!(sent.contains("CLIENT\n\u{9}\0\0\0\0\0\0\u{0}192.0.2.7\nMETHOD\n"), "{sent}");
            assert!(sent.contains("0e0e4736\nMESSAGE\n"), "{sent}");
        }
    }

    #[test]
    fn what_a_plugin_says_is_one_field_whatever_it_looks_like() {
        let sent = of_plugin(&PluginRecord {
            plugin: "hello".to_owned(),
            generation: 7,
            request: None,
            priority: Priority::Info,
            message: "hi\nMESSAGE_ID=1".to_owned(),
            fields: vec![("request-id".to_owned(), "a\nPRIORITY=0".to_owned())],
            _charge: free(),
        });
        let sent = String::from_utf8(sent).unwrap();
        let length = |length: u8| format!("{}\0\0\0\0\0\0\0", char::from(length));
        assert_eq!(
            sent,
            format!(
                "PRIORITY\n{}6\nSYSLOG_IDENTIFIER\n{}plugind/hello\nPLUGIN\n{}hello\nGENERATION\n{}7\n\
                 PLUGIN_REQUEST_ID\n{}a\nPRIORITY=0\nMESSAGE\n{}hi\nMESSAGE_ID=1\n",
                length(1),
                length(13),
                length(5),
                length(1),
                length(12),
                length(15)
            )
        );
    }
}
