//! `pluginctl run`: serves a plugin in this terminal, without systemd and without any set-up.

mod changes;
pub(crate) mod daemon;
pub(crate) mod daemon_log;
pub(crate) mod inputs;
pub(crate) mod served;
pub(crate) mod sockets;
pub(crate) mod source_paths;

use crate::{
    print::{complain, line, print},
    problem::Problem,
    project::ProjectError,
    run::{
        changes::Changes,
        daemon::{DaemonProcess, DaemonProcessError, RunEvent},
        daemon_log::{DaemonLog, LogUse},
        inputs::InputArgs,
        served::{ServedDirectory, ServedError, Target},
        sockets::PluginSocket,
    },
};
use clap::Args;
use plugind::{
    base::{interrupt::Interrupt, priority::Priority},
    check::Checked,
    cli::priorities,
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

/// The default address.
const ADDRESS: &str = "127.0.0.1:8080";
/// Interval at which files are checked. A change counts when two checks find the same.
const LOOK: Duration = Duration::from_millis(200);
/// The files that are shown by their names if a message is about many.
const NAMES_SHOWN: usize = 3;

/// The subject of the run, and its options.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// Serve this component, project or directory of plugins (default: the current directory)
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    path: PathBuf,
    /// Build and reload whenever a file changes
    #[arg(long)]
    watch: bool,
    /// Serve HTTP on this address (default: 127.0.0.1:8080, or a free port if that is in use)
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Use this program as the compiler (default: plugind-compile)
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// Discard log entries that are less important than this priority (default: info)
    #[arg(long, value_name = "PRIORITY", value_parser = priorities())]
    log: Option<Priority>,
    #[command(flatten)]
    inputs: InputArgs,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Served(#[from] ServedError),
    #[error(transparent)]
    Daemon(#[from] DaemonProcessError),
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

impl RunError {
    /// All mistakes that it consists of, one a line.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Project(error) => error.lines(),
            Self::Served(error) => error.lines(),
            other => vec![other.to_string()],
        }
    }
}

/// A plugin that is served, and served again when it has changed.
struct Run<'a> {
    arguments: &'a RunArgs,
    served: ServedDirectory,
    daemon: DaemonProcess,
    changes: Changes,
    address: SocketAddr,
    /// The sockets that the daemon opened when it started.
    sockets: Vec<PluginSocket>,
    /// The last build succeeded.
    built: bool,
    /// The daemon must be started again to notice a change.
    outdated: bool,
}

impl RunArgs {
    /// Serves until a signal, or until the daemon ends by itself.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        self.serve().map_err(|error| Problem::Mistakes(error.lines()))
    }

    fn serve(&self) -> Result<ExitCode, RunError> {
        let target = Target::find(&self.path)?;
        target.note_other_name();
        let inputs = self.inputs.for_run(self.watch).map_err(ServedError::from)?;
        let served = ServedDirectory::new(target, inputs)?;
        let address = self.address()?;
        let (sender, events) = channel();
        let to_end = sender.clone();
        let interrupt = Interrupt::watch(move || drop(to_end.send(RunEvent::Interrupted)));
        let _interrupt = interrupt.map_err(RunError::Signals)?;
        let log = DaemonLog::new(LogUse::Shown, served.source_paths());
        let daemon = DaemonProcess::new(&served, log, sender)?;
        let changes = Changes::of(served.look());
        let sockets = Vec::new();
        let (arguments, built, outdated) = (self, false, false);
        let run = Run { arguments, served, daemon, changes, address, sockets, built, outdated };
        run.serve(&events)
    }

    fn options(&self, address: SocketAddr, sockets: &[PluginSocket]) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["--listen".into(), format!("http={address}").into()];
        options.extend(sockets.iter().flat_map(PluginSocket::options));
        if let Some(compiler) = &self.compiler {
            options.extend(["--compiler".into(), compiler.into()]);
        }
        if let Some(priority) = self.log {
            options.extend(["--log".into(), priority.name().into()]);
        }
        options
    }

    fn address(&self) -> Result<SocketAddr, RunError> {
        let wanted = self.listen.unwrap_or_else(|| ADDRESS.parse().expect("it is an address"));
        let bound = TcpListener::bind(wanted).or_else(|error| match self.listen {
            None => TcpListener::bind(SocketAddr::new(wanted.ip(), 0)),
            Some(_) => Err(error),
        });
        // The daemon opens it again: the port is free, and Linux gives it to nobody else at once.
        let address = bound
            .and_then(|listener| listener.local_addr())
            .map_err(|source| RunError::Listen { address: wanted, source })?;
        if self.listen.is_none() && address != wanted {
            complain(&format!("{wanted} is in use; using {address}"));
        }
        Ok(address)
    }
}

