//! Subjects of messages: those to which a message is sent, and patterns of them.

use std::{fmt, str::FromStr};

/// The longest subject, in bytes.
const LENGTH_MAX: usize = 255;
/// The longest name of a queue or a stream: the server makes directories of them.
const NAME_MAX: usize = 64;
/// The first token of the subjects to which replies are sent.
const INBOX: &str = "_INBOX";

/// A pattern of subjects: tokens between dots, of which `*` stands for any one and `>` for all that follow.
// Invariant: what `check` accepts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubjectPattern(Box<str>);

/// Why a text is not a pattern of subjects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It is too short or too long.
    #[error("a subject must have 1 to {LENGTH_MAX} bytes, not {0}")]
    Length(usize),
    /// There is nothing between two dots, or before or after one.
    #[error("a subject must have text between its dots, not {0:?}")]
    EmptyToken(String),
    /// It has a character that the protocol does not allow.
    #[error("a subject cannot have spaces or control characters, as {0:?} does")]
    Character(String),
    /// A wildcard is a part of a token, or `>` is not the last.
    #[error("\"*\" must be a whole token of a subject, and \">\" the last one, not {0:?}")]
    Wildcard(String),
    /// It is one of the server's own.
    #[error("a subject cannot begin with \"$\", as {0:?} does: these belong to the server")]
    Reserved(String),
}

fn check(text: &str) -> Result<(), SubjectError> {
    let shown = || text.to_owned();
    if !(1..=LENGTH_MAX).contains(&text.len()) {
        return Err(SubjectError::Length(text.len()));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::Character(shown()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(SubjectError::EmptyToken(shown()));
    }
    if text.starts_with('$') {
        return Err(SubjectError::Reserved(shown()));
    }
    let last = text.split('.').count() - 1;
    let is_wrong = |(nth, token): (usize, &str)| match token {
        "*" => false,
        ">" => nth != last,
        token => token.contains(['*', '>']),
    };
    match text.split('.').enumerate().any(is_wrong) {
        true => Err(SubjectError::Wildcard(shown())),
        false => Ok(()),
    }
}

impl SubjectPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a single subject.
    #[must_use]
    pub fn is_single(&self) -> bool {
        !self.0.split('.').any(|token| matches!(token, "*" | ">"))
    }

    /// Whether this subject matches it. A wildcard at the beginning stands for no subject of the server's own, and for
    /// none to which replies are sent.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for (nth, wanted) in self.0.split('.').enumerate() {
            let Some(token) = tokens.next() else { return false };
            let is_excluded = nth == 0 && is_reserved(token);
            match wanted {
                ">" => return !is_excluded,
                "*" if !is_excluded => (),
                wanted if wanted == token => (),
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether it excludes a subject that the server matches: the server lets a wildcard at the beginning stand for
    /// subjects of its own as well, such as those of stores, and for those to which replies are sent.
    #[must_use]
    pub fn excludes(&self, subject: &str) -> bool {
        subject.split('.').next().is_some_and(is_reserved) && !self.matches(subject)
    }
}

/// Whether subjects with this first token are the server's own, or those to which replies are sent.
fn is_reserved(token: &str) -> bool {
    token.starts_with('$') || token == INBOX
}

/// Whether replies to requests are received on this subject.
#[must_use]
pub fn is_inbox(subject: &str) -> bool {
    subject.split('.').next() == Some(INBOX) && subject.contains('.')
}

impl FromStr for SubjectPattern {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a queue group, a consumer or a stream of a server of messages.
// Invariant: 1 to 64 ASCII letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueName(Box<str>);

/// A text is not the name of a queue or a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must have 1 to {NAME_MAX} letters, digits, \"-\" and \"_\"")]
pub struct QueueNameError(String);

impl QueueName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueName {
    type Err = QueueNameError;

    fn from_str(text: &str) -> Result<Self, QueueNameError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self(text.into())),
            false => Err(QueueNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> SubjectPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_matches_whole_tokens() {
        for (text, subjects, others) in [
            ("orders", &["orders"][..], &["orders.new", "order", "Orders", ""][..]),
            ("orders.*", &["orders.new"], &["orders", "orders.new.eu", "orders."]),
            ("orders.>", &["orders.new", "orders.new.eu"], &["orders", "ordersx.new"]),
            ("*.new", &["orders.new"], &["new", "$SYS.new", "_INBOX.new"]),
            (">", &["a", "a.b"], &["$JS.API.STREAM.DELETE.A", "_INBOX.x.y"]),
        ] {
            for subject in subjects {
                assert!(pattern(text).matches(subject), "{text} {subject}");
            }
            for subject in others.iter().filter(|subject| !subject.ends_with('.')) {
                assert!(!pattern(text).matches(subject), "{text} {subject}");
            }
        }
    }

    #[test]
    fn a_wildcard_at_the_beginning_excludes_subjects_of_the_server_and_of_replies() {
        for (text, subject, is_excluded) in [
            (">", "$KV.store.key", true),
            ("*.*.*", "_INBOX.a.b", true),
            (">", "orders.$KV", false),
            ("_INBOX.a.*", "_INBOX.a.b", false),
            // A subscription whose subject was changed meanwhile.
            ("orders.*", "invoices.new", false),
        ] {
            assert_eq!(pattern(text).excludes(subject), is_excluded, "{text} {subject}");
        }
    }

    #[test]
    fn a_text_that_the_protocol_cannot_have_is_no_subject() {
        let long = "a".repeat(256);
        for text in
            ["", "a..b", ".a", "a.", "a b", "a\r\nPUB x", "a.>.b", "a*", "x>", "$JS.API", &long]
        {
            assert!(text.parse::<SubjectPattern>().is_err(), "{text:?}");
        }
        for text in ["a", "a.b-c_d.E", "*", ">", "*.*", "a.*.>", "grüße.neu"] {
            assert_eq!(pattern(text).is_single(), !text.contains(['*', '>']), "{text}");
        }
        assert!(is_inbox("_INBOX.abc") && !is_inbox("_INBOX") && !is_inbox("_INBOXES.a"));
    }

    #[test]
    fn a_queue_has_a_name_that_a_file_can_have() {
        for name in ["", "a.b", "a b", "*", "../x", "ä"] {
            assert!(name.parse::<QueueName>().is_err(), "{name:?}");
        }
        assert_eq!("Workers_1-a".parse::<QueueName>().unwrap().as_str(), "Workers_1-a");
    }

    proptest! {
        #[test]
        fn a_single_subject_matches_itself_alone(a in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", b in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}") {
            prop_assert_eq!(pattern(&a).matches(&b), a == b);
        }
    }
}
