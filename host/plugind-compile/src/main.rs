//! Turns one component into one compiled file, and ends.
//!
//! It is asked over the socket that is its standard input, answers there, and says nothing anywhere else. What it
//! reads may be hostile, so it first takes from itself what a compilation does not need.

mod cache;

use anyhow::{Context, bail};
use clap::Parser;
use plugind_code::{
    engine::engine_config,
    entry::Key,
    protocol::{self, Answer, Request},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::OwnedFd,
    path::PathBuf,
    process::ExitCode,
};
use wasmtime::Engine;

/// Compiles the component that comes in over the socket on standard input. Started by plugind, not by hand.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where compiled files are kept
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// The most address space it may use, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    memory_max: u64,
    /// The most processor time it may use, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    cpu_max: u64,
    /// The largest component it reads, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    component_max: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let socket = io::stdin();
    let served = serve(&arguments, &socket);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // Nobody listens: the daemon sees that the answer is missing.
    }
}

fn serve(arguments: &Arguments, socket: &io::Stdin) -> anyhow::Result<()> {
    limit(Resource::As, arguments.memory_max)?;
    limit(Resource::Cpu, arguments.cpu_max)?;
    limit(Resource::Core, 0)?;
    let request = protocol::receive_request(socket)?;
    let answer = match compile(arguments, request) {
        Ok(file) => Answer::Compiled(file),
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    // Before the answer: whoever has its answer ends this process.
    cache::sweep(&arguments.cache);
    Ok(protocol::answer(socket, &answer)?)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn compile(arguments: &Arguments, request: Request) -> anyhow::Result<OwnedFd> {
    let component = read(request.descriptor, arguments.component_max)?;
    if Sha256::digest(&component).as_slice() != request.component {
        bail!(
            "the component changed while it was being read; write it under another name and rename it"
        );
    }
    let engine = Engine::new(&engine_config())?;
    let code = engine.precompile_component(&component)?;
    cache::store(&arguments.cache, &Key::new(&request.component), &code)
}

fn read(descriptor: OwnedFd, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    file.rewind().context("cannot read the component")?;
    let mut component = Vec::new();
    // One byte more than allowed, to tell "just fits" from "too large".
    file.take(most + 1).read_to_end(&mut component).context("cannot read the component")?;
    if component.len() as u64 > most {
        bail!("the component is larger than {most} bytes");
    }
    Ok(component)
}
