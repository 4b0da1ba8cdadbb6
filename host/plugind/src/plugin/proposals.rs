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
    /// Compiler options for a component that does not need it.
    pub remedy: &'static str,
    /// The feature that must be enabled for it.
    features: WasmFeatures,
}

/// The runtime has it, but a component with it could end the whole daemon.
const UNSAFE: &str =
    "is off, because a component with it could end the daemon by a fault of wasmtime before 48.0.9";
/// The runtime has it at most as an experiment.
const UNSUPPORTED: &str = "this host does not support";
const NO_EXCEPTIONS: &str = "build it with -fno-exceptions and without -mllvm -wasm-enable-sjlj (C, C++), or with \
    panic = \"abort\" (Rust)";

const PROPOSALS: &[Proposal] = &[
    Proposal {
        name: "exception handling",
        why: UNSAFE,
        remedy: NO_EXCEPTIONS,
        features: WasmFeatures::EXCEPTIONS,
    },
    Proposal {
        name: "legacy exception handling",
        why: UNSUPPORTED,
        remedy: NO_EXCEPTIONS,
        features: WasmFeatures::LEGACY_EXCEPTIONS.union(WasmFeatures::EXCEPTIONS),
    },
    Proposal {
        name: "garbage collection",
        why: UNSAFE,
        remedy: "build it with a toolchain that keeps its objects in linear memory",
        features: WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
    },
    Proposal {
        name: "typed function references",
        why: UNSAFE,
        remedy: "build it with a toolchain that does not use them",
        features: WasmFeatures::FUNCTION_REFERENCES,
    },
    Proposal {
        name: "threads",
        why: UNSUPPORTED,
        remedy: "build it without -pthread (C, C++) or without -C target-feature=+atomics (Rust)",
        features: WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
    },
    Proposal {
        name: "stack switching",
        why: UNSUPPORTED,
        remedy: "build it with a toolchain that does not use it",
        features: WasmFeatures::STACK_SWITCHING,
    },
];

impl Proposal {
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
