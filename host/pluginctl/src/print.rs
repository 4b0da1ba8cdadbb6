//! Prints whole lines, in which untrusted text cannot control a terminal.

use plugind::{
    base::text::{Escaped, is_harmful},
    config::{Diagnostic, Origin},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};

/// Writes to standard output, at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints a mistake, on one line of standard error.
pub(crate) fn complain(what: &str) {
    // If standard error is closed, the exit status still reports it.
    writeln!(io::stderr(), "{}", Escaped(what)).ok();
}

/// A mistake with the place of its cause, if that is known.
pub(crate) fn placed(origin: &Origin, message: String) -> String {
    match &origin.0 {
        Some(place) => Diagnostic::at(place.clone(), message).to_string(),
        None => message,
    }
}

/// A text as one line.
pub(crate) fn line(text: &str) -> String {
    format!("{}\n", Escaped(text))
}

/// A value of the control socket's, on one line.
pub(crate) fn json(value: &impl Serialize) -> String {
    harmless(&serde_json::to_string(value).expect("it has text for keys"))
}

/// A value on as many lines as make it readable.
pub(crate) fn json_lines(value: &Value) -> String {
    harmless(&format!("{value:#}"))
}

/// A path for JSON, which has only text.
pub(crate) fn path(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Equivalent JSON without characters that control a terminal.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match is_harmful(c) && c != '\n' {
            // Such a character occurs only within a string, where JSON has this escape; four digits are enough.
            true => drop(write!(text, "\\u{:04x}", u32::from(c))),
            // Within a text it is escaped already.
            false => text.push(c),
        }
    }
    text.push('\n');
    text
}

/// Lines of a name and a value each, as systemctl(1) shows them: the names end in one column.
pub(crate) struct Details(String);

impl Details {
    /// Begins with a line of its own.
    pub(crate) fn of(heading: &str) -> Self {
        Self(line(heading))
    }

    pub(crate) fn line(&mut self, name: &str, value: &str) -> &mut Self {
        // Writing to a String cannot fail.
        writeln!(self.0, "{name:>11}: {}", Escaped(value)).ok();
        self
    }

    pub(crate) fn line_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.line(name, value);
        }
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_that_steers_no_terminal_and_means_the_same() {
        let text = "a\n\x1b[2J\u{9b}2J\u{202e}ä\\u{a}";
        let line = json(&[text]);
        assert_eq!(line.matches(is_harmful).collect::<String>(), "\n", "{line:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&line).unwrap(), [text]);
        let lines = json_lines(&Value::from(vec![text]));
        assert_eq!(lines.matches(is_harmful).collect::<String>(), "\n\n\n", "{lines:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&lines).unwrap(), [text]);
    }

    #[test]
    fn a_value_is_one_line_whatever_it_says() {
        let mut details = Details::of("one\ntwo");
        details.line("Status", "three\nActive: active").line_if("Gone", None);
        assert_eq!(details.text(), "one\\u{a}two\n     Status: three\\u{a}Active: active\n");
    }
}
