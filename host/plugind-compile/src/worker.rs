//! The worker: bytes in, code out, and no access to anything else.
//!
//! It is trusted for the code of this one component, and for nothing else. A component that takes it over chooses that
//! code, which then runs in the daemon without the runtime's isolation; no other component's code is within its reach.

use crate::{candidate, debug_info, sandbox};
use plugind_artifact::engine::{EngineKind, engine_config};
use std::{
    io::{self, Read, Write},
    process::ExitCode,
};
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm};

/// The exit status when what was written is not code but the reason why there is none (sysexits.h).
pub(crate) const REFUSED: u8 = 65;
/// The exit status when what was written is the reason why the worker could not be restricted (sysexits.h).
pub(crate) const UNRESTRICTED: u8 = 71;

/// Compiles one component.
pub(crate) fn work(kind: EngineKind, memory_max: u64, cpu_max: u64) -> ExitCode {
    let mut component = Vec::new();
    if let Err(error) = sandbox::enter(memory_max, cpu_max) {
        // Nothing of the component was read, so these are words of our own.
        let written = write!(io::stdout(), "{error:#}");
        return written.map_or(ExitCode::FAILURE, |()| ExitCode::from(UNRESTRICTED));
    }
    // Without a component there is no output: the exit status reports the failure.
    if io::stdin().lock().read_to_end(&mut component).is_err() {
        return ExitCode::FAILURE;
    }
    debug_info::hide_if_long(&mut component);
    candidate::release(&mut component);
    let compiled = compile(kind, &component);
    let (written, status) = match &compiled {
        Ok(code) => (code.as_slice(), ExitCode::SUCCESS),
        Err(reason) => (reason.as_bytes(), ExitCode::from(REFUSED)),
    };
    let mut output = io::stdout().lock();
    match output.write_all(written).and_then(|()| output.flush()) {
        Ok(()) => status,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The configuration of the compiler. How much it optimizes does not concern the engine that runs the code.
fn config(kind: EngineKind) -> Config {
    let mut config = engine_config(kind);
    if kind == EngineKind::Unoptimized {
        config.cranelift_opt_level(OptLevel::None);
        config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    config
}

pub(crate) fn compile(kind: EngineKind, component: &[u8]) -> Result<Vec<u8>, String> {
    let compiled =
        Engine::new(&config(kind)).and_then(|engine| engine.precompile_component(component));
    compiled.map_err(|error| format!("{error:#}"))
}
