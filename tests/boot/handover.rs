//! The state in a plugin's memory outlives its version and the daemon.

use crate::message;
use plugind_tests::{Connection, Machine, another, eventually};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

/// Returns the count of the guest, from its answer.
pub(crate) fn count(machine: &Machine) -> u64 {
    let answer = machine.get("/keeps");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let (_, count) = answer.text().split_once("count=").unwrap();
    count.parse().unwrap()
}

/// A machine on which a plugin has counted to three.
fn three() -> Machine {
    let machine = Machine::boot_with(&["keeps"]);
    machine.start();
    assert_eq!([(); 3].map(|()| count(&machine)), [1, 2, 3]);
    machine
}

/// Returns the number of files that systemd holds for the daemon.
fn held(machine: &Machine) -> String {
    machine.daemon("NFileDescriptorStore")
}

fn wait_until_held(machine: &Machine, wanted: &str) {
    machine.wait_for("NFileDescriptorStore", |held| held == wanted);
}

#[test]
fn the_state_of_a_plugin_survives_a_restart_of_the_daemon() {
    let machine = three();
    assert_eq!(held(&machine), "0");
    for restarts in 0..3 {
        machine.succeed(&["systemctl", "restart", "plugind.service"]);
        assert_eq!(count(&machine), 4 + restarts);
        assert_eq!(held(&machine), "1", "the older one is let go");
    }
    // A service that is stopped keeps no state.
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.start();
    assert_eq!(count(&machine), 1);
}

#[test]
fn after_a_crash_of_the_daemon_a_plugin_has_the_state_that_was_saved_last() {
    let machine = three();
    machine.put_component("keeps", another("keeps"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!([count(&machine), count(&machine)], [4, 5]);
    wait_until_held(&machine, "1");
    for crashes in 1..=2 {
        let pid = machine.daemon("MainPID");
        machine.signal("plugind.service", "KILL");
        let restarted = || {
            let is_new = machine.daemon("MainPID") != pid;
            (is_new && machine.daemon("ActiveState") == "active").then_some(())
        };
        eventually(&format!("start {crashes}"), restarted);
        assert_eq!(count(&machine), 4, "as when it was saved");
    }
    assert_eq!(held(&machine), "1");
}

#[test]
fn the_state_of_a_removed_plugin_is_discarded() {
    let machine = three();
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(held(&machine), "1");
    machine.succeed(&["rm", "/etc/plugind/plugins/keeps.wasm"]);
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    wait_until_held(&machine, "0");
    machine.put_guest("keeps", "keeps");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(count(&machine), 1);

    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(held(&machine), "1");
    // Also when it goes while there is no daemon that could notice, unless no plugin is found: a mount may be missing then.
    machine.succeed(&["rm", "/etc/plugind/plugins/keeps.wasm"]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    machine.wait_for_entry(&["MISSING=keeps"]);
    assert_eq!(held(&machine), "1");
    machine.put_guest("hello", "hello");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/keeps").status(), 404);
    wait_until_held(&machine, "0");
}

#[test]
fn a_state_that_is_not_taken_back_keeps_the_plugin_from_serving_and_nobody_else() {
    let machine = three();
    machine.put_guest("hello", "hello");
    machine.put("/etc/plugind/plugind.toml", "serve-previous = false\n");
    // Required or not: the daemon served without any trouble before it was restarted.
    machine.put_manifest("keeps", "[config]\nrestore = \"fail\"\n");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    let entry = machine.wait_for_entry(&[&message("INSTANCE_FAILED"), "PLUGIN=keeps"]);
    let error = entry.field("ERROR");
    assert!(error.contains("it cannot restore the state"), "{error}");
    assert_eq!(machine.get("/keeps").status(), 503);
    assert_eq!(machine.get("/hello").status(), 200);
    machine.put_manifest("keeps", "");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(count(&machine), 4, "what was saved is still there");
}

#[test]
fn nothing_is_lost_or_counted_twice_by_reloads_that_hand_over() {
    let machine = Machine::boot_with(&["keeps"]);
    machine.start();
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = |keeps: bool| {
        let mut kept: Option<Connection> = None;
        while !over.load(Relaxed) {
            let mut client = kept.take().unwrap_or_else(|| machine.connect());
            let answer = client.get("/keeps/pause/5");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answered.fetch_add(1, Relaxed);
            kept = Some(client).filter(|_| keeps);
        }
    };
    thread::scope(|scope| {
        let clients = [true, true, false, false].map(|keeps| scope.spawn(move || client(keeps)));
        for _ in 0..10 {
            let before = answered.load(Relaxed);
            eventually("more answers", || (answered.load(Relaxed) > before + 20).then_some(()));
            machine.put_component("keeps", another("keeps"));
            machine.succeed(&["systemctl", "reload", "plugind.service"]);
        }
        over.store(true, Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(count(&machine), answered.load(Relaxed) + 1);
    assert_eq!(crate::count(&machine, "PLUGIN_READY", "PLUGIN=keeps"), 11);
}

#[test]
fn a_handover_that_fails_leaves_the_old_version_serving_with_what_it_keeps() {
    let machine = three();
    machine.put_manifest("keeps", "[config]\nrestore = \"fail\"\n");
    let reload = machine.systemctl(&["reload", "plugind.service"]);
    assert_ne!(reload.status, 0, "{reload:?}");
    let status = machine.daemon("StatusText");
    assert!(status.contains("keeps"), "{status}");
    let entry = machine.wait_for_entry(&[&message("PLUGIN_FAILED"), "PLUGIN=keeps"]);
    assert_eq!(entry.field("STAGE"), "handover");
    assert!(entry.field("ERROR").contains("it cannot restore the state"), "{entry:?}");
    assert_eq!(count(&machine), 4);

    machine.put_manifest("keeps", "[config]\nsave = \"fail\"\n");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(count(&machine), 5);
    machine.put_manifest("keeps", "");
    let reload = machine.systemctl(&["reload", "plugind.service"]);
    assert_ne!(reload.status, 0, "{reload:?}");
    assert_eq!(count(&machine), 6);
}
