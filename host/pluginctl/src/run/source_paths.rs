//! The files of an author, of which the daemon reads copies: messages name the files that the author edits.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

/// The copies, each with the file that it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourcePaths(Vec<(String, String)>);

impl SourcePaths {
    /// Pairs of a copy and its source.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (PathBuf, PathBuf)>) -> Self {
        let text = |path: &Path| path.strip_prefix(".").unwrap_or(path).to_string_lossy().into();
        Self(pairs.into_iter().map(|(copy, source)| (text(&copy), text(&source))).collect())
    }

    /// A text that names the sources in place of the copies.
    pub(crate) fn in_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.iter().fold(Cow::Borrowed(text), |text, (copy, source)| match text.contains(copy) {
            true => Cow::Owned(text.replace(copy, source)),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_the_source_in_place_of_the_copy() {
        let pair = |name: &str| (format!("/tmp/x/{name}").into(), format!("./{name}").into());
        let paths = SourcePaths::new([pair("a.wasm"), pair("a.toml")]);
        for (text, expected) in [
            ("/tmp/x/a.toml:3:2: wrong", "a.toml:3:2: wrong"),
            ("/tmp/x/a.wasm is wrong, add \"/tmp/x/a.toml\"", "a.wasm is wrong, add \"a.toml\""),
            ("/tmp/y/a.toml", "/tmp/y/a.toml"),
        ] {
            assert_eq!(paths.in_text(text), expected);
        }
        assert_eq!(SourcePaths::default().in_text("a"), "a");
    }
}
