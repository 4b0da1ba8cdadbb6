//! plugind as it is installed, under systemd: each test boots a machine, and is a sentence about it.
//!
//! `PLUGIND_TEST_ROOT=DIR` boots the system in that directory instead of the host's own.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod machine;
mod installed;
mod package;
mod starting;
mod sockets;
mod streams;
mod tls;
mod every_kind;
mod exit_on_idle;
mod extending;
mod restarting;
mod reloading;
mod many_reloads;
mod handover;
mod path;
mod watchdog;
mod memory_pressure;
mod journal;
mod stopping;
mod plugin_unit;
mod jobs;
mod soft_reboot;
mod nothing_is_lost;
mod user;
mod container;
mod control;
mod compiler;
mod network;
mod probe;
mod view;
mod checking;
mod faults;
mod metrics;
mod traces;

use plugind_tests::{Client, Machine, Right, Way};

/// Clients of `hello`, which ask for it in the usual ways.
const CLIENTS: [Client; 4] = [
    hello(Way::Get, false),
    hello(Way::Get, true),
    hello(Way::Post("a body"), false),
    hello(Way::Post("a body"), true),
];

const fn hello(way: Way, keeps: bool) -> Client<'static> {
    Client { path: "/hello", way, keeps, right: Right::Text(HELLO) }
}

/// The answer of `hello` without a manifest.
const HELLO: &str = "Hello from hello\n";

/// A message of the daemon, as an argument of `journalctl`.
fn message(name: &str) -> String {
    let messages = plugind_tests::messages();
    let id = messages.get(name).unwrap_or_else(|| panic!("there is no message {name}"));
    format!("MESSAGE_ID={id}")
}

/// Returns the number of entries with a message, among those that a further argument selects.
fn count(machine: &Machine, name: &str, further: &str) -> usize {
    machine.journal(&[&message(name), further]).len()
}
