//! The names of plugins, sockets and stores, parsed once.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest name: with a prefix and a suffix it must still fit a file name, a unit name and a journal field.
const LENGTH_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no character, or too many.
    #[error("a name must have 1 to {LENGTH_MAX} characters, not {0}")]
    Length(usize),
    /// It does not begin with a letter.
    #[error("a name must begin with a letter a-z, not with {0:?}")]
    Beginning(char),
    /// It has a character that a name cannot have.
    #[error("a name can have only a-z, 0-9 and -, not {0:?}")]
    Character(char),
}

/// A plugin's name: the stem of its file, fit for a unit name, a log field and a path.
// Invariant: 1 to 64 of [a-z0-9-], beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName(Arc<str>);

/// A socket's name, as systemd's `FileDescriptorName=` gives it.
// Invariant: the same as a plugin's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketName(Box<str>);

fn check(text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if !(1..=LENGTH_MAX).contains(&length) {
        return Err(NameError::Length(length));
    }
    let strange = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
    if let Some(character) = text.chars().find(strange) {
        return Err(NameError::Character(character));
    }
    match text.chars().next() {
        Some('a'..='z') => Ok(()),
        beginning => Err(NameError::Beginning(beginning.unwrap_or_default())),
    }
}

/// The name of a key-value store that plugins share.
// Invariant: the same as a plugin's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(Box<str>);

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(PluginName);
name!(SocketName);
name!(StoreName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_never_climb_out_of_its_directory() {
        let long = "a".repeat(65);
        for name in
            ["", "..", "../etc", "a/b", "Greeter", "-x", "9lives", "a\0b", "ä", "a.b", &long]
        {
            assert!(name.parse::<PluginName>().is_err(), "{name:?} was accepted");
        }
        for name in ["a", "greeter-02", &"a".repeat(64)] {
            assert_eq!(name.parse::<PluginName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_error_names_the_character_that_is_wrong() {
        assert_eq!("gre_eter".parse::<PluginName>(), Err(NameError::Character('_')));
        assert_eq!("9lives".parse::<SocketName>(), Err(NameError::Beginning('9')));
    }
}
