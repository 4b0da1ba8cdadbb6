//! Entries as journald takes them, with fields that can be searched for: systemd.journal-fields(7), and
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
//!
//! It waits while journald is busy; only the thread that writes may use it.

use super::{
    lines::Sentence,
    record::{Host, MESSAGE, Plugin, Record},
};
use std::{io, os::unix::net::UnixDatagram};
use tracing::{Event, Subscriber, field::Value};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The most fields of an event of the host's own; each has a handful.
const FIELDS: usize = 16;

/// The way to journald.
pub(super) struct Native {
    /// Takes what the host says.
    host: Box<dyn Subscriber + Send + Sync>,
    /// Takes what plugins say: the names of their fields are their own, and tracing's are those of the host's code.
    socket: UnixDatagram,
}

impl Native {
    /// # Errors
    /// When journald cannot be reached.
    pub(super) fn new() -> io::Result<Self> {
        let priorities = PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        };
        let layer = tracing_journald::layer()?
            // PLUGIN=, and not F_PLUGIN=.
            .with_field_prefix(None)
            .with_priority_mappings(priorities)
            .with_syslog_identifier("plugind".to_owned());
        let host = Box::new(tracing_subscriber::registry().with(layer));
        Ok(Self { host, socket: UnixDatagram::unbound()? })
    }

    /// Whether it could be written.
    pub(super) fn put(&self, record: &Record) -> bool {
        match record {
            Record::Host(host) => self.replay(host),
            Record::Plugin(plugin) => {
                return self.socket.send_to(&datagram(plugin), SOCKET).is_ok();
            }
        }
        true
    }

    /// Says again what was said in another thread, at another time: the same event, from the same place in the code.
    fn replay(&self, host: &Host) {
        let sentence = Sentence(host).to_string();
        let Some((some_field, _)) = host.values.first() else { return };
        // Values that are none are passed over.
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
    }
}

/// An entry of a plugin's. What it says comes last, behind its length, so that nothing in it can be taken for a field.
fn datagram(entry: &Plugin) -> Vec<u8> {
    let Plugin { plugin, generation, priority, message, fields } = entry;
    let mut datagram = Vec::with_capacity(256 + message.len());
    let mut put = |name: &str, value: &str| {
        datagram.extend_from_slice(name.as_bytes());
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
        datagram.extend_from_slice(value.as_bytes());
        datagram.push(b'\n');
    };
    put("PRIORITY", &priority.number().to_string());
    // So that whoever reads the service's log sees who speaks, and nobody can pass for another program.
    put("SYSLOG_IDENTIFIER", &format!("plugind/{plugin}"));
    put("PLUGIN", plugin);
    put("GENERATION", &generation.to_string());
    for (name, value) in fields {
        put(&format!("PLUGIN_{}", name.to_ascii_uppercase().replace('-', "_")), value);
    }
    put("MESSAGE", message);
    datagram
}
