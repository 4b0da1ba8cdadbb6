//! Whatever is replaced, clients notice nothing: one machine, one load, and everything that can happen to the daemon.

use crate::{
    CLIENTS, HELLO,
    installed::version,
    package::{install, next_version},
    soft_reboot::{SURVIVES_SINCE, install_drop_ins, soft_reboot},
};
use plugind_tests::{Load, Machine, Tally, another, debian_package, eventually};
use std::{
    io::{Write, stderr},
    thread,
};

/// Number of reloads, each with a new version.
const RELOADS: usize = 20;
const RESTARTS: usize = 5;
const CRASHES: usize = 3;

/// Returns the outcomes of all clients' requests, which are never repeated, while this happens.
fn under_load(machine: &Machine, what: &str, happens: impl FnOnce(&Load)) -> Tally {
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, machine, &CLIENTS);
        load.wait_for(200);
        happens(&load);
        load.wait_for(200);
        load.end()
    });
    // Printed even if the test passes.
    writeln!(stderr(), "{what}: {tally}").expect("standard error is open");
    tally
}

/// The same, where no request may be lost.
fn nothing_lost(machine: &Machine, what: &str, happens: impl FnOnce(&Load)) -> Tally {
    let tally = under_load(machine, what, happens);
    assert_eq!(tally.failures(), [""; 0], "{what}: {} were answered", tally.answered);
    tally
}

#[test]
fn nothing_is_lost_whatever_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let first = debian_package(directory.path(), "0.0.1-1");
    let second = next_version(&first);
    let machine = Machine::boot_without();
    install(&machine, &first);
    install_drop_ins(&machine);
    machine.put_guest("hello", "hello");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));

    let reloaded = nothing_lost(&machine, "reloads", |load| {
        for _ in 0..RELOADS {
            machine.put_component("hello", another("hello"));
            machine.succeed(&["systemctl", "reload", "plugind.service"]);
            load.wait_for(20);
        }
    });
    assert_eq!(reloaded.closed, 0, "no kept connection is closed by a reload");
    nothing_lost(&machine, "restarts", |load| {
        for _ in 0..RESTARTS {
            machine.succeed(&["systemctl", "restart", "plugind.service"]);
            load.wait_for(50);
        }
    });
    // systemd would have ended a start that takes longer than the unit promises.
    let (result, restarts) = (machine.daemon("Result"), machine.daemon("NRestarts"));
    assert_eq!((result.as_str(), restarts.as_str()), ("success", "0"));
    let before = machine.daemon("MainPID");
    nothing_lost(&machine, "upgrade", |_| install(&machine, &second));
    assert_ne!(machine.daemon("MainPID"), before);
    assert_eq!(machine.daemon("NRestarts"), "0");

    let crashed = under_load(&machine, "crashes", |load| {
        for _ in 0..CRASHES {
            let before = machine.daemon("MainPID");
            machine.signal("plugind.service", "ABRT");
            eventually("the next daemon", || {
                let is_next = machine.daemon("ActiveState") == "active"
                    && machine.daemon("MainPID") != before;
                is_next.then_some(())
            });
            load.wait_for(50);
        }
    });
    // Only what the process that ended had in progress can be lost: at most one request of each client.
    let Tally { refused, late, failed, reset, .. } = crashed;
    assert_eq!((refused, late, failed), (0, 0, 0), "{:?}", crashed.failures());
    assert!(reset <= CRASHES * CLIENTS.len(), "{:?}", crashed.failures());
    assert_eq!(crashed.wrong, [""; 0]);

    let process = machine.daemon("MainPID");
    nothing_lost(&machine, "daemon-reexec", |_| {
        machine.succeed(&["systemctl", "daemon-reexec"]);
    });
    let version = version(&machine);
    if version < SURVIVES_SINCE {
        let reason = format!("systemd {version} is older than {SURVIVES_SINCE}");
        writeln!(stderr(), "NOT TESTED: the soft-reboot of nothing_is_lost: {reason}").unwrap();
    } else {
        nothing_lost(&machine, "soft-reboot", |_| soft_reboot(&machine));
    }
    assert_eq!(machine.daemon("MainPID"), process);
}
