//! The Debian package does what an administrator expects of one: installed, upgraded, removed and purged.

use crate::{CLIENTS, HELLO};
use plugind_tests::{Load, Machine, debian_package};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// Makes the same package with another version, which is all that dpkg needs to call it an upgrade.
pub(crate) fn next_version(package: &Path) -> PathBuf {
    let directory = package.with_file_name("next");
    let succeed = |command: &mut Command| assert!(command.status().unwrap().success());
    succeed(Command::new("dpkg-deb").arg("--raw-extract").args([package, &directory]));
    let control = directory.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap().replace("0.0.1-1", "0.0.1-2");
    fs::write(control, text).unwrap();
    let next = package.with_file_name("next.deb");
    succeed(Command::new("dpkg-deb").args(["-Znone", "--build"]).args([&directory, &next]));
    next
}

pub(crate) fn install(machine: &Machine, package: &Path) {
    machine.put("var/tmp/package.deb", fs::read(package).unwrap());
    machine.succeed(&["dpkg", "--install", "/var/tmp/package.deb"]);
    machine.succeed(&["rm", "/var/tmp/package.deb"]);
}

/// The files whose names contain that of the daemon, below the directories that a package writes to.
fn left(machine: &Machine) -> Vec<String> {
    let find = ["find", "/etc", "/usr", "/var", "-xdev", "-path", "*plugind*"];
    let logs = ["-not", "-path", "/var/log/*", "-not", "-path", "/var/cache/man/*"];
    let found = machine.succeed(&[find.as_slice(), &logs].concat());
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn a_package_is_upgraded_under_load_and_purged_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let first = debian_package(directory.path(), "0.0.1-1");
    let second = next_version(&first);
    let machine = Machine::boot_without();
    assert_eq!(left(&machine), [""; 0]);

    install(&machine, &first);
    for unit in ["plugind-http.socket", "plugind-control.socket", "plugind-compile.socket"] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.property(unit, "UnitFileState"), "enabled", "{unit}");
    }
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.daemon("UnitFileState"), "enabled");
    for unit in ["plugind-reload.path", "plugind-metrics.socket"] {
        assert_eq!(machine.property(unit, "UnitFileState"), "disabled", "{unit}");
    }
    machine.put_guest("hello", "hello");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));

    let before = machine.daemon("MainPID");
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        load.wait_for(200);
        install(&machine, &second);
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_ne!(machine.daemon("MainPID"), before, "the daemon is the previous version");

    machine.succeed(&["dpkg", "--remove", "plugind"]);
    assert_eq!(machine.run(&["systemctl", "cat", "plugind.service"]).status, 1);
    let listening = machine.succeed(&["systemctl", "list-sockets", "--no-legend"]);
    assert!(!listening.contains("plugind"), "{listening}");
    // A removal keeps the state, for the package may come back.
    assert!(machine.path("var/lib/private/plugind").exists());

    machine.succeed(&["dpkg", "--purge", "plugind"]);
    let written = ["/etc/plugind", "/etc/plugind/plugins", "/etc/plugind/plugins/hello.wasm"];
    assert_eq!(left(&machine), written);
}
