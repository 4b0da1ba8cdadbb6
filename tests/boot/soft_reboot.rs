//! With the example drop-in, a soft-reboot loses no request.

use crate::{CLIENTS, HELLO, installed::version};
use plugind_tests::{Load, Machine, eventually};
use std::thread;

const UNITS: [&str; 4] =
    ["plugind.service", "plugind-http.socket", "plugind-control.socket", "plugind-compile.socket"];

#[test]
fn no_request_is_lost_by_a_soft_reboot() {
    let machine = Machine::boot_with(&["hello"]);
    let example = "/usr/share/doc/plugind/examples/plugind-survive.conf";
    for unit in UNITS {
        let place = format!("/etc/systemd/system/{unit}.d/survive.conf");
        machine.succeed(&["install", "-D", "-m", "0644", example, &place]);
    }
    machine.reload_units();
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    if version(&machine) < 257 {
        // Such a system serves with the drop-in, too, and cannot do without a reboot.
        assert_ne!(machine.property("plugind.service", "SurviveFinalKillSignal"), "yes");
        return;
    }
    let process = machine.daemon("MainPID");
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        load.wait_for(200);
        machine.succeed(&["systemctl", "soft-reboot", "--no-block"]);
        eventually("the end of the soft-reboot", || {
            let count = machine.systemctl(&["show", "--property=SoftRebootsCount", "--value"]);
            let is_up = machine.systemctl(&["is-active", "basic.target"]).status == 0;
            (count.output.trim() == "1" && is_up).then_some(())
        });
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_eq!(machine.daemon("MainPID"), process);
    // It is still a unit like any other.
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}
