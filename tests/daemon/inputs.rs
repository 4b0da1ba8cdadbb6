//! Files that are not plugins are refused with their path, the cause and a remedy, and the others are served.

use plugind_tests::{Daemon, Tree, end_of, golden, guest};
use std::{fs, os::unix::fs::symlink, process::Command};

/// A core module and nothing else: the magic number and the version.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A component with so many types, one within the other.
fn nested(levels: usize) -> Vec<u8> {
    let types = [&[1_u8][..], &[0x42, 1, 0x01].repeat(levels), &[0x42, 0]].concat();
    // The magic number and the version, and the types as a section: 7, its length, its contents.
    let mut component = b"\0asm\x0d\0\x01\0\x07".to_vec();
    let mut length = types.len();
    while length >= 0x80 {
        component.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    component.push(u8::try_from(length).unwrap());
    [component, types].concat()
}

/// Has `component` refused beside another plugin, which keeps serving, and returns the message.
fn refused(what: &str, component: &[u8]) -> String {
    let tree = Tree::new().with("greeter_02").with_manifest("both_versions", "required = false\n");
    tree.put("both-versions.wasm", component);
    let daemon = Daemon::start(&tree);
    let failed = daemon.log.wait_for(&["err     plugind: plugin failed", "plugin=both-versions"]);
    assert!(failed.contains("both-versions.wasm"), "{what} does not name the file: {failed}");
    assert_eq!(daemon.get("/greeter-02").status(), 200, "{what}");
    assert_eq!(
        daemon.get("/both-versions").status_and_text(),
        (503, "plugin both-versions is not ready\n"),
        "{what}"
    );

    // The same, where the daemon cannot do without it, and is not to start with what served last.
    tree.put("both-versions.toml", "");
    let tree = tree.with_settings("serve-previous = false\n");
    let ended = end_of(&tree, &[]);
    ended.log.wait_for(&["err     plugind: startup failed", "both-versions"]);
    assert_eq!(ended.status, 78, "{what}");
    failed
}

#[test]
fn a_file_that_is_not_a_plugin_is_refused_with_cause_and_remedy() {
    let whole = fs::read(guest("hello")).unwrap();
    let component = |name: &str| fs::read(guest(name)).unwrap();
    for (what, bytes, stage, parts) in [
        ("a script", b"#!/bin/sh\n".to_vec(), "verify", ["is not WebAssembly", "wasm32-wasip2"]),
        (
            "half of one",
            whole[..whole.len() / 2].to_vec(),
            "verify",
            ["was cut off or is still being written", "rename it"],
        ),
        ("nothing", Vec::new(), "verify", ["is empty", "rename it"]),
        // A reader that follows its types by recursion, one within the other, has no stack left for them.
        ("a deep one", nested(20_000), "verify", ["types nested", "do not trust it"]),
        ("a core module", CORE_MODULE.to_vec(), "verify", ["core module", "wasm32-wasip2"]),
        (
            "a later contract",
            component("wrong_version"),
            "verify",
            ["plugind:plugin/lifecycle@0.2.0", "rebuild it"],
        ),
        (
            "too many wishes",
            component("asks_too_much"),
            "verify",
            ["acme:database/query@1.0.0", "wac plug"],
        ),
        (
            "nothing to serve",
            component("nothing_to_serve"),
            "verify",
            ["acme:shelf/things@1.0.0", "export wasi:http/handler@0.3"],
        ),
    ] {
        let failed = refused(what, &bytes);
        assert!(failed.contains(&format!("stage={stage} ")), "{what}: {failed}");
        for part in parts {
            assert!(failed.contains(part), "{what}: {part:?} is not in {failed}");
        }
    }
}

#[test]
fn a_component_that_no_instance_can_be_made_of_is_refused_before_it_is_compiled() {
    for (name, parts) in [
        (
            "wrong-type",
            ["with handle: func()", "it must be handle: func(request: incoming-request"],
        ),
        ("many-memories", ["51 linear memories", "at most 50"]),
        ("large-table", ["300000 elements", "at most 200000"]),
        ("large-memory", ["begins with 80M of memory", "write instance-memory-max = "]),
        ("doubles", ["instantiate each other", "do not trust it"]),
        ("exceptions", ["exception handling", "-fno-exceptions"]),
    ] {
        let failed = refused(name, &golden::component(name));
        assert!(failed.contains("stage=verify "), "{name}: {failed}");
        assert!(parts.iter().all(|part| failed.contains(part)), "{name}: {failed}");
    }
}

#[test]
fn a_component_that_fits_the_pool_runs_with_several_memories_and_a_large_table() {
    let tree = Tree::new();
    tree.put("three.wasm", golden::component("three-memories"));
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["ready plugins=1"]);
    daemon.log.wait_for(&["background program finished", "plugin=three", "result=success"]);
}

