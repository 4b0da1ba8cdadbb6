//! The ways to run compiled code, and their names.

use std::{fmt, str::FromStr};

/// The way compiled code is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// By the processor itself.
    #[default]
    Native,
    /// By the processor itself, as code that is slower, and compiled in about half of the time.
    Unoptimized,
    /// By an interpreter, about twelve times slower, for systems that let no file be mapped as code.
    Pulley,
}

impl EngineKind {
    /// All of them, each with its name.
    pub const ALL: [(&str, Self); 3] =
        [("native", Self::Native), ("unoptimized", Self::Unoptimized), ("pulley", Self::Pulley)];
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Unoptimized => "unoptimized",
            Self::Pulley => "pulley",
        })
    }
}

impl FromStr for EngineKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find_map(|(known, kind)| (known == name).then_some(kind)).ok_or(())
    }
}
