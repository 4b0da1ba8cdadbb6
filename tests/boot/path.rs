//! With plugind-reload.path, a file that is copied into a directory is served without a command.

use crate::HELLO;
use plugind_tests::{Machine, another, eventually, guest};
use std::fs;

const PLUGINS: &str = "/etc/plugind/plugins";

/// Copies as cp(1) does: the file is there before it is whole.
fn copy(machine: &Machine, name: &str, contents: &[u8]) {
    fs::write(machine.path(&format!("{PLUGINS}/{name}")), contents).unwrap();
}

fn wait_for_answer(machine: &Machine, path: &str, answer: (u16, &str)) {
    eventually(&format!("{answer:?} from {path}"), || {
        (machine.get(path).status_and_text() == answer).then_some(())
    });
}

fn machine() -> Machine {
    let machine = Machine::boot();
    machine.start();
    machine.succeed(&["systemctl", "start", "plugind-reload.path"]);
    machine
}

#[test]
fn a_file_that_is_copied_in_is_served_and_one_that_is_removed_is_not() {
    let machine = machine();
    let pid = machine.daemon("MainPID");
    copy(&machine, "hello.wasm", &fs::read(guest("hello")).unwrap());
    wait_for_answer(&machine, "/hello", (200, HELLO));
    fs::remove_file(machine.path(&format!("{PLUGINS}/hello.wasm"))).unwrap();
    wait_for_answer(&machine, "/hello", (404, "no plugin serves this path\n"));
    // A directory that was not there when the watch began.
    machine.put("/run/plugind/plugins/hello.wasm", fs::read(guest("hello")).unwrap());
    wait_for_answer(&machine, "/hello", (200, HELLO));
    assert_eq!(machine.daemon("MainPID"), pid);
}

#[test]
fn after_a_burst_of_copies_the_newest_versions_serve() {
    let machine = machine();
    for round in 1..=3 {
        for number in 0..10 {
            copy(&machine, &format!("hello-{number}.wasm"), &another("hello"));
            let manifest = format!("[config]\ngreeting = \"Round {round}\"\n");
            copy(&machine, &format!("hello-{number}.toml"), manifest.as_bytes());
        }
    }
    for number in 0..10 {
        let answer = format!("Round 3 from hello-{number}\n");
        wait_for_answer(&machine, &format!("/hello-{number}"), (200, &answer));
    }
    assert_eq!(machine.property("plugind-reload.path", "ActiveState"), "active");
    assert_eq!(machine.property("plugind-reload.service", "Result"), "success");
}

#[test]
fn what_changes_during_a_reload_is_seen_by_the_next() {
    let machine = machine();
    copy(&machine, "hello.wasm", &fs::read(guest("hello")).unwrap());
    wait_for_answer(&machine, "/hello", (200, HELLO));
    for greeting in ["One", "Two", "Three"] {
        // It takes a while to become ready, and the reload with it.
        copy(&machine, "warmup.wasm", &another("warmup"));
        machine.wait_for("ActiveState", |state| state == "reloading");
        let manifest = format!("[config]\ngreeting = \"{greeting}\"\n");
        copy(&machine, "hello.toml", manifest.as_bytes());
        wait_for_answer(&machine, "/hello", (200, &format!("{greeting} from hello\n")));
        machine.wait_for("ActiveState", |state| state == "active");
    }
}

#[test]
fn nothing_is_started_by_a_change() {
    let machine = machine();
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    let before = machine.property("plugind-reload.service", "InactiveEnterTimestampMonotonic");
    copy(&machine, "hello.wasm", &fs::read(guest("hello")).unwrap());
    eventually("the change to be noticed", || {
        let ended = machine.property("plugind-reload.service", "InactiveEnterTimestampMonotonic");
        (ended != before && ended != "0").then_some(())
    });
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    assert_eq!(machine.property("plugind-reload.service", "Result"), "exec-condition");
    assert_eq!(machine.property("plugind-reload.path", "ActiveState"), "active");
}
