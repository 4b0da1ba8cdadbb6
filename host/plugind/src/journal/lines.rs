//! Entries as lines that people read, on a terminal or in a file.

use crate::base::priority::Priority;
use crate::base::text::Escaped;
use crate::journal::access::AccessEntry;
use crate::journal::record::{HostRecord, PluginRecord, Record};
use std::fmt;

/// One entry as one line.
pub(super) fn line(record: &Record) -> String {
    match record {
        Record::Dropped(count) => {
            format!("{:<7} plugind: log entries dropped count={count}", Priority::Warning.name())
        }
        Record::Host(host) => {
            let line = format!("{:<7} plugind: {}", host.priority().name(), Sentence(host));
            match host.backtrace() {
                Some(backtrace) => line + &format!(" backtrace={}", Value(backtrace)),
                None => line,
            }
        }
        Record::Access(entry) => {
            let line = entry.line().map(|line| Escaped(&line).to_string());
            format!(
                "{:<7} plugind: {}",
                Priority::Info.name(),
                line.unwrap_or_else(|| served(entry))
            )
        }
        Record::Plugin(plugin) => {
            let PluginRecord { plugin: name, request, priority, message, fields, .. } = plugin;
            let line = format!("{:<7} plugind[{name}]: {}", priority.name(), Escaped(message));
            let fields =
                fields.iter().map(|(name, value)| format!(" {}={}", Escaped(name), Value(value)));
            let line = line + &fields.collect::<String>();
            // A plugin's own fields have no underscores, so these are the host's.
            match request {
                Some(request) => format!(
                    "{line} request_id={} trace_id={}",
                    request.request_id(),
                    request.trace_id()
                ),
                None => line,
            }
        }
    }
}

/// A request that was answered, with all that the log has of it except the referer and the user agent.
pub(super) fn served(entry: &AccessEntry) -> String {
    let mut sentence = format!("request served socket={}", entry.socket);
    let mut add = |name: &str, value: &str| sentence += &format!(" {name}={}", Value(value));
    if let Some(plugin) = &entry.plugin {
        add("plugin", plugin.as_str());
    }
    add("client", &entry.client);
    add("method", &entry.method);
    add("host", &entry.host);
    add("target", &entry.target);
    add("protocol", entry.protocol);
    add("status", &entry.status.to_string());
    add("bytes", &entry.bytes.to_string());
    add("duration_usec", &entry.duration_usec().to_string());
    if let Some(request) = entry.request {
        add("request_id", &request.request_id().to_string());
        add("trace_id", &request.trace_id().to_string());
    }
    sentence
}

/// A message of the host with all its fields except its identifier and a backtrace.
pub(super) struct Sentence<'a>(pub(super) &'a HostRecord);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(self.0.message()))?;
        self.0.fields().try_for_each(|(name, value)| write!(f, " {name}={}", Value(value)))
    }
}

/// A value, in quotes where it would not stand out as one word.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%,".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        let quoted = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{}\"", Escaped(&quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_pretend_to_be_two() {
        assert_eq!(Value("one").to_string(), "one");
        assert_eq!(Value("").to_string(), "\"\"");
        assert_eq!(Value("a b=\"c\"").to_string(), r#""a b=\"c\"""#);
    }
}
