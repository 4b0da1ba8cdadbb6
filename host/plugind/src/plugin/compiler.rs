//! Compiling by another process: a child for each component, or a service behind a socket.
//!
//! A component can be made so that it takes a compiler for ever, or all memory. That is why it is another process, with
//! limits and a deadline; and since that process may be anything by then, the deadline is kept here as well.

use crate::plugin::{proposals::Proposal, unkept_code::UnkeptCode};
use plugind_artifact::{
    kind::EngineKind,
    protocol::{self, CompileReply, CompileRequest, Effort, ProtocolError},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown,
        socket_with, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    ffi::{OsStr, OsString},
    io,
    mem::take,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

/// Time beyond its deadline that a compiler has to report by itself that it needed too long.
const GRACE: Duration = Duration::from_secs(1);

/// Where the compiler is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompilerLocation {
    /// A program that is started for each component.
    Program(PathBuf),
    /// A socket, behind which a service alone writes the cache.
    Socket(PathBuf),
}

/// It is written as a path, or as `unix:` and a path.
impl From<OsString> for CompilerLocation {
    fn from(text: OsString) -> Self {
        match text.as_bytes().strip_prefix(b"unix:") {
            Some(path) => Self::Socket(PathBuf::from(OsStr::from_bytes(path))),
            None => Self::Program(PathBuf::from(text)),
        }
    }
}

/// A compiled file that a compiler has handed over.
#[derive(Debug)]
pub enum CompiledFile {
    /// It is in the compiler's cache.
    Kept(OwnedFd),
    /// It has no name, because the cache takes nothing.
    Unkept(OwnedFd),
}

/// The way components are compiled. All clones share the same work.
#[derive(Clone, Debug)]
pub struct Compiler {
    place: CompilerLocation,
    cpu_max: Duration,
    memory_max: u64,
    work: Arc<(Mutex<Work>, Condvar)>,
    unkept_code: UnkeptCode,
}

/// The compilations under way.
#[derive(Debug, Default)]
struct Work {
    /// No more is to begin.
    ended: bool,
    children: Vec<Child>,
    /// Number of compilations that use the socket.
    asking: usize,
    busy: Vec<Arc<OwnedFd>>,
    idle: Vec<Arc<OwnedFd>>,
}

/// Why there is no compiled file.
#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    /// The child could not be started.
    #[error("cannot run the compiler {}; see --compiler", program.display())]
    Run {
        /// Path of the program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The service could not be reached.
    #[error(
        "cannot reach the compiler at {}; plugind-compile.socket must be started, and bound into the daemon's namespace",
        socket.display()
    )]
    Reach {
        /// Where it was to be.
        socket: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "the compiler gave no answer within {}; if it was only busy, raise compile.timeout-sec in plugind.toml",
        humantime::format_duration(*.0)
    )]
    Deadline(Duration),
    /// It died, or did not answer as it should.
    #[error("the compiler failed ({status})")]
    Failed {
        /// Its exit status or signal.
        status: String,
        /// The error of the protocol.
        source: ProtocolError,
    },
    /// It says that it could not do its work.
    #[error("the compiler failed: {0}")]
    Unable(String),
    /// It says that the component cannot be compiled.
    #[error("{0}")]
    Refused(String),
}

impl Compiler {
    /// A compiler that may use so much processor time for each component, and so much address space, in bytes.
    #[must_use]
    pub fn new(place: CompilerLocation, cpu_max: Duration, memory_max: u64) -> Self {
        let unkept_code = UnkeptCode::default();
        Self { place, cpu_max, memory_max, work: Arc::default(), unkept_code }
    }

