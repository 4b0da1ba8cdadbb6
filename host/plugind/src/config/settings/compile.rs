//! `[compile]`: the limits of the compiler.

use crate::{
    base::quantity::{Bytes, Span},
    config::Table,
};
use std::time::Duration;

/// A shorter time is too short for every compilation.
pub const COMPILE_TIMEOUT_MIN: Span = Span(Duration::from_secs(1));

/// In less address space the compiler cannot even start.
pub const COMPILE_MEMORY_MIN: Bytes = Bytes(64 << 20);

/// `[compile]`: the limits for compiling one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// The time limit.
    pub timeout: Duration,
    /// The limit of address space, in bytes.
    pub memory_max: Bytes,
}

impl Compile {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let timeout = table.parsed::<Span>("timeout-sec");
        if let Some(timeout) = timeout.filter(|timeout| *timeout < COMPILE_TIMEOUT_MIN) {
            let message = format!(
                "compile.timeout-sec must be at least \"{COMPILE_TIMEOUT_MIN}\", not \"{timeout}\""
            );
            table.complain_about("timeout-sec", message);
        }
        let memory_max = table.parsed::<Bytes>("memory-max");
        if let Some(max) = memory_max.filter(|max| *max < COMPILE_MEMORY_MIN) {
            let message = format!(
                "compile.memory-max must be at least \"{COMPILE_MEMORY_MIN}\", not \"{max}\""
            );
            table.complain_about("memory-max", message);
        }
        Self {
            timeout: timeout.map_or(Duration::from_secs(300), |timeout| timeout.0),
            memory_max: memory_max.unwrap_or(Bytes(4 << 30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    #[test]
    fn limits_too_small_for_any_compiler_are_refused_at_their_place() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let mistakes = parse("[compile]\ntimeout-sec = \"0\"\nmemory-max = \"1M\"\n").unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "plugind.toml:2:15: compile.timeout-sec must be at least \"1s\", not \"0s\"",
                "plugind.toml:3:14: compile.memory-max must be at least \"64M\", not \"1M\"",
            ]
        );
        assert!(parse("[compile]\ntimeout-sec = \"1\"\nmemory-max = \"64M\"\n").is_ok());
    }
}
