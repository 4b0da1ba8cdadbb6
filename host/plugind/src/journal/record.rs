//! Entries on their way to the writer.

use crate::base::budget::MemoryCharge;
use crate::base::name::PluginName;
use crate::base::priority::Priority;
use crate::base::request_identity::RequestIdentity;
use crate::journal::access::AccessEntry;
use std::fmt;
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
};

/// The field with the message; tracing gives it this name.
pub(super) const MESSAGE: &str = "message";
/// The field that identifies the kind of an entry; it is not shown on a terminal.
const MESSAGE_ID: &str = "message_id";
/// The field with the functions in which a guest was; it has many lines.
const BACKTRACE: &str = "backtrace";
/// The longest value of a field of the host's own, in bytes: some of them quote files and plugins.
const VALUE_MAX: usize = 16 << 10;

/// A log entry of a plugin.
pub struct LogEntry<'a> {
    /// The plugin that writes it.
    pub plugin: &'a PluginName,
    /// Which version of it.
    pub generation: u64,
    /// The request that it is about, if that is known.
    pub request: Option<RequestIdentity>,
    /// Its priority.
    pub priority: Priority,
    /// The message; any text.
    pub message: &'a str,
    /// Fields: names of `[a-z0-9-]`, and any text.
    pub fields: Vec<(String, String)>,
    /// Its length, which counts as memory of the plugin until the entry is written.
    pub charge: MemoryCharge,
}

/// One entry.
pub(super) enum Record {
    Host(HostRecord),
    Plugin(PluginRecord),
    /// A request that was answered.
    Access(Box<AccessEntry>),
    /// So many were lost before this one.
    Dropped(u64),
}

/// A message of the host: an event of tracing with its values.
pub(super) struct HostRecord {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) values: Vec<(Field, String)>,
}

/// A message of a plugin.
pub(super) struct PluginRecord {
    pub(super) plugin: String,
    pub(super) generation: u64,
    pub(super) request: Option<RequestIdentity>,
    pub(super) priority: Priority,
    pub(super) message: String,
    pub(super) fields: Vec<(String, String)>,
    /// Kept for as long as the entry.
    pub(super) _charge: MemoryCharge,
}

impl Record {
    pub(super) fn of(entry: LogEntry<'_>) -> Self {
        let LogEntry { plugin, generation, request, priority, message, fields, charge } = entry;
        let (plugin, message) = (plugin.to_string(), message.to_owned());
        Self::Plugin(PluginRecord {
            plugin,
            generation,
            request,
            priority,
            message,
            fields,
            _charge: charge,
        })
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Host(host) => host.values.iter().map(|(_, value)| value.len()).sum(),
            Self::Plugin(plugin) => {
                let fields = plugin.fields.iter().map(|(name, value)| name.len() + value.len());
                plugin.message.len() + fields.sum::<usize>()
            }
            Self::Access(entry) => entry.length(),
            Self::Dropped(_) => 0,
        }
    }
}

impl HostRecord {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut host = Self { metadata: event.metadata(), values: Vec::new() };
        event.record(&mut host);
        host
    }

    pub(super) fn priority(&self) -> Priority {
        priority(self.metadata.level())
    }

    pub(super) fn message(&self) -> &str {
        let message = self.values.iter().find(|(field, _)| field.name() == MESSAGE);
        message.map_or("", |(_, message)| message)
    }

    /// Returns the other fields, for people.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.values.iter().map(|(field, value)| (field.name(), value.as_str()));
        values.filter(|(name, _)| ![MESSAGE, MESSAGE_ID, BACKTRACE].contains(name))
    }

    /// Where a guest was.
    pub(super) fn backtrace(&self) -> Option<&str> {
        let backtrace = self.values.iter().find(|(field, _)| field.name() == BACKTRACE);
        backtrace.map(|(_, backtrace)| backtrace.as_str())
    }
}

impl Visit for HostRecord {
    fn record_str(&mut self, field: &Field, value: &str) {
        let kept = &value[..value.floor_char_boundary(VALUE_MAX)];
        self.values.push((field.clone(), kept.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The level of an event as a priority: information is information, and not worth a notice.
pub(super) fn priority(level: &Level) -> Priority {
    match *level {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        Level::DEBUG | Level::TRACE => Priority::Debug,
    }
}
