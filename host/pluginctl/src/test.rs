//! `pluginctl test`: serves a project, and compares what it answers and logs with its `test.toml`.

mod cases;
mod exchange;
mod steps;

use crate::{
    print::{complain, line, print},
    problem::{INTERRUPTED, Problem},
    project::{FILE, Project, ProjectError},
    run::{
        daemon::{DaemonProcess, DaemonProcessError, RunEvent},
        daemon_log::{DaemonLog, LogUse},
        inputs::InputArgs,
        served::{ServedDirectory, ServedError, Target},
        sockets::{PluginSocket, SocketTransport},
    },
};
use cases::{CasesError, TestAction, TestCase, TestRequest, TestsFile};
use clap::Args;
use exchange::{AnswerLimit, ExchangeError};
use plugind::{
    base::{interrupt::Interrupt, name::SocketName, text::Escaped},
    route::owners::Route,
};
use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};
use steps::TestedPlugin;

/// Interval at which it is checked whether the daemon has ended.
const LOOK: Duration = Duration::from_millis(200);
/// The lines of the log that are shown if a test failed.
const LINES_SHOWN: usize = 100;

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Test the project in this directory (default: the current directory)
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    directory: PathBuf,
    /// Use this program as the compiler (default: plugind-compile)
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
}

/// Why nothing is tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    #[error("there is no {}; `pluginctl new` makes a project that has one", .0.join(FILE).display())]
    NoProject(PathBuf),
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Cases(#[from] CasesError),
    #[error(transparent)]
    Served(#[from] ServedError),
    #[error(transparent)]
    Daemon(#[from] DaemonProcessError),
    #[error("cannot find a free port: {0}")]
    Port(io::Error),
    #[error("the plugin did not become ready; its log is above")]
    NotReady,
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("interrupted")]
    Interrupted { signal: u8 },
}

impl TestError {
    /// All mistakes that it consists of, one a line.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Project(error) => error.lines(),
            Self::Served(error) => error.lines(),
            Self::Cases(CasesError::Mistakes(mistakes)) => mistakes.clone(),
            other => vec![other.to_string()],
        }
    }
}

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
enum Mismatch {
    #[error("the status is {found}, expected {expected}")]
    Status { found: u16, expected: u32 },
    #[error("the header field {name} is {found:?}, expected {expected:?}")]
    Header { name: String, found: Option<String>, expected: String },
    #[error("received {found:?}, expected {expected:?}")]
    Received { found: String, expected: String },
    #[error("received {found:?}, expected a text that contains {expected:?}")]
    Contained { found: String, expected: String },
    #[error("no line of the log contains {0:?}")]
    Log(String),
    #[error(
        "the plugin has no route over HTTP, which path and websocket need; write connection, datagram or log"
    )]
    NoRoute,
    #[error(
        "the plugin serves no socket {0} of this kind: connection needs a TCP socket, datagram a UDP socket"
    )]
    NoSocket(SocketName),
    #[error("the clock cannot be moved: {0}")]
    Clock(Problem),
    #[error("{0}")]
    Step(Problem),
    #[error("the state is unknown: {0}")]
    Unknown(Problem),
    #[error("the state is {found}, expected {expected}")]
    State { found: String, expected: String },
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

/// A plugin that is served for tests.
struct ServedPlugin {
    plugin: TestedPlugin,
    log: DaemonLog,
    http: SocketAddr,
    /// The first route over HTTP.
    prefix: Option<String>,
    sockets: Vec<PluginSocket>,
}

impl TestArgs {
    /// Builds, serves and tests.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        match self.test() {
            Err(TestError::Interrupted { signal }) => {
                complain("interrupted");
                Ok(ExitCode::from(INTERRUPTED + signal))
            }
            tested => tested.map_err(|error| Problem::Mistakes(error.lines())),
        }
    }

    fn test(&self) -> Result<ExitCode, TestError> {
        let project = Project::find(&self.directory)?;
        let project = project.ok_or_else(|| TestError::NoProject(self.directory.clone()))?;
        let TestsFile { cases, config, credentials } = cases::read(&self.directory)?;
        let inputs = self.inputs.for_test(config, credentials).map_err(ServedError::from)?;
        let name = project.name.clone();
        let directory = ServedDirectory::new(Target::Project(project), inputs)?;
        directory.check_files()?;
        if let Some(project) = directory.project().filter(|project| project.build.is_some()) {
            project.build()?;
        }
        directory.fill()?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(TestError::Port)?;
        let checked = directory.checked();
        directory.check_inputs(&checked)?;
        let sockets = PluginSocket::all(&checked, http.ip()).map_err(TestError::Port)?;
        let mut options: Vec<OsString> = vec!["--listen".into(), format!("http={http}").into()];
        options.extend(sockets.iter().flat_map(PluginSocket::options));
        if let Some(compiler) = &self.compiler {
            options.extend(["--compiler".into(), compiler.into()]);
        }
        // A test may expect a log entry of any priority.
        options.extend(["--log".into(), "debug".into()]);
        if cases.iter().any(|case| case.advance_clock.is_some()) {
            options.push("--movable-clock".into());
        }
        let (sender, events) = channel();
        let to_end = sender.clone();
        let interrupt = Interrupt::watch(move || drop(to_end.send(RunEvent::Interrupted)));
        let interrupt = interrupt.map_err(TestError::Signals)?;
        let log = DaemonLog::new(LogUse::Kept, directory.source_paths());
        let mut daemon = DaemonProcess::new(&directory, log.clone(), sender)?;
        daemon.start(&options)?;
        let routes = checked.iter().flat_map(|plugin| &plugin.routes);
        let prefix = routes.filter_map(|(route, _)| match route {
            Route::Http(route) => Some(route.prefix.clone()),
            Route::Socket(_) => None,
        });
        let (control, plugins) = (directory.socket("control"), directory.plugins());
        let plugin = TestedPlugin { name, control, plugins };
        let served = ServedPlugin { plugin, log, http, prefix: prefix.into_iter().next(), sockets };
        let is_ready = is_ready(&mut daemon, &events)?;
        let failed = if is_ready { served.run_all(&cases, &interrupt) } else { 0 };
        // The entries about a failed test may come after its response; a daemon that has exited has written all.
        daemon.stop()?;
        if let Some(signal) = interrupt.received() {
            return Err(TestError::Interrupted { signal });
        }
        if !is_ready {
            served.show_log();
            return Err(TestError::NotReady);
        }
        if failed > 0 {
            served.show_log();
        }
        print(&line(&format!("{} passed, {failed} failed", cases.len() - failed))).ok();
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Waits until the daemon is ready. False: it has ended, or a signal was received.
fn is_ready(
    daemon: &mut DaemonProcess,
    events: &Receiver<RunEvent>,
) -> Result<bool, DaemonProcessError> {
    loop {
        match events.recv_timeout(LOOK) {
            Ok(RunEvent::Ready) => return Ok(true),
            Ok(RunEvent::Status(_)) => (),
            Ok(RunEvent::Interrupted) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) if daemon.has_ended()?.is_some() => return Ok(false),
            Err(RecvTimeoutError::Timeout) => (),
        }
    }
}

