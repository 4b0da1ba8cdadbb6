//! Facts about an instance that failed, besides the failure itself: for its journal entry.

use crate::base::{request_identity::RequestIdentity, text::Escaped};
use std::path::PathBuf;
use wasmtime::WasmBacktrace;

/// The longest backtrace that is logged, in bytes.
const BACKTRACE_MAX: usize = 8 << 10;

/// Facts about an instance that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostMortem {
    /// Where the guest was, the innermost function first, each in a line of its own.
    pub backtrace: Option<String>,
    /// The request that it had, if it was the only one.
    pub request: Option<RequestIdentity>,
    /// The file of its core dump, if one was written.
    pub core_dump: Option<PathBuf>,
}

impl PostMortem {
    /// Of an instance that ended with `error`.
    pub(crate) fn of_error(error: &wasmtime::Error, request: Option<RequestIdentity>) -> Self {
        let trace = error.downcast_ref::<WasmBacktrace>();
        let trace = trace.filter(|trace| !trace.frames().is_empty());
        Self { backtrace: trace.map(|trace| tidy(&trace.to_string())), request, core_dump: None }
    }
}

/// The frames of a backtrace as the runtime writes it, made harmless: names and files are those of the component.
fn tidy(trace: &str) -> String {
    let mut tidied = String::new();
    // The first line is a heading.
    for line in trace.lines().skip(1) {
        let line = Escaped(line.trim_end()).to_string();
        let is_too_long = tidied.len() + line.len() >= BACKTRACE_MAX;
        if !tidied.is_empty() {
            tidied.push('\n');
        }
        if is_too_long {
            tidied.push('…');
            break;
        }
        tidied.push_str(&line);
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_is_bounded_and_cannot_steer_a_terminal() {
        let trace = tidy("heading\n    0: a\u{1b}[2J\n    1: b\n");
        assert_eq!(trace, "    0: a\\u{1b}[2J\n    1: b");
        let long = format!("heading\n{}\n", "name\n".repeat(BACKTRACE_MAX));
        let trace = tidy(&long);
        assert!(trace.len() <= BACKTRACE_MAX + "…".len(), "{}", trace.len());
        assert!(trace.ends_with("\nname\n…"), "{trace}");
        assert_eq!(tidy(&format!("heading\n{}\n", "x".repeat(BACKTRACE_MAX))), "…");
    }
}
