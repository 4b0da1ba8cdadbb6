//! A mistake in a file: where it is, what is wrong, and what would be right.

use crate::text::Escaped;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line and column, both from 1; none where the whole file is meant.
    pub position: Option<(usize, usize)>,
}

/// Where a value was written, if anywhere. It is no part of what the value says: two origins are always equal, so that
/// a line of comment more makes no other manifest.
#[derive(Clone, Debug, Default)]
pub struct Origin(pub Option<Place>);

/// A mistake in a configuration file, told as `path:line:column: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    place: Place,
    message: String,
}

impl Place {
    /// What stands at byte `offset` of `text`, which is what `path` contains.
    #[must_use]
    pub fn of(path: &Path, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        Self { path: path.to_owned(), position: Some((line, column)) }
    }

    /// The file as a whole.
    #[must_use]
    pub fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), position: None }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Complaint {
    /// A complaint about what stands at `place`.
    #[must_use]
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }

    /// A complaint about the file as a whole.
    #[must_use]
    pub fn about(path: &Path, message: impl Into<String>) -> Self {
        Self::at(Place::whole(path), message)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.path.to_string_lossy()))?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Complaint {
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
        let at = |offset| Place::of(Path::new("f"), text, offset).to_string();
        assert_eq!(at(text.find('=').unwrap()), "f:1:3");
        assert_eq!(at(text.rfind('=').unwrap()), "f:2:4");
        assert_eq!(at(text.len()), "f:3:1");
    }

    #[test]
    fn what_a_file_says_cannot_break_the_line_in_which_it_is_told() {
        let complaint = Complaint::about(Path::new("a\nb.toml"), "unknown key \"\x1b[2J\"");
        assert_eq!(complaint.to_string(), "a\\u{a}b.toml: unknown key \"\\u{1b}[2J\"");
    }
}
