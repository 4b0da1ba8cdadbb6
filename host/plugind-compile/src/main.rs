//! Turns components into compiled files: a server that answers and stores, and a worker that compiles.
//!
//! The server receives requests on the socket that is its standard input, and answers there only. It alone writes the
//! cache, and it never looks into a component. The worker does that: a child for each component, which has nothing but
//! a pipe to read it from and one to write the code to.

mod error;
mod limits;
mod candidate;
mod debug_info;
mod cache;
mod anonymous;
mod filter;
mod sandbox;
mod worker;
mod task;
mod server;

use clap::Parser;
use limits::RequestLimits;
use plugind_artifact::engine::EngineKind;
use std::{env, path::PathBuf, process::ExitCode, time::Duration};

/// Compile the components that are received on the socket on standard input
///
/// plugind or systemd starts this program; it is not started by hand. Each component is parsed by a worker, a separate
/// process that cannot open files, start processes or use the network.
#[derive(Parser)]
#[command(version)]
struct CompileArguments {
    /// Store compiled files in this directory (default: $CACHE_DIRECTORY)
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    limits: RequestLimits,
    /// Exit after this time without a request, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    idle: u64,
    /// Run as the worker: compile one component from standard input to standard output; KIND is native, unoptimized or pulley
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    worker: Option<EngineKind>,
    /// Limit the processor time of the worker, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "worker")]
    cpu_max: u64,
}

fn main() -> ExitCode {
    let CompileArguments { cache, limits, idle, worker, cpu_max } = CompileArguments::parse();
    if let Some(kind) = worker {
        return worker::work(kind, limits.memory_max, cpu_max);
    }
    match server::serve(cache.or_else(of_systemd), &limits, Duration::from_secs(idle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon sees only that the answer is missing; under systemd this is in the journal.
            server::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The directory that systemd made for `CacheDirectory=`.
fn of_systemd() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the start of the program, and there are no threads"
    )]
    env::var_os("CACHE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn parse_kind(name: &str) -> Result<EngineKind, String> {
    name.parse().map_err(|()| "it must be native, unoptimized or pulley".to_owned())
}
