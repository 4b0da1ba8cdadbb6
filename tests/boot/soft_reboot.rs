//! With the example drop-in, a soft-reboot loses no request.

use crate::{CLIENTS, HELLO, installed::version};
use plugind_tests::{Load, Machine, eventually};
use std::{
    io::{Write, stderr},
    thread,
};

pub(crate) const UNITS: [&str; 4] =
    ["plugind.service", "plugind-http.socket", "plugind-control.socket", "plugind-compile.socket"];

/// The first systemd of which a unit survives a soft-reboot.
pub(crate) const SURVIVES_SINCE: u32 = 257;

/// A machine that serves with the example drop-in.
fn boot() -> Machine {
    let machine = Machine::boot_with(&["hello"]);
    install_drop_ins(&machine);
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    machine
}

pub(crate) fn install_drop_ins(machine: &Machine) {
    let example = "/usr/share/doc/plugind/examples/plugind-survive.conf";
    for unit in UNITS {
        let place = format!("/etc/systemd/system/{unit}.d/survive.conf");
        machine.succeed(&["install", "-D", "-m", "0644", example, &place]);
    }
    machine.reload_units();
}

/// Reboots the machine but for what survives, and waits until it is up again.
pub(crate) fn soft_reboot(machine: &Machine) {
    // The following checks prove that it was received.
    drop(machine.run_within(10, &["systemctl", "soft-reboot", "--no-block"]));
    eventually("the end of the soft-reboot", || {
        // Its processes are stopped and killed meanwhile, these as well.
        let systemctl =
            |arguments: &[&str]| machine.run_within(5, &[&["systemctl"], arguments].concat());
        let count = systemctl(&["show", "--property=SoftRebootsCount", "--value"]);
        let is_up = systemctl(&["is-active", "basic.target"]).status == 0;
        (count.output.trim() == "1" && is_up).then_some(())
    });
}

#[test]
fn the_drop_in_for_soft_reboots_takes_effect_where_systemd_knows_it() {
    let machine = boot();
    let survives = machine.property("plugind.service", "SurviveFinalKillSignal") == "yes";
    assert_eq!(survives, version(&machine) >= SURVIVES_SINCE);
}

#[test]
fn no_request_is_lost_by_a_soft_reboot() {
    let machine = boot();
    let version = version(&machine);
    if version < SURVIVES_SINCE {
        // Not by eprintln!, which is shown for tests that fail only.
        let reason = format!("systemd {version} is older than {SURVIVES_SINCE}");
        writeln!(stderr(), "NOT TESTED: no_request_is_lost_by_a_soft_reboot: {reason}").unwrap();
        return;
    }
    let process = machine.daemon("MainPID");
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        load.wait_for(200);
        soft_reboot(&machine);
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_eq!(machine.daemon("MainPID"), process);
    // It is still a unit like any other.
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}