    /// The program, unless the compiler is a service.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        match &self.place {
            CompilerLocation::Program(program) => Some(program),
            CompilerLocation::Socket(_) => None,
        }
    }

    /// The longest time that it may take until a component is compiled: it is compiled again once if the compiled file
    /// is damaged, and each time the compiler is reached, gets the component and answers. After that, only a file
    /// system that does not answer can be the reason that there is no result.
    #[must_use]
    pub fn longest(&self) -> Duration {
        const WAITS: u32 = 2 * 3;
        let (effort, cpu_max, memory_max) = (Effort::Compile, self.cpu_max, self.memory_max);
        let kind = EngineKind::Native;
        let order = CompileRequest { component: [0; 32], kind, effort, cpu_max, memory_max };
        order.wall_clock_max().saturating_add(GRACE).saturating_mul(WAITS)
    }

    /// Whether the code that it makes is kept.
    #[must_use]
    pub fn unkept_code(&self) -> &UnkeptCode {
        &self.unkept_code
    }

    /// Ends all compilations in progress, and allows no new ones.
    pub fn end(&self) {
        let (children, busy) = {
            let mut work = self.work();
            work.ended = true;
            work.idle.clear();
            (take(&mut work.children), take(&mut work.busy))
        };
        self.work.1.notify_all();
        for socket in busy {
            // Callers that wait for an answer get an error, and the service sees a closed connection.
            shutdown(&socket, Shutdown::Both).ok();
        }
        for child in children {
            end(child);
        }
    }

    /// Has the component behind `descriptor` compiled for engines of this kind, or found in the cache; none, if it was
    /// only to be found and is not there. `cache` is the directory of compiled files, for a compiler that shares it.
    ///
    /// Blocks for as long as that takes.
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn make(
        &self,
        digest: &[u8; 32],
        descriptor: BorrowedFd<'_>,
        kind: EngineKind,
        cache: &Path,
        effort: Effort,
    ) -> Result<Option<CompiledFile>, CompilerError> {
        let order = CompileRequest {
            component: *digest,
            kind,
            effort,
            cpu_max: self.cpu_max,
            memory_max: self.memory_max,
        };
        let answer = match &self.place {
            CompilerLocation::Program(program) => {
                self.ask_child(program, cache, &order, descriptor)
            }
            CompilerLocation::Socket(path) => self.ask_service(path, &order, descriptor),
        };
        match answer? {
            CompileReply::Compiled(file) => {
                // A file that was found says nothing about the next one that is to be kept.
                if effort != Effort::Find {
                    self.unkept_code.note(None);
                }
                Ok(Some(CompiledFile::Kept(file)))
            }
            CompileReply::Unkept(file, why) => {
                self.unkept_code.note(Some(why));
                Ok(Some(CompiledFile::Unkept(file)))
            }
            CompileReply::Absent => Ok(None),
            CompileReply::Refused(why) => Err(CompilerError::Refused(with_remedy(why))),
            CompileReply::Failed(why) => Err(CompilerError::Unable(why)),
        }
    }

    fn ask_child(
        &self,
        program: &Path,
        cache: &Path,
        order: &CompileRequest,
        descriptor: BorrowedFd<'_>,
    ) -> Result<CompileReply, CompilerError> {
        let cannot_run = |source| CompilerError::Run { program: program.to_owned(), source };
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (here, there) = socketpair(AddressFamily::UNIX, kind, flags, None)
            .map_err(|errno| cannot_run(errno.into()))?;
        set_timeout(&here, order).map_err(|errno| cannot_run(errno.into()))?;
        let mut command = Command::new(program);
        command
            .arg("--cache")
            .arg(cache)
            .env_clear()
            .stdin(Stdio::from(there))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.start(&mut command).map_err(cannot_run)?;
        // It holds the other end of the socket: only without it is the child's end noticed.
        drop(command);

        let answer = exchange(&here, order, descriptor);
        let status = self.end_child(child);
        answer.map_err(|error| explain(error, order, status))
    }

    fn ask_service(
        &self,
        path: &Path,
        order: &CompileRequest,
        descriptor: BorrowedFd<'_>,
    ) -> Result<CompileReply, CompilerError> {
        let cannot_reach = |source: io::Error| match source.kind() {
            // The service does not accept connections.
            io::ErrorKind::WouldBlock => CompilerError::Deadline(order.wall_clock_max()),
            _ => CompilerError::Reach { socket: path.to_owned(), source },
        };
        let turn = CompileTurn::take(self, order.effort).map_err(cannot_reach)?;
        loop {
            let used = self.work().idle.pop();
            let was_used = used.is_some();
            let socket = match used {
                Some(socket) => socket,
                None => Arc::new(connect_to(path, order).map_err(cannot_reach)?),
            };
            set_timeout(&socket, order).map_err(|errno| cannot_reach(errno.into()))?;
            turn.begin(&socket).map_err(cannot_reach)?;
            let answer = exchange(&socket, order, descriptor);
            let in_order = turn.finish(&socket, answer.is_ok());
            match answer {
                Ok(answer) => return Ok(answer),
                // A service that has nothing to do ends, which is no failure.
                Err(error) if was_used && in_order && is_closed(&error) => (),
                Err(error) => return Err(explain(error, order, "its connection ended".to_owned())),
            }
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<u32> {
        let mut work = self.work();
        if work.ended {
            return Err(ending());
        }
        let child = command.spawn()?;
        let id = child.id();
        work.children.push(child);
        Ok(id)
    }

    /// Ends a child, if it has not ended by itself or was ended already, and says how it ended.
    fn end_child(&self, id: u32) -> String {
        let child = {
            let mut work = self.work();
            let place = work.children.iter().position(|child| child.id() == id);
            place.map(|place| work.children.swap_remove(place))
        };
        child.map_or_else(|| "it was ended".to_owned(), end)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn to use the service for compiling; there are as many turns as cores. A file in its cache
/// is asked for at any time.
struct CompileTurn<'a> {
    compiler: &'a Compiler,
    counts: bool,
}

impl<'a> CompileTurn<'a> {
    /// Waits for it.
    fn take(compiler: &'a Compiler, effort: Effort) -> io::Result<Self> {
        let counts = effort != Effort::Find;
        let max = if counts { cores() } else { usize::MAX };
        let work = compiler.work();
        let waited = compiler.work.1.wait_while(work, |work| !work.ended && work.asking >= max);
        let mut work = waited.unwrap_or_else(PoisonError::into_inner);
        if work.ended {
            return Err(ending());
        }
        work.asking += usize::from(counts);
        Ok(Self { compiler, counts })
    }

    fn begin(&self, socket: &Arc<OwnedFd>) -> io::Result<()> {
        let mut work = self.compiler.work();
        if work.ended {
            return Err(ending());
        }
        work.busy.push(socket.clone());
        Ok(())
    }

    /// Keeps a connection that is `good` for another request. False when all of this was ended meanwhile.
    fn finish(&self, socket: &Arc<OwnedFd>, good: bool) -> bool {
        let mut work = self.compiler.work();
        work.busy.retain(|busy| !Arc::ptr_eq(busy, socket));
        if good && !work.ended {
            work.idle.push(socket.clone());
        }
        !work.ended
    }
}

impl Drop for CompileTurn<'_> {
    fn drop(&mut self) {
        self.compiler.work().asking -= usize::from(self.counts);
        self.compiler.work.1.notify_one();
    }
}

fn exchange(
    socket: &OwnedFd,
    order: &CompileRequest,
    descriptor: BorrowedFd<'_>,
) -> Result<CompileReply, ProtocolError> {
    protocol::ask(socket, order, descriptor)?;
    protocol::receive_answer(socket)
}

fn connect_to(path: &Path, order: &CompileRequest) -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // It counts for connecting, too.
    set_timeout(&socket, order)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn set_timeout(socket: &OwnedFd, order: &CompileRequest) -> Result<(), Errno> {
    let wait_max = order.wall_clock_max().saturating_add(GRACE);
    set_socket_timeout(socket, Timeout::Send, Some(wait_max))?;
    set_socket_timeout(socket, Timeout::Recv, Some(wait_max))
}

/// Why the compiler refused a component, with what to do about it if that is known.
fn with_remedy(refused: String) -> String {
    match Proposal::of_instruction(&refused) {
        Some(proposal) => format!("{refused}; {}", proposal.remedy),
        None => refused,
    }
}

fn explain(error: ProtocolError, order: &CompileRequest, status: String) -> CompilerError {
    match error {
        ProtocolError::Receive(Errno::AGAIN) | ProtocolError::Send(Errno::AGAIN) => {
            CompilerError::Deadline(order.wall_clock_max())
        }
        source => CompilerError::Failed { status, source },
    }
}

fn is_closed(error: &ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::Ended | ProtocolError::Send(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
    )
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn ending() -> io::Error {
    io::Error::other("the daemon is ending")
}

fn end(mut child: Child) -> String {
    // It has answered, or will not: it ends by itself, or must be killed.
    child.kill().ok();
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}
