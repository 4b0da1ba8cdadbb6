//! Entries as lines that people read, on a terminal or in a file.

use crate::base::priority::Priority;
use crate::base::text::Escaped;
use crate::journal::record::{HostRecord, PluginRecord, Record};
use std::fmt;

/// One entry as one line.
pub(super) fn line(record: &Record) -> String {
    match record {
        Record::Dropped(count) => {
            format!("{:<7} plugind: log entries dropped count={count}", Priority::Warning.name())
        }
        Record::Host(host) => format!("{:<7} plugind: {}", host.priority().name(), Sentence(host)),
        Record::Plugin(plugin) => {
            let PluginRecord { plugin: name, priority, message, fields, .. } = plugin;
            let line = format!("{:<7} plugind[{name}]: {}", priority.name(), Escaped(message));
            let fields =
                fields.iter().map(|(name, value)| format!(" {}={}", Escaped(name), Value(value)));
            line + &fields.collect::<String>()
        }
    }
}

/// What the host says, with everything that it says about it.
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
