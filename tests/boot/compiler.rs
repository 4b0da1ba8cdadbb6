//! The compiler is a service of its own, which alone has the cache, and which nobody but the daemon reaches.

use plugind_tests::{Machine, another};

const SOCKET: &str = "/run/plugind-compile/socket";
const UNIT: &str = "plugind-compile@.service";

/// Says with its exit status whether somebody can connect to the socket: Python is not on every machine, and Perl is.
const CONNECT: &str = "use Socket; socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die \"socket: $!\"; \
                       connect($s, sockaddr_un('/run/plugind-compile/socket')) or die \"connect: $!\";";

/// The compiled files, as `MODE OWNER NAME`.
fn entries(machine: &Machine) -> Vec<String> {
    let listed = machine.succeed(&[
        "find",
        "/var/cache/private/plugind",
        "-type",
        "f",
        "-printf",
        "%m %U %f\n",
    ]);
    listed.lines().map(str::to_owned).collect()
}

/// The user of the daemon.
fn daemons_user(machine: &Machine) -> String {
    let status = machine.succeed(&["cat", &format!("/proc/{}/status", machine.daemon("MainPID"))]);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn plugins_are_compiled_by_a_service_that_alone_has_the_compiled_files() {
    let machine = Machine::boot_with(&["hello", "greeter_02"]);
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.get("/greeter-02").status(), 200);
    let entries = entries(&machine);
    assert_eq!(entries.len(), 2, "{entries:?}");
    let user = daemons_user(&machine);
    for entry in &entries {
        let mut words = entry.split(' ');
        assert_eq!(words.next(), Some("444"), "{entry}");
        assert_ne!(words.next(), Some(user.as_str()), "{entry}");
        assert!(entry.ends_with(".cwasm"), "{entry}");
    }
    // The daemon sees them nowhere but in its own mount, and only after the first compilation.
    let seen = format!("/proc/{}/root", machine.daemon("MainPID"));
    machine.succeed(&["test", "-e", &format!("{seen}/var/lib/plugind")]);
    for place in ["/var/cache/plugind", "/var/cache/private"] {
        let there = machine.run(&["test", "-e", &format!("{seen}{place}")]);
        assert_eq!(there.status, 1, "{place}: {there:?}");
    }
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let listed =
        machine.run(&["setpriv", "--clear-groups", &uid, &gid, "ls", "/var/cache/plugind/"]);
    assert!(listed.errors.contains("Permission denied"), "{listed:?}");
}

#[test]
fn the_daemon_reads_compiled_files_by_name_and_can_neither_list_nor_write_them() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status(), 200);
    let pid = machine.daemon("MainPID");
    let maps = machine.succeed(&["cat", &format!("/proc/{pid}/maps")]);
    let code = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(".cwasm"));
    assert!(code.is_some_and(|line| line.contains("/run/plugind-compile/cache/")), "{maps}");
    let cache = format!("/proc/{pid}/root/run/plugind-compile/cache");
    let [entry] = &entries(&machine)[..] else { panic!("there is not one entry") };
    let file = format!("{cache}/{}", entry.split(' ').next_back().unwrap());
    let user = daemons_user(&machine);
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let by_daemon = |command: &[&str]| {
        machine.run(&[&["setpriv", "--clear-groups", &uid, &gid], command].concat()).status == 0
    };
    let mount = machine.succeed(&["cat", &format!("/proc/{pid}/mountinfo")]);
    let mount = mount.lines().find(|line| line.contains(" /run/plugind-compile/cache "));
    assert!(mount.is_some_and(|mount| mount.contains(" ro,")), "{mount:?}");
    // Not even root can write there.
    for command in [["touch", &file].as_slice(), &["touch", &format!("{cache}/new")]] {
        assert_ne!(machine.run(command).status, 0, "{command:?}");
        assert!(!by_daemon(command), "{command:?}");
    }
    assert_eq!(machine.succeed(&["stat", "--format=%a", &cache]), "711\n");
}

