//! systemd notices a daemon that hangs, and no plugin that does.

use plugind_tests::{Connection, Machine};
use std::time::{Duration, Instant};

/// Less than the unit's own, so that the tests end; enough for a busy machine.
const WATCHDOG: Duration = Duration::from_secs(6);

fn watched(guests: &[&str]) -> Machine {
    let machine = Machine::boot_with(guests);
    let drop_in = format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs());
    machine.put_drop_in("plugind.service", &drop_in);
    machine
}

#[test]
fn a_daemon_that_stands_still_is_ended_and_started_again() {
    let machine = watched(&["hello"]);
    machine.start();
    machine.signal("plugind.service", "STOP");
    machine.wait_for_entry(&["UNIT=plugind.service", "UNIT_RESULT=watchdog"]);
    machine.wait_for("NRestarts", |restarts| restarts == "1");
    machine.wait_for("ActiveState", |state| state == "active");
    assert_eq!(machine.get("/hello").status(), 200);
}

#[test]
fn a_plugin_that_spins_costs_only_its_own_requests() {
    let machine = watched(&["hello"]);
    machine.put_guest("loops", "loops_in_request");
    let manifest = "[service]\nrestart-sec = \"1ms\"\nrestart-max-delay-sec = \"1ms\"\nstart-limit-interval-sec = \"1ms\"\n\
                    [limits]\nrequest-timeout = \"1s\"\n";
    machine.put_manifest("loops", manifest);
    machine.start();
    let pid = machine.daemon("MainPID");
    // For longer than the watchdog waits.
    let begin = Instant::now();
    while begin.elapsed() < WATCHDOG * 3 / 2 {
        let mut loops: Vec<Connection> = (0..4).map(|_| machine.connect()).collect();
        for connection in &mut loops {
            connection.request("GET", "/loops/loop", &[]);
        }
        assert_eq!(machine.get("/hello").status(), 200);
        for connection in &mut loops {
            let status = connection.response().status();
            assert!([502, 503, 504].contains(&status), "{status}");
        }
    }
    assert_eq!(machine.daemon("NRestarts"), "0");
    assert_eq!(machine.daemon("MainPID"), pid);
    assert_eq!(machine.daemon("ActiveState"), "active");
}
