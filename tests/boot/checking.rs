//! `pluginctl check` knows the users and the limits of the units, and refuses what the daemon and the compiler would refuse.

use crate::HELLO;
use plugind_tests::{Machine, Ran, golden, guest};
use rustix::fs::{XattrFlags, setxattr};
use std::fs;

/// Plugins with files, each of which needs a thread and several open files.
const PLUGINS: usize = 20;

fn check(machine: &Machine, options: &[&str]) -> Ran {
    machine.run(&[&["pluginctl", "check"], options].concat())
}

/// Proves that the daemon does not start with these plugins, one of which `status` names.
fn does_not_start(machine: &Machine, status: &str) {
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    let text = machine.daemon("StatusText");
    assert!(text.contains(status), "{text}");
}

#[test]
fn memory_beyond_the_limits_of_the_unit_is_reported_and_refused_by_the_daemon() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put_component("large", golden::component("large-memory"));
    machine.put_manifest("large", "[limits]\ninstance-memory-max = \"80M\"\n");
    // The kernel's file as well, where the daemon looks for it: not every kernel has this limit.
    let limit = |mib: u64| {
        let bytes = format!("{}\n", mib << 20);
        machine.put("/etc/groups/system.slice/plugind.service/memory.high", bytes);
        let lines = "Restart=no\nBindReadOnlyPaths=/etc/groups:/sys/fs/cgroup\n";
        machine.put_drop_in("plugind.service", &format!("[Service]\n{lines}MemoryHigh={mib}M\n"));
    };
    limit(100);
    let found = check(&machine, &["--no-compile"]);
    assert_eq!(found.status, 1, "{found:?}");
    let reported = "large.wasm begins with 80M of memory, and all plugins together may use 75M (three quarters of \
                    MemoryHigh= of plugind.service); raise that limit";
    assert!(found.errors.contains(reported), "{found:?}");
    assert!(found.output.contains("large   fails at start"), "{found:?}");
    // There might be room later, so it is tried again until the daemon gives up.
    machine.put("/etc/plugind/plugind.toml", "start-deadline-sec = \"6s\"\n");
    does_not_start(&machine, "plugin large failed at start: there is no room");
    machine.succeed(&["rm", "/etc/plugind/plugind.toml"]);
    limit(200);
    assert_eq!(check(&machine, &["--no-compile"]).status, 0);
    machine.start();
}

#[test]
fn within_the_limits_of_processes_that_check_accepts_all_plugins_start() {
    let machine = Machine::boot_with(&["hello"]);
    for nth in 0..PLUGINS {
        machine.put_component(&format!("files-{nth}"), fs::read(guest("files")).unwrap());
        machine.put_manifest(&format!("files-{nth}"), "[grants]\nstate = true\n");
    }
    for setting in ["LimitNOFILE", "TasksMax"] {
        let limit = |value: &str| {
            let lines = format!("[Service]\nRestart=no\n{setting}={value}\n");
            machine.put_drop_in("plugind.service", &lines);
        };
        limit("20");
        let found = check(&machine, &["--no-compile"]);
        assert_eq!(found.status, 1, "{found:?}");
        let low = format!("{setting}=20 of plugind.service is too low");
        assert!(found.errors.contains(&low), "{found:?}");
        if setting == "LimitNOFILE" {
            does_not_start(&machine, "");
        }
        let (_, least) = found.errors.split_once("set at least ").unwrap();
        limit(least.split_once(',').unwrap().0);
        let found = check(&machine, &["--no-compile"]);
        assert_eq!(found.status, 0, "{found:?}");
        machine.start();
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        let ready = format!("{0} of {0} plugins ready", PLUGINS + 1);
        assert_eq!(machine.daemon("StatusText"), ready);
        machine.succeed(&["systemctl", "stop", "plugind.target"]);
        machine.wait_for("ActiveState", |state| state == "inactive");
    }
}

#[test]
fn check_compiles_with_as_little_memory_as_the_unit_of_the_compiler_has() {
    let machine = Machine::boot_with(&["hello"]);
    assert_eq!(check(&machine, &[]).errors, "");
    let limit = |max| {
        let lines = format!("[Service]\nMemoryMax={max}\n");
        machine.put_drop_in("plugind-compile@.service", &lines);
        check(&machine, &[])
    };
    let found = limit("64M");
    assert!(found.output.contains("hello   fails at compile"), "{found:?}");
    let note = "a compilation may use 64M of memory, by MemoryMax= of plugind-compile@.service";
    assert!(found.errors.contains(note), "{found:?}");
    assert_eq!(check(&machine, &["--no-unit"]).status, 0);
    let found = limit("20M");
    let too_low = "MemoryMax= of plugind-compile@.service must be at least 64M";
    assert!(found.status == 1 && found.errors.contains(too_low), "{found:?}");
    assert_eq!(limit("1G").status, 0);
}

/// An access control list (acl(5)) that lets only the owner and this user read a file, as the kernel stores it.
fn list(user: u32, mask: u16) -> Vec<u8> {
    let entries = [(1, 6, !0), (2, 4, user), (4, 0, !0), (0x10, mask, !0), (0x20, 0, !0)];
    let bytes = entries.iter().flat_map(|(kind, permissions, id): &(u16, u16, u32)| {
        [&kind.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(bytes).collect()
}

#[test]
fn check_and_the_daemon_read_what_an_access_control_list_permits() {
    let machine = Machine::boot_with(&["hello"]);
    // A user that exists is used, instead of one that systemd chooses.
    machine.put_drop_in("plugind.service", "[Service]\nUser=daemon\nRestart=no\n");
    let user = machine.succeed(&["id", "--user", "daemon"]).trim().parse().unwrap();
    let component = "/etc/plugind/plugins/hello.wasm";
    let permit = |mask| {
        let path = machine.path(component);
        let attribute = "system.posix_acl_access";
        setxattr(path, attribute, &list(user, mask), XattrFlags::empty()).unwrap();
    };
    permit(0);
    let found = check(&machine, &["--no-compile"]);
    let unreadable = "hello.wasm: the user of plugind.service cannot read it";
    assert!(found.status == 1 && found.errors.contains(unreadable), "{found:?}");
    does_not_start(&machine, "hello.wasm");
    permit(4);
    assert_eq!(check(&machine, &["--no-compile"]).status, 0);
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}