#[test]
fn a_warm_start_and_a_reload_without_changes_start_no_compiler() {
    let machine = Machine::boot_with(&["hello", "greeter_02"]);
    machine.start();
    let started = || machine.property("plugind-compile.socket", "NAccepted");
    let before = started();
    assert_ne!(before, "0");
    machine.succeed(&["systemctl", "stop", "plugind.service", "plugind-compile@*.service"]);
    let messages = || machine.journal(&["UNIT=plugind-compile.socket"]).len();
    let logged = messages();
    machine.start();
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.get("/greeter-02").status(), 200);
    assert_eq!(started(), before);
    assert_eq!(messages(), logged);
    let units = machine.succeed(&["systemctl", "list-units", "--all", "plugind-compile@*"]);
    assert!(!units.contains("plugind-compile@"), "{units}");
    // What is new is compiled as before.
    machine.put_component("new", another("hello"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/new").status(), 200);
    assert_ne!(started(), before);
}

#[test]
fn what_was_compiled_is_there_after_a_restart() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let before = entries(&machine);
    // Whatever would be compiled now would fail.
    machine.put_drop_in(
        UNIT,
        "[Service]\nExecStart=\nExecStart=/usr/libexec/plugind/plugind-compile --memory-max=20000000\n",
    );
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(entries(&machine), before);
    machine.put_component("new", another("hello"));
    let reload = machine.run(&["pluginctl", "reload"]);
    assert!(reload.errors.contains("its worker ended without a result"), "{reload:?}");
}

#[test]
fn the_compiler_has_landlock_under_the_unit_and_reports_if_not() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let reported = || {
        let reported = machine.journal(&["_COMM=plugind-compile"]);
        reported.iter().filter(|entry| entry.field("MESSAGE").contains("no Landlock")).count()
    };
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(reported(), 0);
    let filter = "[Service]\nSystemCallFilter=~landlock_create_ruleset\n";
    machine.put_drop_in("plugind-compile@.service", filter);
    machine.succeed(&["systemctl", "restart", "plugind-compile.socket", "plugind.service"]);
    machine.put_component("hello", another("hello"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert!(reported() > 0, "nobody says so");
}

#[test]
fn nobody_but_the_daemon_and_root_reaches_the_compiler() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.succeed(&["perl", "-e", CONNECT]);
    let service = ["systemd-run", "--pipe", "--wait", "--quiet", "--property=DynamicUser=yes"];
    for by in [["setpriv", "--reuid=65534", "--clear-groups"].as_slice(), &service] {
        let connected = machine.run(&[by, &["perl", "-e", CONNECT]].concat());
        assert_ne!(connected.status, 0, "{by:?}: {connected:?}");
        let reported = format!("{}{}", connected.output, connected.errors);
        assert!(reported.contains("connect: Permission denied"), "{by:?}: {connected:?}");
    }
    let mode = machine.succeed(&["stat", "--format=%a %U", "/run/plugind-compile", SOCKET]);
    assert_eq!(mode, "700 root\n666 root\n");
}

#[test]
fn a_compiler_that_hangs_dies_or_answers_malformed_fails_its_plugin() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    // Components that are compiled by now need no time.
    machine.put("/etc/plugind/plugind.toml", "[compile]\ntimeout-sec = \"2s\"\n");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    for (name, script, why) in [
        ("hangs", "exec sleep 100", "the compiler gave no answer within 10s"),
        ("dies", "kill -KILL $$", "the compiler failed"),
        ("nonsense", "head -c1 >/dev/null; echo nonsense >&0", "malformed message"),
        ("refuses", "head -c1 >/dev/null; printf 'plugind-compile/2 refused no' >&0", "no"),
    ] {
        let program = format!("/usr/libexec/plugind/{name}");
        machine.put(&program, format!("#!/bin/sh\n{script}\n"));
        machine.succeed(&["chmod", "755", &program]);
        machine.put_drop_in(
            UNIT,
            &format!("[Service]\nExecStart=\nExecStart={program}\nExecPaths=/usr/bin /bin\n"),
        );
        // Those that wait for another request have the previous settings. The daemon notices that they have ended.
        machine.succeed(&["systemctl", "stop", "plugind-compile@*.service"]);
        machine.put_component("new", another("hello"));
        let reload = machine.run(&["pluginctl", "reload"]);
        assert_eq!(reload.status, 1, "{name}: {reload:?}");
        let reported =
            reload.errors.lines().find(|line| line.starts_with("new: failed at compile"));
        assert!(reported.is_some_and(|reported| reported.contains(why)), "{name}: {reload:?}");
        assert_eq!(machine.get("/hello").status(), 200, "{name}");
        assert_eq!(machine.get("/new").status(), 503, "{name}");
    }
    assert_eq!(machine.daemon("NRestarts"), "0");
    // None of them stays when nobody waits for it.
    plugind_tests::eventually("the end of what hangs", || {
        let listed = machine.succeed(&["systemctl", "list-units", "--all", "plugind-compile@*"]);
        (!listed.contains("plugind-compile@")).then_some(())
    });
}