impl ServedPlugin {
    /// Runs all tests until a signal, prints the outcome of each, and returns how many failed.
    fn run_all(&self, cases: &[TestCase], interrupt: &Interrupt) -> usize {
        let mut failed = 0;
        let is_interrupted = || interrupt.received().is_some();
        for case in cases.iter().take_while(|_| !is_interrupted()) {
            let shown = match self.run(case, &is_interrupted) {
                Err(Mismatch::Exchange(ExchangeError::Interrupted)) => break,
                Ok(()) => line(&format!("ok: {}", case.name)),
                Err(mismatch) => {
                    failed += 1;
                    line(&format!("FAILED: {}: {mismatch}", case.name))
                }
            };
            print(&shown).ok();
        }
        failed
    }

    fn run(&self, case: &TestCase, is_interrupted: &dyn Fn() -> bool) -> Result<(), Mismatch> {
        if let Some(time) = case.advance_clock {
            self.plugin.advance_clock(time).map_err(Mismatch::Clock)?;
        }
        if let Some(step) = &case.step {
            self.plugin.run(step).map_err(Mismatch::Step)?;
        }
        let limit = AnswerLimit::new(is_interrupted);
        let received = match &case.action {
            TestAction::Request(request) => self.request(request, &case.send, &limit)?,
            TestAction::WebSocket(path) => {
                exchange::websocket(self.http, self.prefix()?, path, &case.send, &limit)?
            }
            TestAction::Connection(name) => {
                exchange::connection(self.socket(name, SocketTransport::Tcp)?, &case.send, &limit)?
            }
            TestAction::Datagram(name) => {
                exchange::datagram(self.socket(name, SocketTransport::Udp)?, &case.send, &limit)?
            }
            TestAction::Nothing => Vec::new(),
        };
        let found = String::from_utf8_lossy(&received).into_owned();
        if let Some(expected) = case.receive.clone().filter(|expected| *expected != found) {
            return Err(Mismatch::Received { found, expected });
        }
        if let Some(expected) = case.contains.iter().find(|part| !found.contains(*part)) {
            return Err(Mismatch::Contained { found, expected: expected.clone() });
        }
        if let Some(expected) = &case.state
            && let Some(found) = self.plugin.other_state(expected).map_err(Mismatch::Unknown)?
        {
            return Err(Mismatch::State { found, expected: expected.clone() });
        }
        match case.log.iter().find(|text| !self.log.has(text)) {
            Some(missing) => Err(Mismatch::Log(missing.clone())),
            None => Ok(()),
        }
    }

    fn request(
        &self,
        request: &TestRequest,
        body: &str,
        limit: &AnswerLimit<'_>,
    ) -> Result<Vec<u8>, Mismatch> {
        let response = exchange::request(self.http, self.prefix()?, request, body, limit)?;
        if u32::from(response.status) != request.status {
            return Err(Mismatch::Status { found: response.status, expected: request.status });
        }
        for (name, expected) in &request.response_headers {
            let found = response.headers.get(name);
            let found = found.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if found.as_ref() != Some(expected) {
                let (name, expected) = (name.clone(), expected.clone());
                return Err(Mismatch::Header { name, found, expected });
            }
        }
        Ok(response.body)
    }

    fn prefix(&self) -> Result<&str, Mismatch> {
        self.prefix.as_deref().ok_or(Mismatch::NoRoute)
    }

    fn socket(
        &self,
        name: &SocketName,
        transport: SocketTransport,
    ) -> Result<SocketAddr, Mismatch> {
        let mut sockets = self.sockets.iter();
        let socket = sockets.find(|socket| socket.name == *name && socket.transport == transport);
        socket.map(|socket| socket.address).ok_or_else(|| Mismatch::NoSocket(name.clone()))
    }

    fn show_log(&self) {
        let lines = self.log.all();
        let shown = lines.len().saturating_sub(LINES_SHOWN);
        for logged in &lines[shown..] {
            complain(&Escaped(logged).to_string());
        }
    }
}
