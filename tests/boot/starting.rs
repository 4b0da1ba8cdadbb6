//! Started means ready: `systemctl start` returns when every required plugin is, or says which cannot be.

use crate::{count, message};
use plugind_tests::Machine;
use std::thread;

/// Time that `warmup` sleeps before it is ready, in microseconds.
const WARMING_UP: u64 = 1_500_000;

#[test]
fn start_returns_when_the_slowest_plugin_is_ready_and_names_it_until_then() {
    let machine = Machine::boot_with(&["hello", "warmup"]);
    thread::scope(|scope| {
        let start = scope.spawn(|| machine.start());
        let status = machine.wait_for("StatusText", |status| status.contains("warmup"));
        assert!(status.contains("of 2 ready"), "{status}");
        assert_eq!(machine.daemon("ActiveState"), "activating");
        start.join().unwrap();
    });
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.get("/warmup").status_and_text(), (200, "warm\n"));
    assert!(!machine.daemon("StatusText").contains("waiting"));

    // READY=1 follows the readiness of the plugin. The journal has the times at which entries arrived, a moment late,
    // so only their order is compared. By systemd's own times, the start takes at least as long as the plugin sleeps.
    let warm = machine.wait_for_entry(&[&message("PLUGIN_READY"), "PLUGIN=warmup"]);
    let ready = machine.wait_for_entry(&[&message("READY")]);
    let came = |entry: &plugind_tests::Entry| -> u64 {
        entry.field("__MONOTONIC_TIMESTAMP").parse().unwrap()
    };
    assert!(came(&warm) <= came(&ready), "{warm:?} {ready:?}");
    let moment = |name| machine.daemon(name).parse::<u64>().unwrap();
    let took = moment("ActiveEnterTimestampMonotonic") - moment("InactiveExitTimestampMonotonic");
    assert!(took >= WARMING_UP, "{took} µs");
}

#[test]
fn a_client_that_comes_while_it_starts_is_answered_when_it_has() {
    let machine = Machine::boot_with(&["hello", "warmup"]);
    machine.succeed(&["systemctl", "start", "--no-block", "plugind.service"]);
    machine.wait_for("StatusText", |status| status.contains("warmup"));
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.daemon("ActiveState"), "active");
}

#[test]
fn a_required_plugin_that_is_configured_wrongly_makes_start_fail_for_good() {
    let machine = Machine::boot_with(&["hello", "start_configuration"]);
    let start = machine.systemctl(&["start", "plugind.service"]);
    assert_ne!(start.status, 0, "{start:?}");
    assert_eq!(machine.daemon("ActiveState"), "failed");
    assert_eq!(machine.daemon("Result"), "exit-code");
    assert_eq!(machine.daemon("ExecMainStatus"), "78");
    assert_eq!(machine.daemon("NRestarts"), "0");
    assert_ne!(machine.daemon("StatusErrno"), "0");
    let status = machine.daemon("StatusText");
    assert!(status.contains("start-configuration"), "{status}");
    let entry = machine.wait_for_entry(&[&message("STARTUP_FAILED")]);
    assert!(entry.field("ERROR").contains("start-configuration"), "{entry:?}");
    assert_eq!(count(&machine, "READY", "PRIORITY=6"), 0);
}

#[test]
fn a_required_plugin_that_traps_makes_start_fail_and_is_tried_again() {
    let machine = Machine::boot_with(&["traps_on_start"]);
    let start = machine.systemctl(&["start", "plugind.service"]);
    assert_ne!(start.status, 0, "{start:?}");
    machine.wait_for("NRestarts", |restarts| restarts != "0");
    let entry = machine.wait_for_entry(&[&message("STARTUP_FAILED")]);
    assert!(entry.field("ERROR").contains("traps-on-start"), "{entry:?}");
    let exited = machine.wait_for_entry(&["UNIT=plugind.service", "EXIT_STATUS=1"]);
    assert_eq!(exited.field("EXIT_CODE"), "exited");
}

#[test]
fn a_plugin_that_is_not_required_does_not_keep_the_daemon_from_starting() {
    let machine = Machine::boot_with(&["hello", "start_configuration"]);
    machine.put_manifest("start-configuration", "required = false\n");
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.get("/start-configuration").status(), 503);
    let status = machine.wait_for("StatusText", |status| status.contains("failed"));
    assert!(status.contains("start-configuration"), "{status}");
}

#[test]
fn a_daemon_without_plugins_is_ready_and_says_so() {
    let machine = Machine::boot();
    machine.start();
    assert_eq!(machine.daemon("StatusText"), "no plugins");
    machine.succeed(&["rmdir", "/etc/plugind/plugins"]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    let missing = "no plugins; missing directory: /etc/plugind/plugins";
    assert_eq!(machine.daemon("StatusText"), missing);
    assert!(machine.succeed(&["pluginctl", "status"]).contains(missing));
    machine.succeed(&["mkdir", "/etc/plugind/plugins"]);
    machine.succeed(&["pluginctl", "reload"]);
    assert_eq!(machine.daemon("StatusText"), "no plugins");
    assert_eq!(machine.get("/").status(), 404);
}

#[test]
fn sighup_before_it_is_ready_does_it_no_harm() {
    let machine = Machine::boot_with(&["warmup"]);
    machine.succeed(&["systemctl", "start", "--no-block", "plugind.service"]);
    machine.wait_for("StatusText", |status| status.contains("warmup"));
    let pid = machine.daemon("MainPID");
    machine.signal("plugind.service", "HUP");
    machine.wait_for("ActiveState", |state| state == "active");
    assert_eq!((machine.daemon("MainPID"), machine.daemon("NRestarts")), (pid, "0".to_owned()));
}

#[test]
fn the_daemons_own_deadline_counts_and_not_the_units_and_it_says_what_it_waited_for() {
    let machine = Machine::boot_with(&["start_unavailable", "start_configuration"]);
    machine.put("/etc/plugind/plugind.toml", "start-deadline-sec = \"6s\"\n");
    machine.put_drop_in("plugind.service", "[Service]\nTimeoutStartSec=2\nRestart=no\n");
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    assert_eq!(machine.daemon("Result"), "exit-code");
    // One of them will never start, so that it is not tried again, however long the other may take.
    assert_eq!(machine.daemon("ExecMainStatus"), "78");
    let status = machine.daemon("StatusText");
    assert!(status.contains("within 6s (start-deadline-sec): start-unavailable"), "{status}");
    assert!(status.contains("plugin start-configuration failed"), "{status}");
}

#[test]
fn a_reload_while_a_plugin_that_is_not_required_still_starts_is_one() {
    let machine = Machine::boot_with(&["hello", "warmup", "never_ready"]);
    let slowly = "required = false\n[service]\ntimeout-start-sec = \"10min\"\n";
    machine.put_manifest("never-ready", slowly);
    machine.start();
    machine.signal("plugind.service", "HUP");
    machine.wait_for("ActiveState", |state| state == "reloading");
    assert_eq!(machine.get("/hello").status(), 200);
    machine.succeed(&["rm", "/etc/plugind/plugins/never-ready.wasm"]);
    machine.succeed(&["rm", "/etc/plugind/plugins/never-ready.toml"]);
    let reload = machine.succeed(&["pluginctl", "reload"]);
    assert!(!reload.contains("warmup: changed"), "{reload}");
    machine.wait_for("ActiveState", |state| state == "active");
}
