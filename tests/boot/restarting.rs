//! A restart is not noticed by clients, and a daemon that cannot start is not tried for ever.

use crate::{CLIENTS, HELLO};
use plugind_tests::{Connection, Load, Machine, eventually};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
};

#[test]
fn no_client_is_refused_cut_off_or_answered_wrongly_by_restarts() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        for _ in 0..5 {
            load.wait_for(200);
            machine.succeed(&["systemctl", "restart", "plugind.service"]);
        }
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_eq!(machine.daemon("NRestarts"), "0");
}

#[test]
fn a_client_that_connects_after_a_crash_waits_and_is_answered() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        for crashes in 1..=3 {
            load.wait_for(100);
            machine.signal("plugind.service", "KILL");
            let crashes = crashes.to_string();
            // A client that waits has it started before the restart is due.
            let started = || (machine.daemon("ActiveState") == "active").then_some(());
            eventually(&format!("start {crashes}"), started);
        }
        load.wait_for(100);
        load.end()
    });
    // Only requests in progress can be lost: at most one of each client, at each crash.
    assert_eq!((tally.refused, tally.late), (0, 0), "{:?}", tally.failures());
    assert!(tally.reset <= 3 * CLIENTS.len(), "{:?}", tally.failures());
    assert_eq!(tally.wrong, [""; 0]);
}

#[test]
fn clients_of_a_daemon_that_cannot_start_are_refused_until_it_is_restarted() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put_manifest("hello", "[config]\ngreeting = \"\"\n");
    // A busy machine may not start a daemon as often within the minute of the unit.
    machine.put_drop_in("plugind.service", "[Unit]\nStartLimitIntervalSec=1h\n");
    machine.succeed(&["systemctl", "start", "plugind-http.socket"]);
    // It waits, and has the daemon started again and again.
    let waits = machine.connect();
    let given_up = || machine.property("plugind-http.socket", "ActiveState") == "failed";
    let mut start = String::new();
    while !given_up() {
        start = eventually("another start, or the socket to be given up", || {
            let latest = machine.daemon("InvocationID");
            (latest != start || given_up()).then_some(latest)
        });
    }
    drop(waits);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let refused = machine.within(|| TcpStream::connect(address).unwrap_err());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(machine.daemon("ExecMainStatus"), "78");

    machine.put_manifest("hello", "");
    // An operator need not wait until the interval of the start limit has passed.
    machine.succeed(&["systemctl", "reset-failed", "plugind.service"]);
    machine.start();
    let mut client: Connection = machine.connect();
    assert_eq!(client.get("/hello").status_and_text(), (200, HELLO));
    assert_eq!(machine.property("plugind-http.socket", "ActiveState"), "active");
}
