//! A daemon that is stopped finishes the requests in progress, and waits for nothing else.

use crate::{CLIENTS, HELLO, message};
use plugind_tests::{Load, Machine, eventually};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_stop_while_it_starts_does_not_wait_for_plugins() {
    let machine = Machine::boot_with(&["never_ready"]);
    machine.succeed(&["systemctl", "start", "--no-block", "plugind.service"]);
    machine.wait_for("StatusText", |status| status.contains("never-ready"));
    let begin = Instant::now();
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    // It is promised within one second; the rest is for the machine, and far below any deadline of plugins.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    assert_eq!(machine.daemon("Result"), "success");
    assert_eq!(machine.daemon("ExecMainStatus"), "0");
}

#[test]
fn a_stop_lets_requests_finish_and_ends_well() {
    let machine = Machine::boot_with(&["hello", "sleeps"]);
    machine.start();
    thread::scope(|scope| {
        let mut under_way = machine.connect();
        under_way.request("GET", "/sleeps/sleep/3000", &[]);
        // Another one is served, so that one has begun.
        assert_eq!(machine.get("/sleeps").status(), 200);
        let stop = scope.spawn(|| {
            // With its sockets, or the next client would have it started again.
            machine.systemctl(&[
                "stop",
                "plugind-http.socket",
                "plugind-control.socket",
                "plugind.service",
            ])
        });
        machine.wait_for("ActiveState", |state| state == "deactivating");
        assert_eq!(under_way.response().status_and_text(), (200, "slept"));
        assert_eq!(stop.join().unwrap().status, 0);
    });
    assert_eq!(machine.daemon("Result"), "success");
    assert_eq!(machine.daemon("ExecMainStatus"), "0");
    machine.wait_for_entry(&["SYSLOG_IDENTIFIER=plugind", "MESSAGE=stopped"]);
}

#[test]
fn a_restart_waits_for_a_plugin_longer_than_the_unit_says() {
    let machine = Machine::boot_with(&["sleeps"]);
    machine.put_drop_in("plugind.service", "[Service]\nTimeoutStopSec=2s\n");
    machine.start();
    thread::scope(|scope| {
        let mut under_way = machine.connect();
        // The default of timeout-stop-sec is longer than this, and the limit of the unit is not.
        under_way.request("GET", "/sleeps/sleep/7000", &[]);
        assert_eq!(machine.get("/sleeps").status(), 200);
        let restart = scope.spawn(|| machine.systemctl(&["restart", "plugind.service"]));
        machine.wait_for("ActiveState", |state| state == "deactivating");
        assert_eq!(under_way.response().status_and_text(), (200, "slept"));
        assert_eq!(restart.join().unwrap().status, 0);
    });
    assert_eq!(machine.daemon("Result"), "success");
    assert!(machine.journal(&["MESSAGE=stop timeout exceeded"]).is_empty());
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        for _ in 0..3 {
            load.wait_for(200);
            let pid = machine.daemon("MainPID");
            machine.signal("plugind.service", "TERM");
            // The next client has it started again.
            machine.wait_for("MainPID", |now| now != pid && now != "0");
        }
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_eq!(machine.daemon("NRestarts"), "0", "it ended well, each time");
    assert_eq!(machine.journal(&[&message("READY")]).len(), 4);
}

/// Runs `systemctl` with this command while clients connect without end, and proves that the last one is refused and that
/// nothing of plugind is left.
fn turn_off(machine: &Machine, command: &[&str]) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let connect = || loop {
        match TcpStream::connect(address) {
            // It waited in the socket when this was closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            Err(error) => return error,
            Ok(_) => (),
        }
    };
    let refused = thread::scope(|scope| {
        let clients = scope.spawn(|| machine.within(connect));
        machine.succeed(&[&["systemctl"], command].concat());
        clients.join().unwrap()
    });
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    for unit in [".service", "-http.socket", "-control.socket", "-compile.socket"] {
        let unit = format!("plugind{unit}");
        // systemd begins to stop the sockets when the daemon has stopped, and systemctl does not wait for that.
        eventually(&format!("the end of {unit}"), || {
            (machine.property(&unit, "ActiveState") == "inactive").then_some(())
        });
    }
    assert_ne!(machine.run(&["pluginctl", "status"]).status, 0);
    assert_eq!(machine.daemon("ActiveState"), "inactive");
}

// Both commands are in the section STOPPING AND REMOVING of plugind(8).
#[test]
fn a_disabled_service_is_stopped_with_its_sockets_and_started_by_no_client() {
    let machine = Machine::boot_with(&["hello"]);
    for unit in ["plugind.service", "plugind.target"] {
        machine.succeed(&["systemctl", "enable", "--now", unit]);
        assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
        turn_off(&machine, &["disable", "--now", unit]);
        let units = ["plugind.service", "plugind-http.socket", "plugind-enabled.target", unit];
        for unit in units {
            assert_ne!(machine.systemctl(&["is-enabled", unit]).status, 0, "{unit}");
            assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        }
    }

    machine.succeed(&["systemctl", "enable", "--now", "plugind.service"]);
    machine.succeed(&["systemctl", "start", "plugind.target"]);
    turn_off(&machine, &["stop", "plugind.target"]);
    machine.succeed(&["systemctl", "start", "plugind.target"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}

#[test]
fn the_sockets_of_a_stopped_service_stay_open_unless_it_was_disabled() {
    let machine = Machine::boot_with(&["hello"]);
    let opened = || machine.property("plugind-http.socket", "ActiveEnterTimestampMonotonic");
    machine.start();
    let first = opened();
    let client_starts_it = || {
        machine.succeed(&["systemctl", "stop", "plugind.service"]);
        machine.wait_for("ActiveState", |state| state == "inactive");
        assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
        assert_eq!(opened(), first);
    };
    // As a daemon that exits on idle needs it.
    client_starts_it();
    machine.succeed(&["systemctl", "enable", "--now", "plugind.service"]);
    client_starts_it();

    // A restart needs the target as well, so it stays until the daemon has stopped.
    machine.succeed(&["systemctl", "disable", "plugind.service"]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(opened(), first);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}