#[test]
fn plugins_start_where_compiled_code_cannot_be_kept_and_the_status_says_so() {
    let machine = Machine::boot_with(&["hello"]);
    let starts = |why: &str| {
        machine.succeed(&["systemctl", "stop", "plugind.service", "plugind-compile@*.service"]);
        machine.start();
        assert_eq!(machine.get("/hello").status(), 200, "{why}");
        let status = machine.daemon("StatusText");
        assert!(status.contains("; compiled code is not kept: "), "{why}: {status}");
        assert!(status.contains(why), "{why}: {status}");
    };
    // Too small for any compiled file.
    let mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", "/var/cache"];
    machine.succeed(&mount);
    starts("No space left on device");
    machine.put_component("second", another("hello"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/second").status(), 200);
    machine.succeed(&["mount", "-o", "remount,ro", "/var/cache"]);
    starts("Read-only file system");
    let maps = machine.succeed(&["cat", &format!("/proc/{}/maps", machine.daemon("MainPID"))]);
    let code = maps.lines().filter(|line| line.contains(" r-xp ") && line.contains("/memfd:"));
    assert_eq!(code.count(), 2, "{maps}");
    assert!(!maps.contains("wx"), "{maps}");

    // Where systemd could not make the directory, it must not be asked to.
    machine.succeed(&["umount", "/var/cache"]);
    machine.succeed(&["mount", "-t", "tmpfs", "-o", "ro,mode=755", "tmpfs", "/var/cache"]);
    machine.put_drop_in(UNIT, "[Service]\nCacheDirectory=\n");
    starts("there is no directory for compiled files");

    machine.succeed(&["umount", "/var/cache"]);
    machine.put_drop_in(UNIT, "[Service]\nCacheDirectory=plugind\n");
    machine.succeed(&["systemctl", "stop", "plugind-compile@*.service"]);
    machine.put_component("second", another("hello"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    machine.wait_for("StatusText", |status| !status.contains("compiled code is not kept"));
    assert_eq!(entries(&machine).len(), 1);
}

#[test]
fn code_on_a_noexec_file_system_runs_if_the_unit_allows_it_or_fails_with_a_remedy() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["mount", "-t", "tmpfs", "-o", "noexec,mode=755", "tmpfs", "/var/cache"]);
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    machine.succeed(&["systemctl", "stop", "plugind.service", "plugind-compile@*.service"]);
    let find = ["find", "/var/cache/private/plugind", "-type", "f", "-printf", "%f %i %T@\\n"];
    let compiled = machine.succeed(&find);
    assert_eq!(compiled.lines().count(), 1, "{compiled}");

    let without = "[Service]\nExecPaths=\nExecPaths=/usr/libexec/plugind /usr/lib -/usr/lib64\n";
    // The daemon reads the cache itself, which its unit allows as well.
    machine.put_drop_in(
        "plugind.service",
        "[Service]\nRestart=no\nExecPaths=\nExecPaths=+/usr/bin/plugind +/usr/bin/pluginctl\n\
         ExecPaths=-+/usr/lib64 -+/usr/lib/x86_64-linux-gnu -+/usr/lib/aarch64-linux-gnu\n",
    );
    machine.put_drop_in(UNIT, &format!("{without}ExecPaths=-/lib -/lib64\n"));
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    let status = machine.wait_for("StatusText", |status| status.contains("hello"));
    for part in ["plugind", "mounted noexec", "ExecPaths=", "engine = \"pulley\""] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert_eq!(machine.daemon("ExecMainStatus"), "1", "trying again may help");
    assert_eq!(machine.succeed(&find), compiled, "what cannot be loaded is not compiled again");
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.put("/etc/plugind/plugind.toml", "engine = \"pulley\"\n");
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
}

#[test]
fn native_code_runs_in_a_daemon_that_can_make_no_memory_executable() {
    let machine = Machine::boot_with(&["hello", "greeter_02"]);
    machine.put_drop_in(
        "plugind.service",
        "[Service]\nMemoryDenyWriteExecute=yes\nSystemCallFilter=~memfd_create\n",
    );
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.get("/greeter-02").status(), 200);
    let maps = machine.succeed(&["cat", &format!("/proc/{}/maps", machine.daemon("MainPID"))]);
    let code = maps.lines().filter(|line| line.contains(" r-xp ") && line.ends_with(".cwasm"));
    assert_eq!(code.count(), 2, "{maps}");
    assert!(!maps.contains("wx"), "{maps}");
}

#[test]
fn precompile_fills_the_cache_before_the_daemon_starts() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["systemctl", "start", "plugind-compile.socket"]);
    machine.succeed(&["pluginctl", "precompile"]);
    let find = ["find", "/var/cache/private/plugind", "-type", "f", "-printf", "%f %i\\n"];
    let compiled = machine.succeed(&find);
    assert_ne!(compiled, "");
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    assert_eq!(machine.succeed(&find), compiled);
}