#[test]
fn the_log_names_the_program_of_a_component_with_a_handler_as_unused() {
    let tree = Tree::new().with("greeter_02");
    tree.put("both.wasm", golden::component("serves-and-runs"));
    let daemon = Daemon::start(&tree);
    let ready = "plugin ready plugin=";
    daemon.log.wait_for(&[&format!("{ready}both "), "unused_export=wasi:cli/run@0.2.0 "]);
    daemon.log.wait_for(&[&format!("{ready}greeter-02 ")]);
    assert_eq!(daemon.log.count(&["unused_export"]), 1);
}

#[test]
fn a_path_that_is_not_a_file_is_refused_and_not_waited_for() {
    let tree = Tree::new().with("greeter_02");
    let plugins = tree.plugins();
    fs::create_dir(plugins.join("directory.wasm")).unwrap();
    symlink("/nowhere", plugins.join("dangling.wasm")).unwrap();
    symlink("/dev/zero", plugins.join("endless.wasm")).unwrap();
    let made = Command::new("mkfifo").arg(plugins.join("pipe.wasm")).status().unwrap();
    assert!(made.success());
    let names = ["directory", "dangling", "endless", "pipe"];
    for name in names {
        tree.put(&format!("{name}.toml"), "required = false\n");
    }
    let daemon = Daemon::start(&tree);
    for name in names {
        let file = format!("{name}.wasm");
        daemon.log.wait_for(&["plugin failed", &format!("plugin={name} "), "stage=verify", &file]);
    }
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn times_that_are_too_long_are_refused_and_infinity_is_not() {
    let tree = Tree::new().with("hello").with("sleeps");
    tree.put("hello.toml", "required = false\n[service]\nrestart-sec = \"1e19\"\n");
    tree.put("sleeps.toml", "[service]\ntimeout-start-sec = \"infinity\"\nwatchdog-sec = \"infinity\"\n[limits]\nrequest-timeout = \"infinity\"\n");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["plugin failed", "hello.toml:3:15", "not a time span"]);
    assert_eq!(daemon.get("/sleeps/fine").status(), 200);
}

#[test]
fn a_component_with_50_000_imports_is_refused_in_one_short_entry() {
    let tree = Tree::new().with("greeter_02");
    // Imports of functions by names that nobody has, all of the first type: a function without
    // parameters and results.
    let count = 50_000_usize;
    let number = |mut number: usize| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    };
    let mut imports = number(count);
    for nth in 0..count {
        let name = format!("acme:wish{nth}/wish@1.0.0");
        imports.push(0);
        imports.extend(number(name.len()));
        imports.extend(name.bytes());
        imports.extend([1, 0]);
    }
    let types = [1, 0x40, 0, 1, 0];
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for (section, contents) in [(7, &types[..]), (10, &imports)] {
        component.push(section);
        component.extend(number(contents.len()));
        component.extend(contents);
    }
    tree.put("greedy.wasm", component);
    tree.put("greedy.toml", "required = false\n");
    let daemon = Daemon::start(&tree);
    let failed = daemon.log.wait_for(&["plugin failed", "plugin=greedy"]);
    assert!(failed.len() < 20_000, "{} bytes", failed.len());
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}
