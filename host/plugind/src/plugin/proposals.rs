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
    /// Compiler options for a component that does not need it.
    pub remedy: &'static str,
    /// The feature that must be enabled for it.
    features: WasmFeatures,
}

const PROPOSALS: &[Proposal] = &[
    Proposal {
        name: "exception handling",
        remedy: "build it with -fno-exceptions (C, C++) or panic = \"abort\" (Rust)",
        features: WasmFeatures::EXCEPTIONS,
    },
    Proposal {
        name: "legacy exception handling",
        remedy: "build it with -fno-exceptions (C, C++) or panic = \"abort\" (Rust)",
        features: WasmFeatures::LEGACY_EXCEPTIONS.union(WasmFeatures::EXCEPTIONS),
    },
    Proposal {
        name: "garbage collection",
        remedy: "build it with a toolchain that keeps its objects in linear memory",
        features: WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
    },
    Proposal {
        name: "typed function references",
        remedy: "build it with a toolchain that does not use them",
        features: WasmFeatures::FUNCTION_REFERENCES,
    },
    Proposal {
        name: "threads",
        remedy: "build it without -pthread (C, C++) or without -C target-feature=+atomics (Rust)",
        features: WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
    },
    Proposal {
        name: "stack switching",
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
