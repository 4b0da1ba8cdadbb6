//! What the programs are told on their command lines, and their exit statuses.

use plugind_tests::{Tree, end_of, guest, program};
use std::{
    net::TcpListener,
    process::{Command, Output},
};

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name)).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (name, word) in
        [("plugind", "--listen"), ("pluginctl", "check"), ("plugind-compile", "--cache")]
    {
        let help = run(name, &["--help"]);
        assert!(help.status.success() && help.stderr.is_empty(), "{name}");
        assert!(text(&help.stdout).contains(word), "{}", text(&help.stdout));
        let version = run(name, &["--version"]);
        assert!(version.status.success() && version.stderr.is_empty(), "{name}");
        let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(text(&version.stdout), expected);
    }
}

#[test]
fn wrong_arguments_are_told_with_what_would_be_right() {
    for (arguments, part) in [
        (&["--listen"][..], "NAME=ADDRESS:PORT"),
        (&["--listen", "8080"], "http=127.0.0.1:8080"),
        (&["--listen", "http=8080"], "127.0.0.1:8080"),
        (&["--listen", "http=127.0.0.1:80800"], "127.0.0.1:8080"),
        (&["--listen", "=127.0.0.1:8080"], "--listen"),
        (&["--listen", "clock=udp:8080"], "udp:ADDRESS:PORT"),
        (&["--listen", "echo=unix:"], "unix:/PATH"),
        (&["--log", "loud"], "warning"),
        (&["--compile-timeout", "soon"], "--compile-timeout"),
        (&["--compile-timeout", "0"], "it is at least 1s"),
        (&["--compile-memory-max", "0"], "it is at least 64M"),
        (&["--plugin", "x"], "--plugins"),
        (&["x"], "x"),
    ] {
        let ran = run("plugind", arguments);
        assert_eq!(ran.status.code(), Some(64), "{arguments:?}");
        assert!(text(&ran.stderr).contains(part), "{}", text(&ran.stderr));
    }
    for arguments in [&[][..], &["cat", "No Name"], &["admire"]] {
        assert_eq!(run("pluginctl", arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = end_of(&Tree::new(), &["--listen", &format!("http={address}")]);
    assert_eq!(ended.status, 1);
    ended.log.wait_for(&["err     plugind: cannot go on", &address, "in use"]);
}

#[test]
fn pluginctl_says_what_a_component_is() {
    for (name, parts) in [
        (
            "hello",
            &[
                "wasi:http 0.3",
                "hello, at /hello",
                "lifecycle its own",
                "environment",
                "wasi:config/store",
            ][..],
        ),
        (
            "greeter_02",
            &["wasi:http 0.2", "greeter-02, at /greeter-02", "instances fresh", "lifecycle none"],
        ),
        ("both_versions", &["wasi:http 0.3", "instances shared"]),
        ("ticker", &["kind      program", "ticker, without a route"]),
    ] {
        let path = guest(name);
        let ran = run("pluginctl", &["check", "--no-compile", path.to_str().unwrap()]);
        assert!(ran.status.success());
        let told = text(&ran.stdout);
        assert!(told.starts_with(path.to_str().unwrap()), "{told}");
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
        assert!(text(&ran.stderr).contains("nothing was compiled or linked"));
    }
}

#[test]
fn pluginctl_says_why_something_is_no_component_and_goes_on_with_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let core = directory.path().join("core.wasm");
    std::fs::write(&core, b"\0asm\x01\0\0\0").unwrap();
    let (core, missing) = (core.to_str().unwrap(), "/nowhere/x.wasm");
    let hello = guest("hello");
    let ran = run("pluginctl", &["check", core, missing, hello.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(1));
    let told = text(&ran.stderr);
    assert!(told.contains(core) && told.contains("core module"), "{told}");
    assert!(told.contains(missing) && told.contains("No such file"), "{told}");
    assert!(text(&ran.stdout).contains("wasi:http 0.3"));
}

#[test]
fn without_a_compiler_check_says_so_and_is_no_success() {
    let hello = guest("hello");
    let arguments = ["check", hello.to_str().unwrap(), "--compiler", "/nowhere/plugind-compile"];
    let ran = run("pluginctl", &arguments);
    assert_eq!(ran.status.code(), Some(1));
    let told = text(&ran.stderr);
    assert!(told.contains("/nowhere/plugind-compile") && told.contains("--no-compile"), "{told}");
    assert!(text(&ran.stdout).contains("wasi:http 0.3"), "what can be said without it is said");
}
