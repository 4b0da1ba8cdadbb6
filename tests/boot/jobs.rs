//! A background program is a job of systemd: it runs once per start, to its end, and as a timer says.

use plugind_tests::{Machine, eventually};

const MANIFEST: &str = "[service]\nautostart = false\nrestart = \"no\"\n";

/// A machine with this guest as the job `report`.
fn with_job(guest: &str, manifest: &str) -> Machine {
    let machine = Machine::boot_with(&["hello"]);
    machine.put_guest("report", guest);
    machine.put_manifest("report", &format!("{manifest}{MANIFEST}"));
    machine
}

const UNIT: &str = "plugind-job@report.service";

#[test]
fn a_job_runs_once_per_start_with_its_arguments_and_not_with_the_daemon() {
    let machine = with_job("program_arguments", "arguments = [\"--all\", \"now\"]\n");
    let runs = || machine.journal(&["PLUGIN=report", "MESSAGE=argument 1: --all"]).len();
    machine.start();
    machine.succeed(&["pluginctl", "reload"]);
    assert_eq!(runs(), 0);
    for times in 1..=3 {
        machine.succeed(&["systemctl", "start", UNIT]);
        assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
        assert_eq!(machine.property(UNIT, "Result"), "success");
        eventually("the output to be in the journal", || (runs() == times).then_some(()));
    }
    // Neither a reload nor a restart of the daemon runs it.
    machine.succeed(&["pluginctl", "reload"]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(runs(), 3);
}

#[test]
fn a_job_that_fails_fails_its_unit_with_the_reason_each_time() {
    let machine = with_job("program_fails", "");
    machine.start();
    for _ in 0..2 {
        assert_eq!(machine.systemctl(&["start", UNIT]).status, 1);
        assert_eq!(machine.property(UNIT, "ActiveState"), "failed");
        let reason = machine.property(UNIT, "StatusText");
        assert!(reason.starts_with("failed at "), "{reason}");
    }
    assert_eq!(machine.journal(&["PLUGIN=report", "MESSAGE=about to fail"]).len(), 2);
    machine.put_guest("report", "program_ends");
    machine.succeed(&["systemctl", "start", UNIT]);
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    let machine = with_job("sleeps", "");
    machine.put_drop_in(UNIT, "[Service]\nTimeoutStartSec=3s\n");
    machine.start();
    assert_eq!(machine.systemctl(&["start", UNIT]).status, 1);
    assert_eq!(machine.property(UNIT, "Result"), "timeout");
    let listed = machine.succeed(&["pluginctl", "list", "--json"]);
    assert!(listed.contains(r#""subState":"stopped""#), "{listed}");
}

/// Starts a job that never ends by itself.
fn with_endless_job() -> Machine {
    let machine = with_job("sleeps", "");
    machine.start();
    machine.succeed(&["systemctl", "start", "--no-block", UNIT]);
    eventually("the job to run", || {
        machine.property(UNIT, "StatusText").starts_with("running").then_some(())
    });
    machine
}

/// Waits until the job has failed, and returns its status.
fn failure(machine: &Machine) -> String {
    eventually("the job to fail", || {
        (machine.property(UNIT, "ActiveState") == "failed").then_some(())
    });
    assert_eq!(machine.property(UNIT, "ExecMainStatus"), "1");
    machine.property(UNIT, "StatusText")
}

#[test]
fn a_job_fails_when_the_daemon_ends_before_it_and_is_not_run_twice() {
    let machine = with_endless_job();
    for (restarts, command) in [
        ("1", &["systemctl", "kill", "--signal", "KILL", "plugind.service"][..]),
        ("0", &["systemctl", "restart", "plugind.service"]),
    ] {
        machine.succeed(command);
        assert_eq!(failure(&machine), "the job was interrupted: plugind has ended");
        machine.wait_for("NRestarts", |now| now == restarts);
        machine.wait_for("ActiveState", |state| state == "active");
        assert_eq!(machine.get("/report").status(), 503, "it is not run again by itself");
        machine.succeed(&["systemctl", "start", "--no-block", UNIT]);
        eventually("the job to run again", || {
            (machine.get("/report").status() == 200).then_some(())
        });
    }
}

#[test]
fn a_job_that_is_stopped_before_its_end_fails() {
    let machine = with_endless_job();
    machine.succeed(&["pluginctl", "stop", "report"]);
    assert_eq!(failure(&machine), "the job was interrupted: the plugin was stopped");
}

#[test]
fn a_timer_runs_a_job() {
    let machine = with_job("program_ends", "");
    machine.put(
        "etc/systemd/system/plugind-job@report.timer",
        "[Timer]\nOnCalendar=daily\nPersistent=true\nOnActiveSec=0\n",
    );
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "plugind-job@report.timer"]);
    machine.wait_for_entry(&["PLUGIN=report", "MESSAGE=done"]);
    eventually("the job to end well", || {
        (machine.property(UNIT, "ExecMainStatus") == "0"
            && machine.property(UNIT, "ActiveState") == "inactive")
            .then_some(())
    });
}
