//! A daemon that has nothing to do ends, and its sockets start it again without losing a connection.

use crate::{handover::count, message};
use plugind_tests::Machine;
use std::{
    env,
    io::{Write, stderr},
};

/// The number of starts by a client, under the systemd of this machine, and under others.
const ROUNDS: [u64; 2] = [200, 20];

/// A machine with these guests, whose daemon ends when it has been idle for a second.
fn machine(guests: &[&str]) -> Machine {
    machine_with("1s", guests)
}

/// The same with another time.
fn machine_with(idle: &str, guests: &[&str]) -> Machine {
    let machine = Machine::boot_with(guests);
    machine.put("/etc/plugind/plugind.toml", format!("exit-on-idle-sec = \"{idle}\"\n"));
    machine.put_drop_in("plugind.service", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.reload_units();
    machine
}

fn wait_until_ended(machine: &Machine) {
    machine.wait_for("ActiveState", |state| state == "inactive");
}

#[test]
fn a_daemon_that_ends_on_idle_is_started_by_each_client_with_its_state() {
    let machine = machine_with("100ms", &["keeps", "hello"]);
    machine.put_manifest("hello", "on-demand = true\n");
    machine.start();
    let rounds = ROUNDS[usize::from(env::var_os("PLUGIND_TEST_ROOT").is_some())];
    for round in 1..=rounds {
        // While it ends, and when it has ended.
        match round % 2 {
            0 => drop(machine.wait_for("ActiveState", |state| state != "active")),
            _ => wait_until_ended(&machine),
        }
        assert_eq!(count(&machine), round, "it has the state of the daemon before");
        assert_eq!(machine.get("/hello").status(), 200);
    }
    wait_until_ended(&machine);
    assert_eq!(machine.daemon("Result"), "success");
    assert_eq!(machine.daemon("ExecMainStatus"), "0");
    assert_eq!(machine.daemon("NRestarts"), "0", "it never failed");
    let ended = machine.journal(&[&message("EXITING_ON_IDLE")]).len();
    // A client that comes while it ends may be served by the one that ends.
    assert!(ended as u64 > rounds / 2, "{ended}");
    // Printed even if the test passes.
    writeln!(stderr(), "{rounds} rounds, {ended} ends on idle, 0 clients refused")
        .expect("standard error is open");
    assert_eq!(machine.journal(&[&message("INSTANCE_FAILED")]).len(), 0);
    assert_eq!(machine.journal(&[&message("DAEMON_FAILED")]).len(), 0);
}

#[test]
fn a_plugin_that_an_operator_stopped_keeps_the_daemon_until_it_is_started() {
    let machine = machine(&["hello", "sleeps"]);
    machine.start();
    machine.succeed(&["pluginctl", "stop", "hello"]);
    assert_eq!(machine.get("/sleeps/sleep/3000").status(), 200);
    assert_eq!(machine.get("/hello").status(), 503, "the same daemon serves");
    machine.succeed(&["pluginctl", "start", "hello"]);
    wait_until_ended(&machine);
    assert_eq!(machine.journal(&[&message("EXITING_ON_IDLE")]).len(), 1);
}

#[test]
fn requests_and_programs_keep_the_daemon_running_and_idle_connections_do_not() {
    let machine = machine(&["sleeps"]);
    machine.start();
    let mut kept = machine.connect();
    assert_eq!(kept.get("/sleeps/sleep/3000").status(), 200);
    assert_eq!(machine.journal(&[&message("EXITING_ON_IDLE")]).len(), 0, "a request was served");
    // The connection is open, and has no request.
    wait_until_ended(&machine);
    assert_eq!(machine.journal(&[&message("EXITING_ON_IDLE")]).len(), 1);
    drop(kept);

    // It waits for its next run.
    machine.put_guest("program-ends", "program_ends");
    let manifest =
        "[service]\nrestart = \"always\"\nrestart-sec = \"1h\"\nrestart-max-delay-sec = \"1h\"\n";
    machine.put_manifest("program-ends", manifest);
    machine.start();
    assert_eq!(machine.get("/sleeps/sleep/3000").status(), 200);
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.journal(&[&message("EXITING_ON_IDLE")]).len(), 1, "a program runs");
}
