//! A mistake in a file: where it is, what is wrong, and what would be right.

use crate::base::text::{Escaped, cut};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file.
    pub path: PathBuf,
    /// Line and column, both from 1; none where the whole file is meant.
    pub position: Option<(usize, usize)>,
}

/// The place where a value was written, if any. It is no part of the value: two origins are always equal, so that
/// an additional line of comment does not make another manifest.
#[derive(Clone, Debug, Default)]
pub struct Origin(pub Option<Position>);

/// An index of a text, so that a place in it is found without reading everything before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(Vec<Mark>);

/// The position of a byte in a text, with its line and column.
#[derive(Clone, Copy, Debug)]
struct Mark {
    byte: usize,
    line: usize,
    column: usize,
}

/// The longest message, in bytes: the value that it quotes may be as long as a file.
const MESSAGE_MAX: usize = 1000;

/// Limit of the distance between two marks, in bytes: a line may be as long as a file.
const MARKED: usize = 256;

/// A mistake in a configuration file, written as `path:line:column: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    place: Position,
    message: String,
}

impl Position {
    /// The position of byte `offset` in `text`, the contents of `path` from which `marks` were made.
    #[must_use]
    pub(super) fn of(path: &Path, text: &str, marks: &Marks, offset: usize) -> Self {
        Self { path: path.to_owned(), position: Some(marks.position(text, offset)) }
    }

    /// The file as a whole.
    #[must_use]
    pub fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), position: None }
    }
}

impl Marks {
    /// Those of `text`: one for each line, and more where lines are long.
    pub(super) fn of(text: &str) -> Self {
        let mut next = Mark { byte: 0, line: 1, column: 1 };
        let mut marks = vec![next];
        let mut marked = 0;
        for (byte, c) in text.char_indices() {
            next = match c {
                '\n' => Mark { byte: byte + 1, line: next.line + 1, column: 1 },
                _ => Mark { byte: byte + c.len_utf8(), column: next.column + 1, ..next },
            };
            if c == '\n' || next.byte - marked >= MARKED {
                marks.push(next);
                marked = next.byte;
            }
        }
        Self(marks)
    }

    /// Line and column of what stands at byte `offset` of `text`, both from 1.
    fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let offset = text.floor_char_boundary(offset);
        let behind = self.0.partition_point(|mark| mark.byte <= offset);
        // The first one is at the very beginning, so that there is always one before.
        let mark = self.0.get(behind.saturating_sub(1)).copied();
        let mark = mark.unwrap_or(Mark { byte: 0, line: 1, column: 1 });
        (mark.line, mark.column + text[mark.byte..offset].chars().count())
    }
}

impl Eq for Origin {}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Diagnostic {
    /// A mistake in what stands at `place`.
    #[must_use]
    pub fn at(place: Position, message: impl Into<String>) -> Self {
        Self { place, message: cut(&message.into(), MESSAGE_MAX).into() }
    }

    /// A mistake in the file as a whole.
    #[must_use]
    pub fn about(path: &Path, message: impl Into<String>) -> Self {
        Self::at(Position::whole(path), message)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.path.to_string_lossy()))?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, Escaped(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "a = 1\nöö = 2\n";
        let at = |offset| Position::of(Path::new("f"), text, &Marks::of(text), offset).to_string();
        assert_eq!(at(text.find('=').unwrap()), "f:1:3");
        assert_eq!(at(text.rfind('=').unwrap()), "f:2:4");
        assert_eq!(at(text.len()), "f:3:1");
        assert_eq!(at(text.len() + 7), "f:3:1");
    }

    #[test]
    fn a_place_is_found_without_going_through_what_stands_before_it() {
        for text in ["[[serve]]\n".repeat(10_000), "{route=\"/ö\"},".repeat(10_000)] {
            let marks = Marks::of(&text);
            let ends = marks.0.iter().skip(1).map(|mark| mark.byte).chain([text.len()]);
            for (mark, end) in marks.0.iter().zip(ends) {
                assert!(end - mark.byte < MARKED + 4, "{mark:?} is the last before {end}");
            }
            for (offset, _) in text.char_indices().step_by(997) {
                let before = &text[..offset];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
                assert_eq!(marks.position(&text, offset), (line, column));
            }
        }
    }

    #[test]
    fn a_long_value_is_cut_in_the_message() {
        let shown = Diagnostic::about(Path::new("f"), "x".repeat(1 << 20)).to_string();
        assert!(shown.len() < 1100 && shown.contains("x… ("), "{}", shown.len());
    }

    #[test]
    fn a_control_character_of_a_file_is_escaped_in_the_message() {
        let mistake = Diagnostic::about(Path::new("a\nb.toml"), "unknown key \"\x1b[2J\"");
        assert_eq!(mistake.to_string(), "a\\u{a}b.toml: unknown key \"\\u{1b}[2J\"");
    }
}
