//! Compiling and linking for a check. The daemon's program does it, since this one contains no runtime.

use crate::search_path::SearchPathArgs;
use plugind::{
    base::{interrupt::Interrupt, quantity::Bytes},
    check::LinkFailure,
    systemd::directories::Environment,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// `plugind --check`, run once for each part of the configuration.
pub(crate) struct LinkChecker {
    program: PathBuf,
    options: Vec<OsString>,
    running: Arc<Mutex<LinkProcess>>,
    interrupt: Interrupt,
}

#[derive(Default)]
struct LinkProcess {
    /// The process of `plugind --check`, until it is waited for.
    process: Option<Pid>,
    /// No other may be started.
    ended: bool,
}

impl LinkChecker {
    /// Catches signals from here on, and passes the first on to the program.
    pub(crate) fn new(tree: &SearchPathArgs, compiler: Option<&Path>) -> Result<Self, String> {
        let program = Environment::read().daemon();
        if !program.exists() {
            return Err(format!("{} must exist to compile and link", program.display()));
        }
        let running = Arc::<Mutex<LinkProcess>>::default();
        let to_end = running.clone();
        let interrupt = Interrupt::watch(move || {
            let mut running = lock(&to_end);
            running.ended = true;
            if let Some(process) = running.process {
                // It has ended by itself if this fails.
                kill_process(process, Signal::TERM).ok();
            }
        });
        let interrupt = interrupt.map_err(|error| format!("cannot wait for signals: {error}"))?;
        let mut options = Vec::new();
        options.extend(tree.is_of_user().then(|| OsString::from("--user")));
        for (option, value) in [("--root", tree.root()), ("--compiler", compiler)] {
            options.extend(value.map(|value| with_value(option, value)));
        }
        Ok(Self { program, options, running, interrupt })
    }

    /// The same, but the compiled files stay in this directory.
    pub(crate) fn keeping(mut self, cache: &Path) -> Self {
        self.options.push(with_value("--cache", cache));
        self
    }

    /// The same, but a compilation may use this much memory, also if the settings allow more.
    pub(crate) fn with_memory_max(mut self, max: Bytes) -> Self {
        self.options.push(with_value("--compile-memory-max", Path::new(&max.to_string())));
        self
    }

    /// Compiles and links all plugins, or those in one directory.
    pub(crate) fn check_plugins(
        &self,
        directory: Option<&Path>,
    ) -> Result<Vec<LinkFailure>, String> {
        let only = directory.map(|directory| with_value("--plugins", directory));
        self.run([OsString::from("--check")].into_iter().chain(only).collect())
    }

    /// Compiles and links one component.
    pub(crate) fn check_component(&self, component: &Path) -> Result<Vec<LinkFailure>, String> {
        self.run(vec![with_value("--check", component)])
    }

    /// The number of the signal that ended the check, if one did.
    pub(crate) fn interrupted(&self) -> Option<u8> {
        self.interrupt.received()
    }

    fn run(&self, arguments: Vec<OsString>) -> Result<Vec<LinkFailure>, String> {
        let failed = |error| format!("cannot run {}: {error}", self.program.display());
        let mut child = self.start(&arguments).map_err(failed)?;
        let read = output(&mut child);
        // Only now may the process be waited for: nobody sends a signal to its number any more.
        lock(&self.running).process = None;
        let status = child.wait().map_err(failed)?;
        let (printed, complaint) = read.map_err(failed)?;
        serde_json::from_slice(&printed).map_err(|_| match complaint.trim() {
            "" => format!("{} failed ({status})", self.program.display()),
            complaint => complaint.to_owned(),
        })
    }

    fn start(&self, arguments: &[OsString]) -> std::io::Result<Child> {
        let mut running = lock(&self.running);
        if running.ended {
            return Err(std::io::Error::other("interrupted"));
        }
        let child = Command::new(&self.program)
            .args(&self.options)
            .args(arguments)
            // A terminal sends its signals to a whole group, and the program is sent one from here.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        running.process = Some(Pid::from_child(&child));
        Ok(child)
    }
}

/// All that the program prints. Its errors are short, so that they fit into the pipe until they are read.
fn output(child: &mut Child) -> std::io::Result<(Vec<u8>, String)> {
    let (mut printed, mut complaint) = (Vec::new(), Vec::new());
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut printed)?;
    }
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_end(&mut complaint)?;
    }
    Ok((printed, String::from_utf8_lossy(&complaint).into_owned()))
}

fn lock(running: &Mutex<LinkProcess>) -> MutexGuard<'_, LinkProcess> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_value(option: &str, value: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push("=");
    argument.push(value);
    argument
}
