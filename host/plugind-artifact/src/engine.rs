//! The engine's configuration, and the identity of all that was compiled with it.

use crate::hex::hex;
pub use crate::kind::EngineKind;

use sha2::{Digest, Sha256};
use std::hint::black_box;
use wasmtime::{Config, WasmBacktraceDetails};

/// Counts the changes of [`engine_config`], and of the seals of files, that make older compiled files useless. The
/// programs contain this text once, so that a test can turn them into a build with another engine.
const REVISION: &str = "plugind engine revision 005";
/// The interpreter's code, as compilers name it.
const PULLEY: &str = if cfg!(target_endian = "big") { "pulley64be" } else { "pulley64" };

/// The configuration that compiled code and the engine that runs it have in common.
///
/// The daemon adds how instances are allocated, which changes nothing about the code.
///
/// # Panics
/// Never: the one target that it names is known.
#[must_use]
pub fn engine_config(kind: EngineKind) -> Config {
    let mut config = Config::new();
    if kind == EngineKind::Pulley {
        config.target(PULLEY).expect("wasmtime knows its own interpreter");
    }
    // Every loop and every call checks the epoch: a guest that spins must yield, and is detected.
    config.epoch_interruption(true);
    // A backtrace names files and lines where the component has debug information.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // Off, because a guest could end the whole process by them before wasmtime 48.0.9 (GHSA-43j2-gcp4-m22g).
    config.wasm_gc(false).wasm_function_references(false).wasm_exceptions(false);
    config.wasm_threads(false).shared_memory(false);
    config
}

/// Names everything that compiled code depends on, besides the component: 16 hexadecimal digits.
///
/// Two builds of plugind with the same identity can use each other's compiled files. That they really fit is
/// checked again by the engine when a file is loaded.
#[must_use]
pub fn identity(kind: EngineKind) -> String {
    let mut hash = Sha256::new();
    // rustc must not turn the text into instructions: it must be in the program as it is.
    hash.update(black_box(REVISION));
    hash.update(wasmtime_environ::VERSION);
    match kind {
        EngineKind::Pulley => hash.update(PULLEY),
        EngineKind::Native | EngineKind::Unoptimized => {
            hash.update(std::env::consts::ARCH);
            for feature in cpu_features() {
                hash.update(feature);
                hash.update(" ");
            }
        }
    }
    if kind == EngineKind::Unoptimized {
        hash.update("unoptimized");
    }
    hex(&hash.finalize()[..8])
}

/// Returns the features that this processor has and the compiler can use.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($feature:tt)*) => {
            [$(($feature, std::arch::is_x86_feature_detected!($feature))),*]
        };
    }
    let features = present!(
        "sse3" "ssse3" "sse4.1" "sse4.2" "avx" "avx2" "fma" "popcnt" "lzcnt" "bmi1" "bmi2" "cmpxchg16b"
        "avx512f" "avx512dq" "avx512vl" "avx512bitalg" "avx512vbmi"
    );
    features.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}

/// Returns the features that this processor has and the compiler can use.
#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    let features = [
        ("lse", std::arch::is_aarch64_feature_detected!("lse")),
        ("paca", std::arch::is_aarch64_feature_detected!("paca")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
    ];
    features.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_identity_is_the_same_each_time_another_for_each_kind_and_fit_for_a_file_name() {
        for (name, kind) in EngineKind::ALL {
            assert_eq!(identity(kind), identity(kind));
            assert!(identity(kind).chars().all(|digit| digit.is_ascii_hexdigit()));
            assert_eq!(identity(kind).len(), 16);
            assert_eq!((kind.to_string().as_str(), name.parse()), (name, Ok(kind)));
        }
        let all: BTreeSet<_> = EngineKind::ALL.iter().map(|(_, kind)| identity(*kind)).collect();
        assert_eq!(all.len(), EngineKind::ALL.len());
    }

    #[test]
    fn there_is_an_engine_of_each_kind() {
        for (name, kind) in EngineKind::ALL {
            assert!(wasmtime::Engine::new(&engine_config(kind)).is_ok(), "{name}");
        }
    }
}
