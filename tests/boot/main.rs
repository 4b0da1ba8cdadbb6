//! plugind as it is installed, under systemd: each test boots a machine, and is a sentence about it.
//!
//! `PLUGIND_TEST_ROOT=DIR` boots the system in that directory instead of the host's own.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod machine;
mod installed;
mod starting;
mod sockets;
mod restarting;
mod reloading;
mod path;
mod watchdog;
mod journal;
mod stopping;
mod control;

use plugind_tests::{Client, Machine};

/// The fields of the answers of `hello` and `warmup`, asked for in the ways there are.
const CLIENTS: [Client; 4] = [
    Client { path: "/hello", body: None, keeps: false, right: HELLO },
    Client { path: "/hello", body: None, keeps: true, right: HELLO },
    Client { path: "/hello", body: Some("a body"), keeps: false, right: HELLO },
    Client { path: "/hello", body: Some("a body"), keeps: true, right: HELLO },
];

/// What `hello` answers without a manifest.
const HELLO: &str = "Hello from hello\n";

/// A message of the daemon, as an argument of `journalctl`.
fn message(name: &str) -> String {
    let messages = plugind_tests::messages();
    let id = messages.get(name).unwrap_or_else(|| panic!("there is no message {name}"));
    format!("MESSAGE_ID={id}")
}

/// How many entries there are of a message, among those that a further argument selects.
fn count(machine: &Machine, name: &str, further: &str) -> usize {
    machine.journal(&[&message(name), further]).len()
}
