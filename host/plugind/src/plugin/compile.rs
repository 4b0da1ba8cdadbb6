//! `Verified` → `Compiled`, through the cache; the compiling itself is done by a child, `plugind-compile`.
//!
//! A component can be made so that it takes a compiler for ever, or all memory. That is why it is another process,
//! with a deadline and limits of its own.

use super::{
    cache::{self, Cache, CacheError},
    manifest::Manifest,
    offers::Offers,
    verify::Verified,
};
use crate::name::PluginName;
use plugind_code::{
    entry::Key,
    protocol::{self, Answer, ProtocolError},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    fs::File,
    io,
    mem::take,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};
use tracing::warn;
use wasmtime::{Engine, component::Component};

/// How a child is run. All clones know the same children.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program `plugind-compile`.
    pub program: PathBuf,
    /// How long one component may take.
    pub deadline: Duration,
    /// How much address space one child may use, in bytes.
    pub memory_max: u64,
    children: Arc<Mutex<Children>>,
}

/// The children that are at work.
#[derive(Debug, Default)]
struct Children {
    /// No more are to be started.
    ended: bool,
    at_work: Vec<Child>,
}

/// A plugin in the form that can be run.
pub struct Compiled {
    /// Its name.
    pub name: PluginName,
    /// Its manifest.
    pub manifest: Manifest,
    /// What its component has to offer.
    pub offers: Offers,
    /// The SHA-256 digest of its component.
    pub digest: [u8; 32],
    /// Where its component was read from.
    pub path: PathBuf,
    /// Its component.
    pub component: Component,
}

/// Why there is no compiled file.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The child could not be started.
    #[error("cannot run the compiler {}; see --compiler", program.display())]
    Run {
        /// What was to be run.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The component cannot be opened any more.
    #[error("cannot open the component")]
    Open(#[source] io::Error),
    /// It took too long.
    #[error("the compiler gave no answer within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
    /// It died, or did not answer as it should.
    #[error("the compiler failed ({status})")]
    Failed {
        /// How it ended.
        status: String,
        /// What came instead of an answer.
        source: ProtocolError,
    },
    /// It says that the component cannot be compiled.
    #[error("{0}")]
    Refused(String),
    /// What it returned cannot be loaded.
    #[error("the compiler returned something that cannot be used")]
    Useless(#[source] CacheError),
}

/// Finds a plugin's compiled file in the cache or has it made.
///
/// Blocks for as long as the compiler takes: call it where that is allowed.
///
/// # Errors
/// When it cannot be compiled. Trouble with the cache is none: then it is compiled anew.
pub fn compile(
    verified: Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Compiled, CompileError> {
    let key = Key::new(verified.digest());
    let component = match cache.load(engine, &key) {
        Ok(component) => component,
        Err(absent_or_bad) => {
            if !matches!(absent_or_bad, CacheError::Absent) {
                let error = crate::chain::Chain(&absent_or_bad).to_string();
                warn!(plugin = %verified.name(), error, "compiled file not used, compiling anew");
            }
            let descriptor = compiler.run(&verified, cache)?;
            cache::load(engine, &key, descriptor).map_err(CompileError::Useless)?
        }
    };
    Ok(Compiled {
        name: verified.name().clone(),
        manifest: verified.manifest().clone(),
        offers: verified.offers().clone(),
        digest: *verified.digest(),
        path: verified.path().to_owned(),
        component,
    })
}

impl Compiler {
    /// A compiler that is run as `program`.
    #[must_use]
    pub fn new(program: PathBuf, deadline: Duration, memory_max: u64) -> Self {
        Self { program, deadline, memory_max, children: Arc::default() }
    }

    /// Ends every child that is at work, and starts no more.
    pub fn end(&self) {
        let at_work = {
            let mut children = self.children();
            children.ended = true;
            take(&mut children.at_work)
        };
        for child in at_work {
            end(child);
        }
    }

    fn run(&self, verified: &Verified, cache: &Cache) -> Result<OwnedFd, CompileError> {
        let cannot_run = |source| CompileError::Run { program: self.program.clone(), source };
        // It is opened anew: one descriptor for each plugin that waits would be too many. What is compiled is what was
        // verified all the same, since the compiler checks the digest.
        let component = File::open(verified.path()).map_err(CompileError::Open)?;
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (here, there) = socketpair(AddressFamily::UNIX, kind, flags, None)
            .map_err(|errno| cannot_run(errno.into()))?;
        for direction in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&here, direction, Some(self.deadline))
                .map_err(|errno| cannot_run(errno.into()))?;
        }
        let mut command = Command::new(&self.program);
        command
            .arg("--cache")
            .arg(cache.directory())
            .arg(format!("--memory-max={}", self.memory_max))
            .arg(format!("--cpu-max={}", self.cpu_max()))
            .env_clear()
            .stdin(Stdio::from(there))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.start(&mut command).map_err(cannot_run)?;
        // It holds the other end of the socket: only without it is the child's end noticed.
        drop(command);

        let answer = protocol::ask(&here, verified.digest(), component.as_fd())
            .and_then(|()| protocol::receive_answer(&here));
        let status = self.end_one(child);
        match answer {
            Ok(Answer::Compiled(descriptor)) => Ok(descriptor),
            Ok(Answer::Refused(why)) => Err(CompileError::Refused(why)),
            Err(ProtocolError::Receive(Errno::AGAIN)) => Err(CompileError::Deadline(self.deadline)),
            Err(source) => Err(CompileError::Failed { status, source }),
        }
    }

    /// All cores for all of the time, in seconds.
    fn cpu_max(&self) -> u64 {
        let cores = available_parallelism().map_or(1, |cores| cores.get() as u64);
        self.deadline.as_secs().max(1).saturating_mul(cores)
    }

    fn start(&self, command: &mut Command) -> io::Result<u32> {
        let mut children = self.children();
        if children.ended {
            return Err(io::Error::other("the daemon is ending"));
        }
        let child = command.spawn()?;
        let id = child.id();
        children.at_work.push(child);
        Ok(id)
    }

    /// Ends a child, if it has not ended by itself or was ended already, and says how it ended.
    fn end_one(&self, id: u32) -> String {
        let child = {
            let mut children = self.children();
            let place = children.at_work.iter().position(|child| child.id() == id);
            place.map(|place| children.at_work.swap_remove(place))
        };
        child.map_or_else(|| "it was ended".to_owned(), end)
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(mut child: Child) -> String {
    // It gave its answer, or will give none: it is ending by itself, or has to be made to.
    child.kill().ok();
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}
