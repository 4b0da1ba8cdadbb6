//! The installed files are accepted by this systemd: units, sandbox and catalog.

use crate::package::left;
use plugind_tests::Machine;
use std::{collections::BTreeSet, fs, path::Path, process::Command};

const UNITS: [&str; 9] = [
    "plugind.service",
    "plugind-http.socket",
    "plugind-control.socket",
    "plugind-compile.socket",
    "plugind-metrics.socket",
    "plugind-report.socket",
    "plugind-compile@.service",
    "plugind-reload.path",
    "plugind-reload.service",
];

/// The version of the systemd that was booted.
pub(crate) fn version(machine: &Machine) -> u32 {
    let reported = machine.succeed(&["systemctl", "--version"]);
    let version = reported.split_whitespace().nth(1).unwrap();
    version.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn systemd_reports_only_unknown_settings_in_the_units() {
    let machine = Machine::boot();
    let verify = [&["systemd-analyze", "verify", "--man=no"], UNITS.as_slice()].concat();
    let outcome = machine.run(&verify);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let reported = outcome.output + &outcome.errors;
    let about_us = reported.lines().filter(|line| line.contains("plugind"));
    let mut known: &[&str] = &[
        "notify-reload",
        "ReloadSignal",
        "RefreshOnReload",
        "RestartSteps",
        "RestartMaxDelaySec",
        "ImportCredential",
    ];
    if version(&machine) >= 254 {
        known = &["RefreshOnReload"];
    }
    if version(&machine) >= 260 {
        known = &[];
    }
    for line in about_us {
        assert!(known.iter().any(|known| line.contains(known)), "{line}");
    }
}

#[test]
fn the_daemon_and_its_compiler_are_hardly_exposed_whatever_the_version() {
    let machine = Machine::boot();
    for (unit, tenths) in [("plugind.service", 1), ("plugind-compile@.service", 3)] {
        let threshold = format!("--threshold={tenths}");
        let unit = format!("/usr/lib/systemd/system/{unit}");
        let checker = ["systemd-analyze", "security", "--no-pager", "--offline=true"];
        machine.succeed(&[checker.as_slice(), &[&threshold, &unit]].concat());
    }
}

#[test]
fn a_start_makes_nothing_in_the_root_directory_so_that_usr_may_be_read_only() {
    let machine = Machine::boot_with(&["hello"]);
    let list = || machine.succeed(&["find", "/usr/lib/plugind/root"]);
    let installed = list();
    machine.start();
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(list(), installed);
}

#[test]
fn the_units_are_enabled_started_by_the_targets_of_a_system_and_uninstalled() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["systemctl", "enable", "plugind.service", "plugind-reload.path"]);
    machine.succeed(&["systemctl", "start", "sockets.target"]);
    for unit in ["plugind-http.socket", "plugind-control.socket", "plugind-compile.socket"] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
    }
    machine.succeed(&["systemctl", "start", "multi-user.target"]);
    machine.wait_for("ActiveState", |state| state == "active");
    assert_eq!(machine.property("plugind-reload.path", "ActiveState"), "active");
    assert_eq!(machine.get("/hello").status(), 200);
    uninstall(&machine);
}

/// Does what `make uninstall` does, and sees that only what others have added is left.
fn uninstall(machine: &Machine) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = machine.path("var/tmp/sources");
    fs::create_dir(&sources).unwrap();
    let copied = Command::new("cp")
        .args(["-r", "--parents", "tests/uninstall", "units", "host/man"])
        .arg(&sources)
        .current_dir(top)
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    machine.succeed(&["env", "DESTDIR=", "PREFIX=/usr", "/var/tmp/sources/tests/uninstall"]);
    machine.succeed(&["rm", "-r", "/var/tmp/sources"]);
    let loaded = ["systemctl", "list-units", "--all", "--no-legend", "--plain", "plugind*"];
    assert_eq!(machine.succeed(&loaded), "");
    assert_eq!(machine.run(&["systemctl", "cat", "plugind.service"]).status, 1);
    let is_kept = |path: &String| !path.starts_with("/var/lib") && !path.starts_with("/var/cache");
    let written = ["/etc/plugind", "/etc/plugind/plugins", "/etc/plugind/plugins/hello.wasm"];
    assert_eq!(left(machine).into_iter().filter(is_kept).collect::<Vec<_>>(), written);
}

#[test]
fn the_catalog_is_shown_beside_an_entry() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.wait_for_entry(&[&super::message("PLUGIN_READY"), "PLUGIN=hello"]);
    let reported = machine.succeed(&["journalctl", "--catalog", "--no-pager", "PLUGIN=hello"]);
    assert!(reported.contains("Subject: Plugin hello is ready"), "{reported}");
}

#[test]
fn the_daemon_is_restricted_by_its_sandbox() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    let pid = machine.daemon("MainPID");
    let status = machine.succeed(&["cat", &format!("/proc/{pid}/status")]);
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name}: {status}")).trim().to_owned()
    };
    assert_eq!(value("CapBnd"), "0000000000000000");
    assert_eq!(value("NoNewPrivs"), "1");
    assert_eq!(value("Seccomp"), "2");
    // It has a user of its own, and no network but its loopback.
    assert!(!value("Uid").starts_with("0\t"), "{status}");
    let network = machine.succeed(&["cat", &format!("/proc/{pid}/net/dev")]);
    let interfaces = network.lines().skip(2).map(|line| line.split(':').next().unwrap().trim());
    assert_eq!(interfaces.collect::<Vec<_>>(), ["lo"]);
    let lo = |pid: &str| machine.succeed(&["readlink", &format!("/proc/{pid}/ns/net")]);
    assert_ne!(lo(&pid), lo("1"));
    // Directories that are not the daemon's own cannot be written, not even by root.
    let touch = |place: &str| {
        machine.run(&["touch", &format!("/proc/{pid}/root{place}/somebody-was-here")]).status == 0
    };
    for place in
        ["", "/dev", "/etc/plugind", "/run", "/run/plugind", "/usr", "/usr/lib/plugind", "/var/lib"]
    {
        assert!(!touch(place), "{place}");
    }
    for place in ["/var/lib/plugind", "/tmp"] {
        assert!(touch(place), "{place}");
    }
    // Nor is more there than it needs, beside places for what a drop-in may bind.
    let find = format!("find /proc/{pid}/root/etc /proc/{pid}/root/usr/bin -type f -size +0");
    let seen = machine.succeed(&find.split(' ').collect::<Vec<_>>());
    let seen: BTreeSet<_> = seen.lines().filter_map(|line| line.split("/root/").nth(1)).collect();
    let expected = ["etc/plugind/plugins/hello.wasm", "usr/bin/pluginctl", "usr/bin/plugind"];
    assert_eq!(seen, BTreeSet::from(expected));
}
