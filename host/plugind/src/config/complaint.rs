//! A mistake in a file: where it is, what is wrong, and what would be right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A mistake in a configuration file, told as `path:line:column: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    path: PathBuf,
    /// Line and column, both from 1; none where the whole file is meant.
    place: Option<(usize, usize)>,
    message: String,
}

impl Complaint {
    /// A complaint about the file as a whole.
    #[must_use]
    pub fn about(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: None, message: message.into() }
    }

    /// A complaint about what stands at byte `offset` of `text`, which is what `path` contains.
    #[must_use]
    pub fn at(path: &Path, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        Self { path: path.to_owned(), place: Some((line, column)), message: message.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "a = 1\nöö = 2\n";
        let offset = text.find('=').unwrap();
        let at = |offset| Complaint::at(Path::new("f"), text, offset, "m").to_string();
        assert_eq!(at(offset), "f:1:3: m");
        assert_eq!(at(text.rfind('=').unwrap()), "f:2:4: m");
        assert_eq!(at(text.len()), "f:3:1: m");
    }
}
