//! `pluginctl run`: serves a plugin in this terminal, without systemd and without any set-up.

pub(crate) mod captured_log;
mod changes;
pub(crate) mod daemon;
pub(crate) mod served;
pub(crate) mod sockets;

use crate::{
    print::{complain, line, print},
    problem::Problem,
    project::{Project, ProjectError},
    run::{
        changes::Changes,
        daemon::{DaemonProcess, DaemonProcessError, RunEvent},
        served::{ServedDirectory, ServedError, Target},
        sockets::PluginSocket,
    },
};
use clap::Args;
use plugind::{base::interrupt::Interrupt, base::priority::Priority, cli::priorities};
use std::{
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

impl RunArgs {
    /// Serves until a signal, or until the daemon ends by itself.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        self.serve().map_err(Problem::failed)
    }

    fn serve(&self) -> Result<ExitCode, RunError> {
        let target = Target::find(&self.path)?;
        if let Err(error) = target.project().map_or(Ok(()), build) {
            if !self.watch {
                return Err(error.into());
            }
            complain(&error.to_string());
        }
        let served = ServedDirectory::new(target)?;
        let address = self.address()?;
        let (sender, events) = channel();
        let to_end = sender.clone();
        let interrupt = Interrupt::watch(move || drop(to_end.send(RunEvent::Interrupted)));
        let _interrupt = interrupt.map_err(RunError::Signals)?;
        let sockets = PluginSocket::all(&served.checked(), address.ip());
        let sockets = sockets.map_err(|source| RunError::Listen { address, source })?;
        let options = self.options(address, &sockets);
        let mut daemon = DaemonProcess::new(&served, options, sender)?;
        let mut changes = Changes::of(served.look());
        daemon.start()?;
        loop {
            match next(&events) {
                Some(RunEvent::Ready) if daemon.is_first_ready() => {
                    show_urls(&served, address, &sockets);
                }
                Some(RunEvent::Ready) => (),
                Some(RunEvent::Status(status)) => daemon.show(&status),
                Some(RunEvent::Interrupted) => {
                    daemon.stop()?;
                    return Ok(ExitCode::SUCCESS);
                }
                None => {
                    if let Some(status) = daemon.has_ended()? {
                        if !self.watch {
                            return Ok(status);
                        }
                        complain("plugind has ended; waiting for a change");
                    }
                    if self.watch
                        && changes.observe(served.look())
                        && let Err(error) = renew(&served, &mut daemon, &mut changes)
                    {
                        complain(&error.to_string());
                    }
                }
            }
        }
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
        bound
            .and_then(|listener| listener.local_addr())
            .map_err(|source| RunError::Listen { address: wanted, source })
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

fn build(project: &Project) -> Result<(), ProjectError> {
    if project.build.is_none() {
        return Ok(());
    }
    complain(&format!("building {}", project.name));
    project.build()
}

/// Builds, and has the daemon take over what changed. A file that changes meanwhile is found at the next look.
fn renew(
    served: &ServedDirectory,
    daemon: &mut DaemonProcess,
    changes: &mut Changes,
) -> Result<(), RunError> {
    if let Some(project) = served.project() {
        let built = build(project);
        changes.built(served.look());
        built?;
    }
    served.fill()?;
    match daemon.is_running() {
        true => daemon.reload(),
        false => daemon.start()?,
    }
    Ok(())
}

/// Prints the URLs of the plugins. They are served even if this fails.
fn show_urls(served: &ServedDirectory, address: SocketAddr, sockets: &[PluginSocket]) {
    let lines: String = served.urls(address, sockets).iter().map(|url| line(url)).collect();
    print(&lines).ok();
}
