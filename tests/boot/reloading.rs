//! A reload takes over what is new, fails where something is wrong, and disturbs nothing else.

use crate::{CLIENTS, HELLO, count, message};
use plugind_tests::{Load, Machine, another};
use std::thread;

fn greets(greeting: &str) -> String {
    format!("[config]\ngreeting = \"{greeting}\"\n")
}

#[test]
fn what_is_new_is_served_when_the_reload_returns_by_the_same_daemon() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    let pid = machine.daemon("MainPID");
    machine.put_manifest("hello", &greets("Good day"));
    machine.put_guest("counts", "counts");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    assert_eq!(machine.get("/counts").status(), 200);
    assert_eq!(machine.daemon("MainPID"), pid);
    assert_eq!(machine.daemon("ActiveState"), "active");
}

#[test]
fn a_reload_returns_when_the_slowest_new_version_is_ready() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.put_guest("warmup", "warmup");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/warmup").status_and_text(), (200, "warm\n"));
}

#[test]
fn a_reload_with_a_bad_version_fails_and_the_old_version_keeps_serving() {
    let machine = Machine::boot_with(&["hello", "counts"]);
    machine.start();
    let pid = machine.daemon("MainPID");
    machine.put_manifest("hello", &greets(""));
    machine.put_component("counts", another("counts"));
    let reload = machine.systemctl(&["reload", "plugind.service"]);
    assert_ne!(reload.status, 0, "{reload:?}");
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.daemon("MainPID"), pid);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    // The other one was taken over all the same.
    assert_eq!(count(&machine, "PLUGIN_READY", "PLUGIN=counts"), 2);

    let status = machine.daemon("StatusText");
    assert!(status.contains("hello") && status.contains("the greeting is empty"), "{status}");
    let entry = machine.wait_for_entry(&[&message("PLUGIN_FAILED"), "PLUGIN=hello"]);
    assert!(entry.field("ERROR").contains("the greeting is empty"), "{entry:?}");
    // The messages of pluginctl are there for anyone who looks at the unit.
    let reported = machine.journal(&["SYSLOG_IDENTIFIER=pluginctl"]);
    let reported: Vec<_> = reported.iter().map(|entry| entry.field("MESSAGE")).collect();
    assert!(reported.iter().any(|line| line.contains("hello")), "{reported:?}");

    machine.put_manifest("hello", &greets("Well"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, "Well from hello\n"));
    assert!(!machine.daemon("StatusText").contains("hello"));
}

#[test]
fn a_reload_without_changes_changes_nothing() {
    let machine = Machine::boot_with(&["counts"]);
    machine.put_manifest("counts", "[instances]\nmax = 1\n");
    machine.start();
    let mut client = machine.connect();
    assert_eq!(client.get("/counts").text(), "worker=0 generation=1 count=1");
    for times in 2..=10 {
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        assert_eq!(
            client.get("/counts").text(),
            format!("worker=0 generation=1 count={times}"),
            "instance and connection are the same ones"
        );
    }
    assert_eq!(count(&machine, "PLUGIN_READY", "PLUGIN=counts"), 1);
}

#[test]
fn sighup_is_a_reload_that_systemd_sees() {
    let machine = Machine::boot_with(&["warmup"]);
    machine.start();
    let pid = machine.daemon("MainPID");
    machine.put_component("warmup", another("warmup"));
    machine.signal("plugind.service", "HUP");
    machine.wait_for("ActiveState", |state| state == "reloading");
    machine.wait_for("ActiveState", |state| state == "active");
    assert_eq!(count(&machine, "PLUGIN_READY", "PLUGIN=warmup"), 2);
    // Also when it fails: systemd waits for no other word.
    machine.put_component("warmup", "no component");
    machine.signal("plugind.service", "HUP");
    machine.wait_for_entry(&[&message("PLUGIN_FAILED"), "PLUGIN=warmup"]);
    machine.wait_for("ActiveState", |state| state == "active");
    assert_eq!(machine.get("/warmup").status_and_text(), (200, "warm\n"));
    assert_eq!(machine.daemon("MainPID"), pid);
}

