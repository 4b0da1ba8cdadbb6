//! The WebAssembly proposals that the engine has, and what to do about a component that needs another one.

use wasmparser::{BinaryReaderError, WasmFeatures};

/// The proposals that the engine enables: the same as `plugind_artifact::engine` configures.
pub(super) const ENABLED: WasmFeatures = WasmFeatures::WASM3
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::CM_ASYNC)
    .difference(WasmFeatures::GC)
    .difference(WasmFeatures::FUNCTION_REFERENCES)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::THREADS);

/// A proposal that the engine does not have.
#[derive(Debug)]
pub struct Proposal {
    /// Its name.
    pub name: &'static str,
    /// Why the engine does not have it.
    pub why: &'static str,
    /// Compiler options for a component that does not need it, or the languages that cannot do without it.
    pub remedy: &'static str,
    /// The feature that must be enabled for it.
    features: WasmFeatures,
    /// The name of its instructions in messages of the compiler.
    instructions: &'static str,
}

/// The runtime has it, but a component with it could end the whole daemon.
const UNSAFE: &str =
    "is off, because a component with it could end the daemon by a fault of wasmtime before 48.0.9";
/// The runtime has it at most as an experiment.
const UNSUPPORTED: &str = "this host does not support";
const NO_EXCEPTIONS: &str = "build it with -fno-exceptions and without -mllvm -wasm-enable-sjlj (C, C++), or with \
    panic = \"abort\" (Rust)";
const NO_REFERENCES: &str = "the compilers of Kotlin, Dart and OCaml (wasm_of_ocaml) need it, so use another language; \
    run wasm-opt with --disable-gc";
const NO_COLLECTION: &str = "the compilers of Kotlin, Dart, OCaml (wasm_of_ocaml) and Java (TeaVM) need it, so use \
    another language; build MoonBit with --target wasm, and run wasm-opt with --disable-gc";

// The first that is enough for a component is named.
const PROPOSALS: &[Proposal] = &[
    Proposal {
        name: "exception handling",
        why: UNSAFE,
        remedy: NO_EXCEPTIONS,
        features: WasmFeatures::EXCEPTIONS,
        instructions: "exceptions",
    },
    Proposal {
        name: "legacy exception handling",
        why: UNSUPPORTED,
        remedy: NO_EXCEPTIONS,
        features: WasmFeatures::LEGACY_EXCEPTIONS.union(WasmFeatures::EXCEPTIONS),
        instructions: "legacy exceptions",
    },
    Proposal {
        name: "typed function references",
        why: UNSAFE,
        remedy: NO_REFERENCES,
        features: WasmFeatures::FUNCTION_REFERENCES,
        instructions: "function references",
    },
    Proposal {
        name: "garbage collection",
        why: UNSAFE,
        remedy: NO_COLLECTION,
        features: WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
        instructions: "gc",
    },
    Proposal {
        name: "threads",
        why: UNSUPPORTED,
        remedy: "build it without -pthread (C, C++) or without -C target-feature=+atomics (Rust)",
        features: WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
        instructions: "threads",
    },
    Proposal {
        name: "stack switching",
        why: UNSUPPORTED,
        remedy: "build it with a toolchain that does not use it",
        features: WasmFeatures::STACK_SWITCHING,
        instructions: "stack switching",
    },
];

impl Proposal {
    /// The proposal of an instruction, without which the compiler refused a component with this message: bodies of
    /// functions are read by the compiler only.
    pub(super) fn of_instruction(refused: &str) -> Option<&'static Self> {
        let is_of = |proposal: &&Self| {
            refused.contains(&format!(": {} support is not enabled", proposal.instructions))
        };
        PROPOSALS.iter().find(is_of)
    }

    /// The proposal without which a component is not valid: the one that the error names, or else the one with which
    /// `is_valid` is true.
    pub(super) fn needed(
        error: &BinaryReaderError,
        is_valid: impl Fn(WasmFeatures) -> bool,
    ) -> Option<&'static Self> {
        let named = error.missing_wasm_feature().and_then(|features| {
            PROPOSALS.iter().find(|proposal| proposal.features.contains(features))
        });
        named.or_else(|| {
            PROPOSALS.iter().find(|proposal| is_valid(ENABLED.union(proposal.features)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_that_the_compiler_refuses_belongs_to_its_proposal() {
        for (described, name) in [
            ("gc", Some("garbage collection")),
            ("legacy exceptions", Some("legacy exception handling")),
            ("exceptions", Some("exception handling")),
            ("wide arithmetic", None),
        ] {
            let refused = format!("Invalid input: {described} support is not enabled");
            assert_eq!(Proposal::of_instruction(&refused).map(|proposal| proposal.name), name);
        }
    }
}
