//! Untrusted text, made harmless: for a line of a log, a terminal, a status.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// A text in which nothing can end the line or steer a terminal.
pub struct Escaped<'a>(pub &'a str);

/// Whether this character may end a line, control a terminal, or reverse the text behind it.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    // U+2028 and U+2029 are not control characters, and yet some readers take them for the end of a line.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(is_harmful) {
            let plain = part.trim_end_matches(is_harmful);
            write!(f, "{plain}{}", part[plain.len()..].escape_unicode())?;
        }
        Ok(())
    }
}

/// At most about `max` bytes of `text`, with a note if it was longer.
#[must_use]
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let kept = &text[..text.floor_char_boundary(max)];
    Cow::Owned(format!("{kept}… ({} more bytes were cut off)", text.len() - kept.len()))
}

/// At most `max` bytes of `text`, without line ends and terminal control characters.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for character in text.chars() {
        let length = line.len();
        // Writing to a String cannot fail.
        let _: fmt::Result = write!(line, "{}", Escaped(character.encode_utf8(&mut [0; 4])));
        if line.len() > max {
            line.truncate(length);
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_one_line_whatever_it_says() {
        let shown = Escaped("a\nb\r\x1b[31mred\u{2028}\u{202e}z\u{9b}").to_string();
        assert_eq!(shown, "a\\u{a}b\\u{d}\\u{1b}[31mred\\u{2028}\\u{202e}z\\u{9b}");
        assert_eq!(Escaped("plain äöü").to_string(), "plain äöü");
    }

    #[test]
    fn what_is_cut_says_so_and_breaks_no_character() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("äöü", 3), "ä… (4 more bytes were cut off)");
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(one_line("ready\nWATCHDOG=trigger", 256), "ready\\u{a}WATCHDOG=trigger");
        assert_eq!(one_line(&"ä".repeat(1000), 256).len(), 256);
        assert_eq!(one_line(&format!("{}\n", "a".repeat(254)), 256), "a".repeat(254));
    }
}
