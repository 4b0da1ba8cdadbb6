//! The machine that the other tests need: systemd is its first process, and it leaves no traces.

use plugind_tests::{Machine, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path};

/// Returns the traces of a machine with this name on its host: cgroups and mounts.
fn traces(name: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let hierarchies = hierarchies.map(|line| line.split(' ').nth(4).unwrap());
    let cgroups = hierarchies.flat_map(|hierarchy| fs::read_dir(hierarchy).unwrap());
    let cgroups = cgroups.map(|entry| entry.unwrap().path().display().to_string());
    let mounts = mounts.lines().map(str::to_owned);
    cgroups.chain(mounts).filter(|line| line.contains(name)).collect()
}

#[test]
fn systemd_is_its_first_process_and_has_read_the_units() {
    let machine = Machine::boot();
    assert_eq!(machine.succeed(&["cat", "/proc/1/comm"]), "systemd\n");
    assert_eq!(machine.succeed(&["systemctl", "is-system-running"]), "running\n");
    assert_eq!(machine.daemon("LoadState"), "loaded");
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    machine.succeed(&["logger", "--tag", "somebody", "one\ttwo"]);
    let entry = machine.wait_for_entry(&["SYSLOG_IDENTIFIER=somebody"]);
    assert_eq!((entry.field("MESSAGE"), entry.field("PRIORITY")), ("one\ttwo", "5"));
    assert_eq!(machine.run(&["sh", "-c", "exit 7"]).status, 7);
}

#[test]
fn a_machine_leaves_nothing_behind() {
    let machine = Machine::boot();
    let name = machine.name().to_owned();
    assert_ne!(traces(&name), [""; 0]);
    drop(machine);
    assert_eq!(traces(&name), [""; 0]);
}

#[test]
fn a_machine_whose_script_is_killed_leaves_nothing_for_the_next_one() {
    let machine = Machine::boot();
    let name = machine.name().to_owned();
    // Only cgroups of version 2 have it.
    let mut events = traces(&name).into_iter().map(|trace| Path::new(&trace).join("cgroup.events"));
    let processes = events.find(|events| events.exists()).unwrap();
    let there_are = |state| fs::read_to_string(&processes).unwrap().contains(state);
    assert!(there_are("populated 1"));
    let supervisor = Pid::from_raw(machine.supervisor().cast_signed()).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    eventually("the end of all its processes", || there_are("populated 0").then_some(()));
    drop(machine);
    drop(Machine::boot());
    assert_eq!(traces(&name), [""; 0]);
}
