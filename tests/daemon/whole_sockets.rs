//! Which plugin serves a socket as a whole, and sockets that none serves.

use crate::{
    control,
    streams::{ECHO, connect, echo, free, path, rest, tree},
};
use plugind_tests::{Daemon, Tree, end_of, eventually, program};
use std::{net::Shutdown, os::unix::net::UnixStream, process::Command};

#[test]
fn a_missing_socket_fails_its_plugin_alone_and_names_the_unit_to_write() {
    let tree = tree("required = false\n".trim_end()).with("greeter_02");
    tree.put("echoes.toml", format!("required = false\n{ECHO}"));
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&[
        "plugin failed",
        "plugin=echoes",
        "stage=route",
        "echoes.toml:3:10: serve.socket: no socket has the name \\\"echo\\\"",
        "ListenStream= or ListenDatagram=, FileDescriptorName=echo",
    ]);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn two_plugins_that_ask_for_one_socket_are_a_mistake_of_the_second() {
    let second = format!("required = false\n{ECHO}");
    let tree = tree("").with_named("second", "echoes", &second);
    let address = free();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo={address}")]);
    daemon.log.wait_for(&[
        "plugin failed",
        "plugin=second",
        "second.toml:3:10: the socket echo is already served by the plugin echoes",
    ]);
    assert_eq!(echo(&mut connect(address), "first"), "first");
}

#[test]
fn a_socket_of_another_kind_than_the_handler_is_a_mistake_with_a_remedy() {
    for (listen, guest, part) in [
        ("echo=udp:127.0.0.1:0", "greeter_02", "the component exports neither"),
        ("http=127.0.0.1:0", "echoes", "the daemon speaks the protocol"),
    ] {
        let socket = listen.split_once('=').unwrap().0;
        let manifest = match guest {
            // Its name alone asks for it.
            "echoes" => String::new(),
            _ => format!("[[serve]]\nsocket = \"{socket}\"\n"),
        };
        let name = if guest == "echoes" { "http" } else { guest };
        let tree = Tree::new().with_named(&name.replace('_', "-"), guest, &manifest);
        let ended = end_of(&tree, &["--listen", listen]);
        assert_eq!(ended.status, 78, "{listen}");
        ended.log.wait_for(&["plugin failed", part]);
    }
}

#[test]
fn a_plugin_without_a_manifest_serves_the_socket_of_its_name() {
    let (tree, address) = (Tree::new().with_named("echo", "echoes", ""), free());
    let _daemon = Daemon::start_with(&tree, &["--listen", &format!("echo={address}")]);
    assert_eq!(echo(&mut connect(address), "hello"), "hello");
}

#[test]
fn a_socket_of_no_use_waits_until_a_reload_brings_a_plugin_for_it() {
    let tree = Tree::new().with("greeter_02");
    let (path, control) = (path(&tree), control::socket(&tree));
    let (echo_at, control) =
        (format!("echo=unix:{}", path.display()), format!("control={}", control.display()));
    let daemon = Daemon::start_with(&tree, &["--listen", &echo_at, "--listen", &control]);
    let status = || {
        let mut command = Command::new(program("pluginctl"));
        let ran = command.args(["status", "--root"]).arg(tree.root()).env_clear().output();
        String::from_utf8(ran.unwrap().stdout).unwrap()
    };
    daemon.log.wait_for(&["warning plugind: socket unused", "socket=echo"]);
    assert!(status().contains("unused sockets: echo"), "{}", status());
    // The kernel takes it, and it waits there.
    let mut waits = UnixStream::connect(&path).unwrap();
    tree.put_guest("echo", "echoes");
    daemon.reload();
    assert_eq!(echo(&mut waits, "claimed"), "claimed");
    assert!(!status().contains("unused"), "{}", status());

    tree.remove("echo.wasm");
    waits.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut waits).unwrap(), b"");
    daemon.reload();
    assert!(status().contains("unused sockets: echo"), "{}", status());
    let mut waits = UnixStream::connect(&path).unwrap();
    tree.put_guest("echo", "echoes");
    daemon.reload();
    assert_eq!(echo(&mut waits, "again"), "again");
}

#[test]
fn a_socket_is_unused_again_however_its_plugin_came_to_serve_it_no_more() {
    let tree = Tree::new().with("greeter_02").with_named("echo", "echoes", "");
    let [echo_at, control] = [("echo", path(&tree)), ("control", control::socket(&tree))]
        .map(|(name, path)| format!("{name}=unix:{}", path.display()));
    let daemon = Daemon::start_with(&tree, &["--listen", &echo_at, "--listen", &control]);
    let reload = |arguments: &[&str], status| {
        let ran = control::run(&tree, arguments);
        assert_eq!(ran.status, Some(status), "{}{}", ran.stdout, ran.stderr);
    };
    let is_unused = |expected: bool| {
        eventually("the use of the socket", || {
            let status = control::run(&tree, &["status"]).stdout;
            (status.contains("unused sockets: echo") == expected).then_some(())
        });
    };
    is_unused(false);
    let unused = ["warning plugind: socket unused", "socket=echo"];
    for (times, arguments) in (1..).zip([["reload", "echo"], ["reload", "--all-or-nothing"]]) {
        tree.remove("echo.wasm");
        control::run(&tree, &arguments);
        is_unused(true);
        daemon.log.wait_for_times(times, &unused);
        tree.put_guest("echo", "echoes");
        reload(&["reload"], 0);
        is_unused(false);
    }
    // Its new version serves something else.
    tree.put_guest("echo", "hello");
    reload(&["reload"], 0);
    is_unused(true);
    // The version that would serve it does not take over, since another plugin fails.
    tree.put_guest("echo", "echoes");
    tree.put_guest("bad", "traps_on_start");
    reload(&["reload", "--all-or-nothing"], 1);
    assert_eq!(daemon.get("/echo").status(), 200);
    is_unused(true);
}
