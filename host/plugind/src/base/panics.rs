//! Panics that their callers contain are not printed.

use std::panic::{self, PanicHookInfo};

/// The library that validates components, which panics at some that are made up. Its caller reports such a component as
/// damaged.
const CONTAINED: &str = "wasmparser";

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
    panic.location().is_some_and(|place| is_of(place.file(), CONTAINED))
}

/// Whether a file of source code belongs to a library: one of its directories has its name, with or without a version.
fn is_of(file: &str, library: &str) -> bool {
    file.split('/').any(|part| {
        part.strip_prefix(library).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with("-0.") || rest.starts_with("-1.")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_validator_panics_at_is_left_out() {
        for file in
            ["/x/registry/src/index/wasmparser-0.254.0/src/validator.rs", "wasmparser/src/a.rs"]
        {
            assert!(is_of(file, CONTAINED), "{file}");
        }
        for file in ["host/plugind/src/plugin/verify.rs", "/x/wasmparser-helper/src/a.rs", ""] {
            assert!(!is_of(file, CONTAINED), "{file}");
        }
    }
}
