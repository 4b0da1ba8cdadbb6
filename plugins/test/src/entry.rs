//! An entry of the log, read from its line.

use std::str::Chars;

/// The priority of an entry, in the words of syslog(3). In comparisons, a more important priority is less than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// `crit`
    Critical,
    /// `err`
    Error,
    /// `warning`
    Warning,
    /// `notice`
    Notice,
    /// `info`
    Info,
    /// `debug`
    Debug,
}

/// An entry of the log.
///
/// The log is text, in which the fields follow the message. Words like `count=3` at the end of a message are therefore
/// fields here, and a line break that was written as `\u{a}` in a message is a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How important it is.
    pub priority: Priority,
    /// The plugin that wrote it, or `None` if the host did.
    pub plugin: Option<String>,
    /// The message, without the fields.
    pub message: String,
    /// The names and values of the fields, in their order. In a name that the plugin wrote, capital letters are small,
    /// and each character other than a letter or a digit is `-`: `order_id` is `order-id`. Names with an underscore are
    /// those of the host: `request_id` and `trace_id` of an entry of a plugin say which request it is about, in
    /// hexadecimal digits.
    pub fields: Vec<(String, String)>,
}

impl Priority {
    /// All of them, by their words.
    const ALL: [(&str, Self); 6] = [
        ("crit", Self::Critical),
        ("err", Self::Error),
        ("warning", Self::Warning),
        ("notice", Self::Notice),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];
}

impl Entry {
    /// The value of the first field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(other, _)| other == name);
        field.map(|(_, value)| value.as_str())
    }

    /// Reads a line; none: it is not an entry, but for example the message of a panic.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let (_, priority) = *Priority::ALL.iter().find(|(name, _)| *name == word)?;
        let (origin, text) = rest.trim_start().split_once(':')?;
        let plugin = match origin.strip_prefix("plugind")? {
            "" => None,
            name => Some(name.strip_prefix('[')?.strip_suffix(']')?.to_owned()),
        };
        let (message, fields) = without_fields(text.strip_prefix(' ').unwrap_or(text));
        Some(Self { priority, plugin, message: plain(message), fields })
    }
}

/// The text before the fields at the end of a line, and these.
fn without_fields(text: &str) -> (&str, Vec<(String, String)>) {
    let spaces = text.match_indices(' ').map(|(place, _)| place);
    let mut places = spaces.filter_map(|place| Some((place, fields(&text[place..])?)));
    places.next().map_or((text, Vec::new()), |(place, fields)| (&text[..place], fields))
}

/// Reads fields, each behind a space; none: the text is something else, too.
fn fields(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.strip_prefix(' ')?.split_once('=')?;
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_of_name) {
            return None;
        }
        let value;
        (value, text) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => word(rest)?,
        };
        fields.push((name.to_owned(), value));
    }
    Some(fields)
}

/// A value of one word, and what follows it. The host puts all others in quotes.
fn word(text: &str) -> Option<(String, &str)> {
    let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%,".contains(c);
    (!word.is_empty() && word.chars().all(is_plain)).then(|| (word.to_owned(), rest))
}

/// A value in quotes, of which the first was read, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\\' => match rest.clone().next()? {
                quoted @ ('\\' | '"') => {
                    value.push(quoted);
                    rest.next();
                }
                _ => value.push(escaped(&mut rest)?),
            },
            character => value.push(character),
        }
    }
}

/// The character that the host wrote as `\u{…}`, of which the backslash was read.
fn escaped(text: &mut Chars<'_>) -> Option<char> {
    let (digits, rest) = text.as_str().strip_prefix("u{")?.split_once('}')?;
    let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
    *text = rest.chars();
    Some(character)
}

/// A message with the characters that the host escaped.
fn plain(message: &str) -> String {
    let mut plain = String::new();
    let mut rest = message.chars();
    while let Some(character) = rest.next() {
        let written = if character == '\\' { escaped(&mut rest) } else { None };
        plain.push(written.unwrap_or(character));
    }
    plain
}
