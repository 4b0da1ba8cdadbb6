//! The daemon as it is shipped, run by a test.
#![expect(clippy::print_stderr, reason = "the log belongs to the output of the test that failed")]

use crate::{Connection, Log, Tree, built, client::Response, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

/// Lines of the log that are shown of a test that failed.
const SHOWN: usize = 100;

/// A daemon that runs. Dropping it ends it, and shows its log if the test failed.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    tree: Tree,
    /// Its log.
    pub log: Log,
}

/// A daemon that ended by itself.
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// Its log.
    pub log: Log,
}

/// Runs a daemon that ends by itself.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn end_of(tree: &Tree, arguments: &[&str]) -> Ended {
    let mut daemon = Daemon::launch(tree, arguments);
    Ended { status: daemon.wait(), log: daemon.log.clone() }
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
        let mut daemon = Self::launch(tree, arguments);
        daemon.learn_address();
        daemon
    }

    fn learn_address(&mut self) {
        let line = self.log.wait_for(&["info    plugind: listening ", "socket=http"]);
        let (_, address) = line.split_once("address=").expect("the line says where");
        self.address = address.parse().expect("the address is one");
    }

    /// Starts a daemon, and waits for nothing: where it listens is not known.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn launch(tree: &Tree, arguments: &[&str]) -> Self {
        Self::run(tree, Command::new(built::program("plugind")).args(arguments))
    }

    /// Starts a daemon that may use only this much address space, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start_within(tree: &Tree, bytes: u64) -> Self {
        let limited = format!("ulimit -v {} && exec \"$0\" \"$@\"", bytes >> 10);
        let mut command = Command::new("/bin/sh");
        let mut daemon =
            Self::run(tree, command.args(["-c", &limited]).arg(built::program("plugind")));
        daemon.learn_address();
        daemon.wait_until_ready();
        daemon
    }

    /// Starts a daemon by another program, which is given the command to run behind `wrapper`, and waits until it is
    /// ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start_by(tree: &Tree, wrapper: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        let mut daemon =
            Self::run(tree, command.args(&wrapper[1..]).arg(built::program("plugind")));
        daemon.learn_address();
        daemon.wait_until_ready();
        daemon
    }

    fn run(tree: &Tree, command: &mut Command) -> Self {
        let mut child = command
            .args(["--listen", "http=127.0.0.1:0", "--root"])
            .arg(tree.root())
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("plugind can be run");
        let log = Log::read(child.stderr.take().expect("it is piped"));
        // It logs its address when it listens.
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, address, tree: tree.clone(), log }
    }

    /// The tree that it runs on.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
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

    /// Has it read its directories again, and waits for the log line with the outcome.
    ///
    /// # Panics
    /// When it does not come to an end with that.
    pub fn reload(&self) -> String {
        let place = self.log.place();
        self.signal(Signal::HUP);
        // One that has not come to its end yet is waited for.
        self.log.wait_for_in_order(
            place,
            &[&["plugind: reload started"], &["plugind: reload finished "]],
        )
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
        self.status_bytes("VmHWM:")
    }

    /// The memory that it has, in bytes.
    ///
    /// # Panics
    /// When it is not there any more.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Its proportional share of the memory that it has, in bytes.
    ///
    /// # Panics
    /// When it is not there any more.
    #[must_use]
    pub fn proportional_memory(&self) -> u64 {
        self.bytes_of("smaps_rollup", "Pss:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        self.bytes_of("status", field)
    }

    fn bytes_of(&self, file: &str, field: &str) -> u64 {
        let path = format!("/proc/{}/{file}", self.pid());
        let status = std::fs::read_to_string(path).expect("the daemon is there");
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("Linux says so") << 10
    }

    /// Stops it, and returns its exit status.
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
            eprintln!("the end of the daemon's log:");
            let lines = self.log.all();
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                eprintln!("  {line:.400}");
            }
        }
    }
}
