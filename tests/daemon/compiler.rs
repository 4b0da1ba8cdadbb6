//! The compiler is another program. If it fails in any way, only the component that it compiles is affected.

use crate::control;
use plugind_tests::{Daemon, Signal, Tree, another, end_of, eventually, program};
use std::{fs, os::unix::fs::symlink, path::Path};

/// The path of one of the compilers beside the tests, each of which is wrong in its own way.
pub(crate) fn compiler(name: &str) -> String {
    format!("{}/compilers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A tree in which compilers find the real one.
fn tree() -> Tree {
    let tree = Tree::with_own_cache();
    symlink(program("plugind-compile"), tree.cache().join("plugind-compile")).unwrap();
    tree
}

#[test]
fn a_failure_of_the_compiler_concerns_only_the_plugin_that_it_compiles() {
    let tree = tree().with("greeter_02");
    drop(Daemon::start(&tree));
    for (name, why) in [
        ("hangs", "the compiler gave no answer within 5s"),
        ("dies", "the compiler failed (signal: 9 (SIGKILL)"),
        ("gives-up", "the compiler failed (exit status: 3)"),
        ("talks-nonsense", "malformed message"),
        ("promises", "the compiler"),
        ("refuses", "the moon is"),
        ("has-little-memory", "the compiler failed: its worker ended without a result ("),
        ("is-not-there", "cannot run the compiler"),
    ] {
        // A component that is compiled already needs no compiler.
        let seconds = if name == "hangs" { "1" } else { "30" };
        let arguments = ["--compiler", &compiler(name), "--compile-timeout", seconds];
        let daemon = Daemon::start_with(&tree, &arguments);
        tree.put("new.wasm", another("hello"));
        assert!(daemon.reload().contains("changed=0 failed=1 removed=0 unchanged=1"), "{name}");
        daemon.log.wait_for(&[
            "err     plugind: plugin failed",
            "plugin=new",
            "stage=compile",
            why,
        ]);
        assert_eq!(
            daemon.get("/new").status_and_text(),
            (503, "plugin new is not ready\n"),
            "{name}"
        );
        assert_eq!(daemon.get("/greeter-02").status(), 200, "{name}");
        assert_eq!(daemon.log.count(&["info    plugind: ready"]), 1, "{name}");
        tree.remove("new.wasm");
    }
}

#[test]
fn a_long_compilation_is_reported_with_its_time_and_shown_meanwhile() {
    let tree = tree().with("greeter_02");
    drop(Daemon::start(&tree));
    let hangs = compiler("hangs");
    fs::create_dir_all(control::socket(&tree).parent().unwrap()).unwrap();
    let socket = format!("control={}", control::socket(&tree).display());
    let arguments = ["--listen", &socket, "--compiler", &hangs, "--compile-timeout", "1h"];
    let daemon = Daemon::start_with(&tree, &arguments);
    tree.put("new.wasm", another("hello"));
    daemon.signal(Signal::HUP);
    daemon.log.wait_for(&["info    plugind: compiling plugin=new seconds=2"]);
    let list = control::run(&tree, &["list"]).stdout;
    assert!(list.contains("activating (compiling "), "{list}");
    daemon.log.wait_for(&["info    plugind: compiling plugin=new seconds=12"]);
    assert_eq!(daemon.log.count(&["compiling plugin=greeter-02"]), 0, "it is in the cache");
}

#[test]
fn a_missing_compiler_ends_the_daemon_and_is_no_configuration_error() {
    for (name, why) in
        [("is-not-there", "cannot run the compiler"), ("hangs", "the compiler gave no answer")]
    {
        let tree = tree().with("hello");
        let arguments = ["--compiler", &compiler(name), "--compile-timeout", "1"];
        let ended = end_of(&tree, &arguments);
        ended.log.wait_for(&["plugin failed", "plugin=hello", "stage=compile", why]);
        assert_eq!(ended.status, 1, "{name}: trying again may help");
    }
}

#[test]
fn a_compiler_that_hangs_is_ended() {
    let tree = tree().with_manifest("hello", "required = false\n");
    let arguments = ["--compiler", &compiler("hangs"), "--compile-timeout", "1"];
    let daemon = Daemon::start_with(&tree, &arguments);
    daemon.log.wait_for(&["plugin failed", "plugin=hello", "stage=compile"]);
    let pid = fs::read_to_string(tree.cache().join("pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    eventually("the compiler's end", || (!process.exists()).then_some(()));
}

#[test]
fn a_daemon_that_stops_does_not_wait_for_its_compiler() {
    let tree = tree().with("hello");
    let mut daemon = Daemon::begin(&tree, &["--compiler", &compiler("hangs")]);
    let read = || fs::read_to_string(tree.cache().join("pid")).ok();
    let pid = eventually("the compiler", || read().filter(|pid| pid.ends_with('\n')));
    assert_eq!(daemon.stop(), 0);
    let process = Path::new("/proc").join(pid.trim());
    eventually("the compiler's end", || (!process.exists()).then_some(()));
}

#[test]
fn components_are_compiled_side_by_side() {
    let tree = tree().with("hello").with("greeter_02");
    let daemon = Daemon::start_with(&tree, &["--compiler", &compiler("waits-for-another")]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn what_is_cached_serves_although_the_compiler_is_busy_with_other_plugins() {
    let tree = tree().with("hello");
    drop(Daemon::start(&tree));
    // More than are compiled at a time, and before it in the order of names.
    for number in 0..8 {
        tree.put(&format!("a{number}.wasm"), another("greeter_02"));
        tree.put(&format!("a{number}.toml"), "required = false\n");
    }
    let daemon = Daemon::start_with(&tree, &["--compiler", &compiler("hangs")]);
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.log.wait_for(&["info    plugind: compiling", "plugin=a"]);
    assert_eq!(daemon.log.count(&["plugin ready"]), 1);
}

#[test]
fn a_compiler_is_given_one_socket_and_nothing_of_the_daemons() {
    let tree = tree().with("hello");
    let daemon = Daemon::start_with(&tree, &["--compiler", &compiler("shows-what-it-has")]);
    let left = |name: &str| fs::read_to_string(tree.cache().join(name)).unwrap();
    assert_eq!(left("arguments"), format!("--cache {}\n", tree.cache().display()));
    // Variables that a shell sets by itself.
    let by_itself =
        |line: &&str| !["PWD=", "OLDPWD=", "_="].iter().any(|own| line.starts_with(own));
    assert_eq!(left("environment").lines().filter(by_itself).collect::<Vec<_>>(), [""; 0]);
    let descriptors = left("descriptors");
    assert_eq!(descriptors.matches("socket:").count(), 1, "{descriptors}");
    assert!(!descriptors.contains("epoll"), "{descriptors}");
    assert_eq!(daemon.get("/hello").status(), 200);
}
