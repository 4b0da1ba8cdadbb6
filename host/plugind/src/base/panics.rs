//! Panics that their callers contain are not printed.

use std::panic::{self, PanicHookInfo};

/// The libraries that validate components and read key-value stores, which panic at some that are damaged or made up.
/// Their callers report that.
const CONTAINED: [&str; 2] = ["wasmparser", "redb"];

/// Keeps panics from standard error that their callers contain and report.
pub fn leave_out_contained() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_contained(panic) {
            print(panic);
        }
    }));
}

fn is_contained(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|place| is_contained_in(place.file()))
}

fn is_contained_in(file: &str) -> bool {
    CONTAINED.iter().any(|library| is_of(file, library))
}

/// Whether a file of source code belongs to a library: one of its directories has its name, with or without a version.
fn is_of(file: &str, library: &str) -> bool {
    file.split('/').any(|part| {
        part.strip_prefix(library).is_some_and(|rest| {
            let version = rest.strip_prefix('-').and_then(|version| version.chars().next());
            rest.is_empty() || version.is_some_and(|first| first.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_panics_of_two_libraries_are_left_out() {
        for file in [
            "/x/registry/src/index/wasmparser-0.254.0/src/validator.rs",
            "wasmparser/src/a.rs",
            "/x/registry/src/index/redb-3.1.0/src/db.rs",
        ] {
            assert!(is_contained_in(file), "{file}");
        }
        for file in ["host/plugind/src/plugin/verify.rs", "/x/wasmparser-helper/src/a.rs", ""] {
            assert!(!is_contained_in(file), "{file}");
        }
    }
}
