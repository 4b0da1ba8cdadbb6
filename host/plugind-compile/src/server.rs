//! The server: it answers from the cache, or lets a worker compile and stores the result.
//!
//! Requests follow each other on one connection. An entry is named by the digest of bytes that were hashed here and
//! then given to the worker, so whatever a worker makes of a component can stand for that component only.

use crate::{anonymous, cache, error::CompileFailure, limits::RequestLimits, sandbox, task};
use anyhow::Context;
use plugind_artifact::{
    entry::Key,
    protocol::{self, CompileReply, CompileRequest, Effort, ProtocolError, Request},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FileType,
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// Serves requests from standard input until the other side closes, or asks for nothing during `idle`.
pub(crate) fn serve(
    cache: Option<PathBuf>,
    limits: &RequestLimits,
    idle: Duration,
) -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::thread::set_no_new_privs(true)?;
    if !sandbox::has_landlock() {
        print_error(
            "there is no Landlock for workers, because of the kernel or of SystemCallFilter=; only a system call filter and limits confine them",
        );
    }
    let socket = io::stdin();
    let mut swept = false;
    while is_asked(&socket, idle)? {
        let request = match protocol::receive_request(&socket) {
            Ok(request) => request,
            Err(ProtocolError::Ended) => break,
            Err(error) => return Err(error.into()),
        };
        let answer = match answer(cache.as_deref(), limits, request, &socket) {
            Ok(reply) => reply,
            Err(CompileFailure::Component(why)) => CompileReply::Refused(why),
            Err(CompileFailure::Host(why)) => CompileReply::Failed(format!("{why:#}")),
        };
        // Before the answer: a client that has its answer may end this process.
        if let Some(cache) = cache.as_deref().filter(|_| !swept) {
            cache::sweep(cache);
            swept = true;
        }
        protocol::answer(&socket, &answer)?;
    }
    Ok(())
}

/// Whether a request arrives within `idle`.
fn is_asked(socket: &io::Stdin, idle: Duration) -> anyhow::Result<bool> {
    let idle = Timespec::try_from(idle)?;
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&idle)) {
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno.into()),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

fn answer(
    cache: Option<&Path>,
    limits: &RequestLimits,
    Request { order, descriptor }: Request,
    asking: impl AsFd,
) -> Result<CompileReply, CompileFailure> {
    let key = Key::new(&order.component, order.kind);
    let found = match order.effort {
        Effort::Find | Effort::Compile => cache.and_then(|cache| cache::open(cache, &key)),
        Effort::Recompile => None,
    };
    match found {
        Some(file) => return Ok(CompileReply::Compiled(file)),
        None if order.effort == Effort::Find => return Ok(CompileReply::Absent),
        None => (),
    }
    let component = read(descriptor, limits.component_max)?;
    let digest = Sha256::digest(&component);
    if digest.as_slice() != order.component {
        return Err(CompileFailure::Host(anyhow::anyhow!(
            "the component changed while it was being read; write it under another name and rename it"
        )));
    }
    let order = CompileRequest {
        cpu_max: order.cpu_max.min(Duration::from_secs(limits.timeout)),
        memory_max: order.memory_max.min(limits.memory_max),
        ..order
    };
    let code = task::compile(&component, &order, asking)?;
    Ok(keep(cache, &key, &code)?)
}

/// Stores `code` in the cache. Where that is impossible, the daemon gets it nevertheless, and the reason.
fn keep(cache: Option<&Path>, key: &Key, code: &[u8]) -> anyhow::Result<CompileReply> {
    let stored = match cache {
        Some(cache) => cache::store(cache, key, code),
        None => Err(anyhow::anyhow!(
            "there is no directory for compiled files; set it with --cache or CacheDirectory="
        )),
    };
    match stored {
        Ok(file) => Ok(CompileReply::Compiled(file)),
        Err(why) => {
            let why = format!("{why:#}");
            let file = anonymous::file(key, code)
                .with_context(|| format!("{why}; and no file without a name can be made"))?;
            Ok(CompileReply::Unkept(file, why))
        }
    }
}

fn read(descriptor: OwnedFd, max: u64) -> Result<Vec<u8>, CompileFailure> {
    let cannot_read = "cannot read the component";
    let stat = rustix::fs::fstat(&descriptor).context(cannot_read)?;
    // Anything else may have no end, or keep its reader waiting.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(CompileFailure::Component("the component is not a regular file".to_owned()));
    }
    let mut file = File::from(descriptor);
    file.rewind().context(cannot_read)?;
    let mut component = Vec::new();
    // One byte more than allowed, to tell "just fits" from "too large".
    file.take(max + 1).read_to_end(&mut component).context(cannot_read)?;
    if component.len() as u64 > max {
        return Err(CompileFailure::Component(format!(
            "the component is larger than {max} bytes; --component-max raises the limit"
        )));
    }
    Ok(component)
}

/// Writes to standard error, which is the journal under systemd, and is discarded otherwise.
#[expect(clippy::print_stderr, reason = "this is the only output of the server")]
pub(crate) fn print_error(what: &str) {
    eprintln!("{what}");
}
