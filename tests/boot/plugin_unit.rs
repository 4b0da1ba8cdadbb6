//! A plugin is a unit: other units depend on it, and systemctl acts on it.

use crate::{HELLO, handover::count, message};
use plugind_tests::{Machine, another, eventually};

const UNIT: &str = "plugind-plugin@hello.service";

/// Waits until a property of a unit has a value.
fn wait_until(machine: &Machine, unit: &str, name: &str, wanted: &str) {
    eventually(&format!("{name}={wanted} of {unit}"), || {
        (machine.property(unit, name) == wanted).then_some(())
    });
}

fn status(machine: &Machine, unit: &str) -> String {
    machine.property(unit, "StatusText")
}

#[test]
fn a_unit_that_depends_on_a_plugin_starts_when_the_plugin_is_ready() {
    let machine = Machine::boot_with(&["hello", "never_ready"]);
    machine.put_manifest("never-ready", "required = false\n");
    let depends = |plugin: &str| {
        format!(
            "[Unit]\nRequires=plugind-plugin@{plugin}.service\nAfter=plugind-plugin@{plugin}.service\n\
             [Service]\nExecStart=sleep infinity\n"
        )
    };
    machine.put("etc/systemd/system/one.service", depends("hello"));
    machine.put("etc/systemd/system/two.service", depends("never-ready"));
    machine.reload_units();
    // It starts the daemon as well.
    machine.succeed(&["systemctl", "start", "one.service"]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    assert!(status(&machine, UNIT).starts_with("running, generation "));
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));

    machine.succeed(&["systemctl", "start", "--no-block", "two.service"]);
    wait_until(&machine, "plugind-plugin@never-ready.service", "ActiveState", "activating");
    assert_eq!(machine.property("two.service", "ActiveState"), "inactive");

    // A stop of the plugin stops what requires it.
    machine.succeed(&["systemctl", "stop", UNIT]);
    wait_until(&machine, "one.service", "ActiveState", "inactive");
}

#[test]
fn systemctl_stops_starts_restarts_and_reloads_the_plugin() {
    let machine = Machine::boot_with(&["hello", "says_stop"]);
    machine.start();
    let unit = "plugind-plugin@says-stop.service";
    machine.succeed(&["systemctl", "start", unit]);
    assert_eq!(machine.get("/says-stop").status(), 200);

    machine.succeed(&["systemctl", "stop", unit]);
    let refused = machine.get("/says-stop");
    assert_eq!(refused.status_and_text(), (503, "plugin says-stop is not ready\n"));
    machine.wait_for_entry(&["PLUGIN=says-stop", "MESSAGE=stopped: StopReason::Stop"]);
    assert_eq!(machine.property(unit, "Result"), "success");
    assert_eq!(machine.get("/hello").status(), 200);

    machine.succeed(&["systemctl", "start", unit]);
    assert_eq!(machine.get("/says-stop").status(), 200);
    machine.succeed(&["systemctl", "restart", unit]);
    assert_eq!(machine.get("/says-stop").status(), 200);
    assert_eq!(machine.journal(&["PLUGIN=says-stop", &message("PLUGIN_STOPPED")]).len(), 2);

    let before = status(&machine, unit);
    machine.put_component("says-stop", another("says_stop"));
    machine.put_component("hello", b"half of a component");
    machine.succeed(&["systemctl", "reload", unit]);
    eventually("the status to name the new generation", || {
        let now = status(&machine, unit);
        (now.starts_with("running, generation ") && now != before).then_some(())
    });
    assert_eq!(machine.succeed(&["pluginctl", "status"]).matches("failed").count(), 0);

    // The unit follows a stop by another command as well.
    machine.succeed(&["pluginctl", "stop", "says-stop"]);
    wait_until(&machine, unit, "ActiveState", "inactive");
}

