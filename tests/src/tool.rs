//! Programs of others, as Debian has them: clients, and servers in front of the daemon.

use crate::{eventually, wait_max};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

/// A program that the tests need, which `make setup-e2e` installs.
#[must_use]
pub fn tool(name: &str) -> Command {
    // Servers are not in the path of ordinary users.
    let mut command = Command::new(name);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns what it wrote to both of its outputs.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn run(command: &mut Command) -> String {
    let ran = command.output();
    let ran = ran.unwrap_or_else(|error| panic!("{command:?}: {error}; run `make setup-e2e`"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&ran.stdout) + &text(&ran.stderr)
}

/// A server of others, which ends when this is dropped.
pub struct Background {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Background {
    /// Starts a server at a free port, and waits until it listens.
    ///
    /// # Panics
    /// When it cannot be run, or does not listen.
    #[must_use]
    pub fn start(command: impl FnOnce(SocketAddr) -> Command) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        Self::start_at(free.expect("a port is free"), command)
    }

    /// Starts a server at an address, and waits until it listens.
    ///
    /// # Panics
    /// When it cannot be run, or does not listen.
    #[must_use]
    pub fn start_at(address: SocketAddr, command: impl FnOnce(SocketAddr) -> Command) -> Self {
        let mut command = command(address);
        let child = command.spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{command:?}: {error}; run `make setup-e2e`"));
        let server = Self { child, address };
        let what = format!("{command:?} to listen");
        eventually(&what, || TcpStream::connect_timeout(&address, wait_max()).ok());
        server
    }
}

impl Background {
    /// Sends a signal to it.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It ends its own processes then. It may have ended by itself.
        let pid = Pid::from_child(&self.child);
        // A test that fails may leave it stopped.
        for signal in [Signal::TERM, Signal::CONT] {
            kill_process(pid, signal).ok();
        }
        self.child.wait().ok();
    }
}