/// The names of some files, of which only the first are shown.
fn listed(paths: &BTreeSet<PathBuf>) -> String {
    let shown = paths.iter().take(NAMES_SHOWN).map(|path| path.display().to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        others => format!("{shown} and {others} others"),
    }
}

/// The next event; none: it is time to look at the files and at the daemon.
fn next(events: &Receiver<RunEvent>) -> Option<RunEvent> {
    match events.recv_timeout(LOOK) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(RunEvent::Interrupted),
    }
}

impl Run<'_> {
    fn serve(mut self, events: &Receiver<RunEvent>) -> Result<ExitCode, RunError> {
        let prepared = self.prepare(&BTreeSet::new()).and_then(|()| self.start());
        if let Err(error) = prepared {
            if !self.arguments.watch {
                return Err(error);
            }
            self.report(&error);
        }
        loop {
            match next(events) {
                Some(RunEvent::Ready) if self.daemon.is_first_ready() => {
                    show_urls(&self.served, self.address, &self.sockets);
                }
                Some(RunEvent::Ready) => (),
                Some(RunEvent::Status(status)) => self.daemon.show(&status),
                Some(RunEvent::Interrupted) => {
                    self.daemon.stop()?;
                    return Ok(ExitCode::SUCCESS);
                }
                None => {
                    if let Some(status) = self.look()? {
                        return Ok(status);
                    }
                }
            }
        }
    }

    /// Looks at the daemon and, with `--watch`, at the files. The status: nothing is served any more.
    fn look(&mut self) -> Result<Option<ExitCode>, RunError> {
        if let Some(status) = self.daemon.has_ended()? {
            if !self.arguments.watch {
                return Ok(Some(status));
            }
            complain("plugind has ended; waiting for a change");
        }
        if !self.arguments.watch {
            return Ok(None);
        }
        let changed = self.changes.observe(self.served.look());
        if !changed.is_empty()
            && let Err(error) = self.renew(&changed)
        {
            self.report(&error);
        }
        Ok(None)
    }

    /// Builds if sources changed, and has the daemon serve the result.
    fn renew(&mut self, changed: &BTreeSet<PathBuf>) -> Result<(), RunError> {
        self.outdated |= self.served.need_restart(changed);
        self.prepare(changed)?;
        if !self.daemon.is_running() {
            return self.start();
        }
        let checked = self.fill()?;
        if self.outdated {
            complain("the settings have changed; restarting plugind");
            self.daemon.stop()?;
            return self.launch(&checked);
        }
        self.daemon.reload();
        Ok(())
    }

    /// Checks the settings and the manifest, and builds a project. A file that changes meanwhile is found at the next look.
    fn prepare(&mut self, changed: &BTreeSet<PathBuf>) -> Result<(), RunError> {
        // A build that is needed now stays necessary, also if the files have a mistake that is corrected later.
        self.built &= !self.served.need_build(changed);
        let checked = self.served.check_files();
        let project = self.served.project().filter(|project| project.build.is_some());
        let Some(project) = project.filter(|_| checked.is_ok() && !self.built) else {
            self.changes.not_built();
            return Ok(checked?);
        };
        complain(&format!("building {}", project.name));
        let built = project.build();
        let unclear = self.changes.built(self.served.look());
        if !unclear.is_empty() {
            complain(&format!(
                "{} changed during two builds in a row; save again if you changed them",
                listed(&unclear)
            ));
        }
        self.built = built.is_ok();
        Ok(built?)
    }

    fn start(&mut self) -> Result<(), RunError> {
        let checked = self.fill()?;
        self.launch(&checked)
    }

    /// Copies the files, and checks the plugins among them.
    fn fill(&self) -> Result<Vec<Checked>, RunError> {
        self.served.fill()?;
        let checked = self.served.checked();
        self.served.check_inputs(&checked)?;
        Ok(checked)
    }

    fn launch(&mut self, checked: &[Checked]) -> Result<(), RunError> {
        let address = self.address;
        let sockets = PluginSocket::all(checked, address.ip());
        self.sockets = sockets.map_err(|source| RunError::Listen { address, source })?;
        self.outdated = false;
        Ok(self.daemon.start(&self.arguments.options(address, &self.sockets))?)
    }

    fn report(&self, error: &RunError) {
        for line in error.lines() {
            complain(&line);
        }
        if !self.daemon.is_running() {
            complain("nothing is served; waiting for a change");
        }
    }
}

/// Prints the URLs of the plugins. They are served even if this fails.
fn show_urls(served: &ServedDirectory, address: SocketAddr, sockets: &[PluginSocket]) {
    let lines: String = served.urls(address, sockets).iter().map(|url| line(url)).collect();
    print(&lines).ok();
}