#[test]
fn a_unit_fails_with_the_reason_when_its_plugin_fails() {
    let machine = Machine::boot_with(&["exits"]);
    machine.put_guest("bad", "traps_on_start");
    machine.put_manifest("bad", "required = false\n[service]\nrestart = \"no\"\n");
    machine.put_manifest("exits", "required = false\n[service]\nrestart = \"no\"\n");
    machine.put(
        "etc/systemd/system/alarm@.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n",
    );
    machine.put_drop_in("plugind-plugin@.service", "[Unit]\nOnFailure=alarm@%i.service\n");
    machine.start();
    assert_ne!(machine.systemctl(&["start", "plugind-plugin@bad.service"]).status, 0);
    let reason = status(&machine, "plugind-plugin@bad.service");
    assert!(reason.starts_with("failed at start: "), "{reason}");
    wait_until(&machine, "alarm@bad.service", "ActiveState", "active");
    assert_ne!(machine.systemctl(&["start", "plugind-plugin@nobody.service"]).status, 0);
    assert_eq!(
        status(&machine, "plugind-plugin@nobody.service"),
        "there is no plugin nobody; `pluginctl list` shows the plugins"
    );

    let unit = "plugind-plugin@exits.service";
    machine.succeed(&["systemctl", "start", unit]);
    assert_eq!(machine.property("alarm@exits.service", "ActiveState"), "inactive");
    assert_eq!(machine.get("/exits/exit").status(), 502);
    wait_until(&machine, "alarm@exits.service", "ActiveState", "active");
    assert_eq!(machine.property(unit, "ActiveState"), "failed");
    let reason = status(&machine, unit);
    assert!(reason.starts_with("failed at run: "), "{reason}");
}

#[test]
fn a_unit_survives_a_restart_and_a_crash_of_the_daemon_with_the_state_of_its_plugin() {
    let machine = Machine::boot_with(&["keeps"]);
    let unit = "plugind-plugin@keeps.service";
    machine.succeed(&["systemctl", "enable", "--now", "plugind.service", unit]);
    assert_eq!([count(&machine), count(&machine)], [1, 2]);
    let process = machine.property(unit, "MainPID");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(count(&machine), 3);
    assert_eq!(machine.journal(&[&message("PLUGIN_STOPPED")]).len(), 0);
    eventually("the unit to follow the plugin again", || {
        status(&machine, unit).starts_with("running").then_some(())
    });

    machine.signal("plugind.service", "KILL");
    machine.wait_for("NRestarts", |restarts| restarts == "1");
    machine.wait_for("ActiveState", |state| state == "active");
    eventually("the unit to follow the plugin again", || {
        status(&machine, unit).starts_with("running").then_some(())
    });
    assert_eq!(machine.property(unit, "MainPID"), process);
    assert_eq!(machine.property(unit, "ActiveState"), "active");
}

#[test]
fn a_plugin_that_only_its_unit_starts_is_back_after_a_restart_of_the_daemon() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put_manifest("hello", "[service]\nautostart = false\n");
    machine.start();
    assert_eq!(machine.get("/hello").status(), 503);
    machine.succeed(&["systemctl", "start", UNIT]);
    let process = machine.property(UNIT, "MainPID");
    let is_back = || {
        eventually("the plugin to serve again", || {
            (machine.get("/hello").status() == 200).then_some(())
        });
        assert_eq!(machine.property(UNIT, "ActiveState"), "active");
        assert_eq!(machine.property(UNIT, "MainPID"), process);
    };
    is_back();
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    is_back();
    machine.signal("plugind.service", "KILL");
    machine.wait_for("NRestarts", |restarts| restarts == "1");
    machine.wait_for("ActiveState", |state| state == "active");
    is_back();
}

#[test]
fn a_unit_ends_with_the_daemon_and_does_not_start_it() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["systemctl", "start", UNIT]);
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    wait_until(&machine, UNIT, "ActiveState", "inactive");
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    assert_eq!(machine.journal(&[&message("READY")]).len(), 1);

    machine.succeed(&["systemctl", "start", UNIT]);
    machine.put("etc/plugind/plugind.toml", "nonsense = 1\n");
    machine.signal("plugind.service", "KILL");
    wait_until(&machine, UNIT, "ActiveState", "failed");
    assert_eq!(machine.daemon("ActiveState"), "failed");
    let failed = "plugind.service has failed; see `systemctl status plugind.service`";
    assert_eq!(status(&machine, UNIT), failed);
    // It was tried once, by systemd.
    assert_eq!(machine.journal(&[&message("STARTUP_FAILED")]).len(), 1);
}

#[test]
fn a_unit_is_stopped_with_the_target_and_the_plugin_gets_the_reason_of_the_daemon() {
    let machine = Machine::boot_with(&["says_stop"]);
    let unit = "plugind-plugin@says-stop.service";
    machine.succeed(&["systemctl", "start", unit]);
    machine.succeed(&["systemctl", "stop", "plugind.target"]);
    // The jobs of the units that are stopped with the target are not waited for.
    wait_until(&machine, unit, "ActiveState", "inactive");
    machine.wait_for_entry(&["PLUGIN=says-stop", "MESSAGE=stopped: StopReason::Shutdown"]);
    assert_eq!(machine.journal(&[&message("PLUGIN_STOPPED")]).len(), 0);
}
