//! The daemon as it is shipped, run by a test.
#![expect(clippy::print_stderr, reason = "the log belongs to the output of the test that failed")]

use crate::{
    Connection, Log, PATIENCE, Tree, built, client::Response, eventually,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

/// A daemon that runs. Dropping it ends it, and shows its log if the test failed.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    /// What it says.
    pub log: Log,
}

/// A daemon that ended by itself.
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// What it said.
    pub log: Log,
}

/// Runs a program of plugind until it ends by itself.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn end_of(tree: &Tree, arguments: &[&str]) -> Ended {
    let mut daemon = spawn(tree, arguments);
    let log = Log::read(daemon.stderr.take().expect("it is piped"));
    let mut daemon = Daemon { child: daemon, address: SocketAddr::from(([0; 4], 0)), log };
    Ended { status: daemon.wait(), log: daemon.log.clone() }
}

fn spawn(tree: &Tree, arguments: &[&str]) -> Child {
    Command::new(built::program("plugind"))
        .args(["--listen", "http=127.0.0.1:0", "--root"])
        .arg(tree.root())
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("plugind can be run")
}

impl Daemon {
    /// Starts a daemon with the plugins of `tree`, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(tree: &Tree) -> Self {
        Self::start_with(tree, &[])
    }

    /// Starts a daemon with further arguments, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start_with(tree: &Tree, arguments: &[&str]) -> Self {
        let daemon = Self::begin(tree, arguments);
        daemon.wait_until_ready();
        daemon
    }

    /// Starts a daemon, and waits only until its socket is bound.
    ///
    /// # Panics
    /// When it does not even get there.
    #[must_use]
    pub fn begin(tree: &Tree, arguments: &[&str]) -> Self {
        let mut child = spawn(tree, arguments);
        let log = Log::read(child.stderr.take().expect("it is piped"));
        let mut daemon = Self { child, address: SocketAddr::from(([0; 4], 0)), log };
        let line = daemon.log.wait_for(&["info    plugind: listening ", "socket=http"]);
        let (_, address) = line.split_once("address=").expect("the line says where");
        daemon.address = address.parse().expect("the address is one");
        daemon
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn wait_until_ready(&self) {
        self.log.wait_for(&["info    plugind: ready plugins="]);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to it.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// Its answer to a GET request, on a connection of its own.
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    /// Has it read its directories anew, and returns the line that says what came of it.
    ///
    /// # Panics
    /// When it does not come to an end with that.
    #[must_use]
    pub fn reload(&self) -> String {
        let place = self.log.place();
        self.signal(Signal::HUP);
        self.log.wait_for_after(place, &["info    plugind: reloaded "])
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is not there any more.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the daemon is there");
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The most memory that it ever had, in bytes.
    ///
    /// # Panics
    /// When it is not there any more.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the daemon is there");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("Linux says so") << 10
    }

    /// Tells it to end, and returns its exit status.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end, and returns its exit status; that of one that was killed is negative.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let child = &mut self.child;
        let ended = || child.try_wait().expect("it is a child of this process");
        let status = eventually("the daemon's end", ended);
        self.log.wait_for_end();
        status.code().or_else(|| status.signal().map(|signal| -signal)).expect("it ended")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("the daemon's log (nothing was waited for longer than {PATIENCE:?}):");
            for line in self.log.all() {
                eprintln!("  {line:.400}");
            }
        }
    }
}