#[test]
fn no_client_notices_reloads() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        for _ in 0..10 {
            machine.put_component("hello", another("hello"));
            machine.succeed(&["systemctl", "reload", "plugind.service"]);
            load.wait_for(50);
        }
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_eq!(count(&machine, "PLUGIN_READY", "PLUGIN=hello"), 11);
}

#[test]
fn an_unreadable_or_missing_directory_changes_nothing_and_is_reported() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.succeed(&["chmod", "0700", "/etc/plugind/plugins"]);
    assert_eq!(machine.run(&["pluginctl", "reload"]).status, 1);
    let status = machine.wait_for("StatusText", |status| status.contains("not reloaded"));
    assert!(status.contains("cannot read the directory /etc/plugind/plugins"), "{status}");
    assert!(status.contains("let the user of the daemon read it"), "{status}");
    machine.wait_for_entry(&[&message("CONFIGURATION_UNREADABLE")]);
    assert_eq!(count(&machine, "CONFIGURATION_UNREADABLE", "PRIORITY=3"), 1);
    // systemd 257 sends SIGHUP after it, which reads once more.
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.get("/hello").status(), 200);

    machine.succeed(&["chmod", "0755", "/etc/plugind/plugins"]);
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    machine.wait_for("StatusText", |status| !status.contains("not reloaded"));

    // The same for one that is missing.
    machine.succeed(&["mv", "/etc/plugind/plugins", "/etc/plugind/elsewhere"]);
    let reloaded = machine.run(&["pluginctl", "reload"]);
    assert_eq!(reloaded.status, 1);
    let status = machine.wait_for("StatusText", |status| status.contains("not reloaded"));
    for reported in [status, reloaded.errors] {
        assert!(reported.contains("cannot read the directory /etc/plugind/plugins"), "{reported}");
        assert!(reported.contains("restore it, or create it empty to remove them"), "{reported}");
    }
    assert_eq!(machine.get("/hello").status(), 200);
    machine.succeed(&["mv", "/etc/plugind/elsewhere", "/etc/plugind/plugins"]);
    machine.succeed(&["pluginctl", "reload"]);
    machine.wait_for("StatusText", |status| !status.contains("not reloaded"));
    assert_eq!(count(&machine, "PLUGIN_READY", "PLUGIN=hello"), 1);
}

#[test]
fn a_failed_reload_does_not_turn_the_next_restart_into_an_outage() {
    let machine = Machine::boot_with(&["hello", "counts"]);
    machine.start();
    machine.put_manifest("hello", &greets(""));
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    let degraded = "degraded: hello has served its previous version since ";
    let status = machine.daemon("StatusText");
    assert!(status.contains(degraded) && status.contains("2 of 2 plugins ready"), "{status}");

    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    let status = machine.daemon("StatusText");
    assert!(status.contains(degraded) && status.contains("the greeting is empty"), "{status}");
    let entry = machine.wait_for_entry(&[&message("PREVIOUS_VERSION"), "PLUGIN=hello"]);
    assert_eq!(entry.field("PRIORITY"), "4");
    for command in [&["pluginctl", "status"][..], &["pluginctl", "list"]] {
        let ran = machine.run(command);
        assert!(ran.status == 3 && ran.output.contains("degraded"), "{ran:?}");
    }

    machine.put_manifest("hello", &greets("Well"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, "Well from hello\n"));
    assert_eq!(machine.daemon("StatusText"), "2 of 2 plugins ready");
    machine.succeed(&["pluginctl", "status"]);
}

#[test]
fn a_reload_by_systemd_reads_reports_and_fails_once() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let counted =
        || ["RELOAD_STARTED", "RELOAD_FINISHED"].map(|it| machine.journal(&[&message(it)]).len());
    machine.put_manifest("hello", &greets("Well"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(counted(), [1, 1]);
    machine.put_manifest("hello", &greets(""));
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    // The one after it would come after a signal that systemd sends late.
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    assert_eq!(counted(), [3, 3]);
    assert_eq!(count(&machine, "PLUGIN_FAILED", "PLUGIN=hello"), 2);
    assert_eq!(machine.daemon("ActiveState"), "active");
}
