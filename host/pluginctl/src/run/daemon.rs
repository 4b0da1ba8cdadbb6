//! The daemon as a child process, which reports by the socket of sd_notify(3) and is asked by its control socket.

use crate::{
    client::ControlAddress,
    print::complain,
    problem::{Problem, unless_interrupted, wait_for},
    reload::ReloadArgs,
    run::{daemon_log::DaemonLog, served::ServedDirectory, source_paths::SourcePaths},
};
use plugind::systemd::directories::Environment;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    io,
    os::unix::{net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::Sender,
    thread,
};

/// The longest notification that is read.
const NOTICE_MAX: usize = 8 << 10;

/// An event while a plugin is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunEvent {
    /// The daemon is ready.
    Ready,
    /// The status of the daemon: one line.
    Status(String),
    /// A signal asks for the end.
    Interrupted,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonProcessError {
    #[error(
        "there is no plugind beside pluginctl or in PATH; install it, or add its directory to PATH"
    )]
    Missing,
    #[error("cannot run {}: {source}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("cannot listen for the daemon's notifications: {0}")]
    Notify(io::Error),
    #[error("cannot wait for the daemon: {0}")]
    Wait(io::Error),
}

/// The daemon, or the place for the next one.
pub(crate) struct DaemonProcess {
    program: PathBuf,
    options: Vec<OsString>,
    notify: PathBuf,
    control: PathBuf,
    child: Option<Child>,
    ready: bool,
    shown: String,
    log: DaemonLog,
    paths: SourcePaths,
}

impl DaemonProcess {
    /// Prepares to start it.
    pub(crate) fn new(
        served: &ServedDirectory,
        log: DaemonLog,
        events: Sender<RunEvent>,
    ) -> Result<Self, DaemonProcessError> {
        let (notify, control) = (served.socket("notify"), served.socket("control"));
        let socket = UnixDatagram::bind(&notify).map_err(DaemonProcessError::Notify)?;
        let thread = thread::Builder::new().name("notify".to_owned());
        thread.spawn(move || pass_on(&socket, &events)).map_err(DaemonProcessError::Notify)?;
        let mut all: Vec<OsString> = Vec::new();
        for (option, value) in [("--root", served.root()), ("--plugins", served.plugins())] {
            all.extend([option.into(), value.into()]);
        }
        let mut listen_control = OsString::from("control=");
        listen_control.push(&control);
        all.extend(["--listen".into(), listen_control]);
        let (program, paths) = (program()?, served.source_paths());
        let (child, ready, shown) = (None, false, String::new());
        Ok(Self { program, options: all, notify, control, child, ready, shown, log, paths })
    }

    /// Starts it, with these options beside its own.
    pub(crate) fn start(&mut self, options: &[OsString]) -> Result<(), DaemonProcessError> {
        self.ready = false;
        self.shown.clear();
        let mut command = Command::new(&self.program);
        command
            .args(&self.options)
            .args(options)
            .env("NOTIFY_SOCKET", &self.notify)
            // A terminal sends its signals to a whole group, and the daemon gets one from here.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        for of_a_service in
            ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM", "WATCHDOG_USEC"]
        {
            command.env_remove(of_a_service);
        }
        let failed = |source| DaemonProcessError::Run { program: self.program.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(source) = child.stderr.take() {
            self.log.read(source);
        }
        self.child = Some(child);
        Ok(())
    }

    /// Whether this is the first time that it is ready since its start.
    pub(crate) fn is_first_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.ready, true)
    }

    /// Prints what it does while it starts, once.
    pub(crate) fn show(&mut self, status: &str) {
        if !self.ready && self.shown != status {
            complain(&self.paths.in_text(status));
            status.clone_into(&mut self.shown);
        }
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its exit status, once, if it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitCode>, DaemonProcessError> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait().map_err(DaemonProcessError::Wait)? else {
            return Ok(None);
        };
        self.child = None;
        self.log.wait_for_end();
        Ok(Some(exit_code(status)))
    }

    /// Requests a reload, and prints the progress. A failure is printed, too: the previous version serves.
    pub(crate) fn reload(&self) {
        let control = ControlAddress::of(self.control.clone());
        let reload = ReloadArgs::until_swapped(control, self.paths.clone());
        match wait_for(unless_interrupted(reload.follow())) {
            Ok(_) | Err(Problem::Interrupted { .. }) => (),
            Err(problem) => complain(&self.paths.in_text(&problem.to_string())),
        }
    }

    /// Ends it, and waits until it has finished its requests and its log is read.
    pub(crate) fn stop(&mut self) -> Result<(), DaemonProcessError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // It has ended by itself if this fails.
        kill_process(Pid::from_child(&child), Signal::TERM).ok();
        child.wait().map_err(DaemonProcessError::Wait)?;
        self.log.wait_for_end();
        Ok(())
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        // Where this command fails, nothing of it must stay.
        self.stop().ok();
    }
}

/// Passes on what the daemon reports, until nobody listens.
fn pass_on(socket: &UnixDatagram, events: &Sender<RunEvent>) {
    let mut notice = vec![0; NOTICE_MAX];
    while let Ok(length) = socket.recv(&mut notice) {
        let text = String::from_utf8_lossy(&notice[..length]);
        if read_notice(&text).into_iter().any(|event| events.send(event).is_err()) {
            return;
        }
    }
}

/// Returns the events in a notification.
fn read_notice(text: &str) -> Vec<RunEvent> {
    let event = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(RunEvent::Ready),
        ("STATUS", status) => Some(RunEvent::Status(status.to_owned())),
        _ => None,
    };
    text.lines().filter_map(event).collect()
}

/// The daemon's program: beside this one, or in PATH.
fn program() -> Result<PathBuf, DaemonProcessError> {
    let beside = Environment::read().daemon();
    if beside.exists() {
        return Ok(beside);
    }
    #[expect(clippy::disallowed_methods, reason = "only a command of the author's looks there")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join("plugind"));
    candidates.find(|candidate| is_program(candidate)).ok_or(DaemonProcessError::Missing)
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_and_status_of_a_notification_count() {
        let status = RunEvent::Status("1 plugin".to_owned());
        assert_eq!(read_notice("READY=1\nSTATUS=1 plugin\n"), [RunEvent::Ready, status]);
        assert_eq!(read_notice("WATCHDOG=1\nREADY=0\nFDNAME=x\n\n"), []);
    }
}
