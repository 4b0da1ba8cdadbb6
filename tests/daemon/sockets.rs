//! Sockets of all kinds are kept, and served as their names and the settings say.

use crate::control;
use plugind_tests::{Daemon, Signal, Tree, end_of, program};
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

/// A tree with a plugin, and the path of a socket below it.
fn tree() -> (Tree, PathBuf) {
    let tree = Tree::new().with("greeter_02");
    let path = tree.root().join("web");
    (tree, path)
}

fn settings(tree: &Tree, text: &str) {
    fs::write(tree.root().join("etc/plugind/plugind.toml"), text).unwrap();
}

/// A request on a connection of its own.
fn ask(socket: &Path, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(plugind_tests::WAIT_MAX)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// Its status.
fn status(mut stream: UnixStream) -> u16 {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("not a response: {answer:?}"))
}

#[test]
fn http_is_served_at_a_path_as_well() {
    let (tree, path) = tree();
    for address in [format!("unix:{}", path.display()), path.display().to_string()] {
        let mut daemon = Daemon::launch(&tree, &["--listen", &format!("http={address}")]);
        daemon.wait_until_ready();
        assert_eq!(status(ask(&path, "/greeter-02")), 200);
        assert_eq!(daemon.stop(), 0);
        assert!(!path.exists(), "the file goes with the daemon");
    }
}

#[test]
fn a_socket_of_no_use_is_kept_and_reported_until_a_reload_claims_it() {
    let (tree, path) = tree();
    let (web, control) = (format!("web={}", path.display()), control::socket(&tree));
    let control = format!("control={}", control.display());
    let daemon = Daemon::start_with(
        &tree,
        &["--listen", &web, "--listen", &control, "--listen", "clock=udp:127.0.0.1:0"],
    );
    let pluginctl = || {
        let mut command = Command::new(program("pluginctl"));
        let ran = command.args(["status", "--root"]).arg(tree.root()).env_clear().output();
        String::from_utf8(ran.unwrap().stdout).unwrap()
    };
    daemon.log.wait_for(&["warning plugind: socket unused", "socket=web"]);
    assert!(pluginctl().contains("unused sockets: clock, web"), "{}", pluginctl());
    let waits = ask(&path, "/greeter-02");

    settings(&tree, "[sockets.web]\nprotocol = \"http\"\n");
    daemon.reload();
    assert_eq!(status(waits), 200);
    assert!(pluginctl().contains("unused sockets: clock\n"), "{}", pluginctl());
    assert_eq!(daemon.log.count(&["socket unused", "socket=clock"]), 1);

    settings(&tree, "[sockets.web]\nprotocol = \"control\"\n");
    daemon.reload();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"{\"method\":\"io.systemd.service.Ping\"}\0").unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"{\"");
}

#[test]
fn a_socket_whose_limits_change_is_still_served_according_to_the_log() {
    let (tree, path) = tree();
    settings(&tree, "[sockets.web]\nprotocol = \"http\"\n");
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("web={}", path.display())]);
    let limit = "connections-max = 100\n";
    settings(&tree, &format!("[sockets.web]\nprotocol = \"http\"\n{limit}[sockets.http]\n{limit}"));
    daemon.reload();
    for socket in ["web", "http"] {
        daemon.log.wait_for(&["socket has new settings", &format!("socket={socket}")]);
    }
    assert_eq!(status(ask(&path, "/greeter-02")), 200);
    assert_eq!(daemon.log.count(&["socket not served any more"]), 0);
    settings(&tree, "");
    daemon.reload();
    daemon.log.wait_for(&["socket not served any more", "socket=web"]);
}

#[test]
fn a_setting_that_does_not_fit_its_socket_fails_the_reload_and_changes_nothing() {
    let (tree, path) = tree();
    let web = format!("web={}", path.display());
    settings(&tree, "[sockets.web]\nprotocol = \"http\"\n");
    let daemon =
        Daemon::start_with(&tree, &["--listen", &web, "--listen", "clock=udp:127.0.0.1:0"]);
    settings(&tree, "[sockets.clock]\nprotocol = \"http\"\n");
    daemon.signal(Signal::HUP);
    daemon.log.wait_for(&[
        "err     plugind: cannot read configuration",
        "plugind.toml:2:12: sockets.clock.protocol must fit the socket",
    ]);
    assert_eq!(status(ask(&path, "/greeter-02")), 200);

    settings(&tree, "[sockets.admin]\nprotocol = \"http\"\n");
    daemon.reload();
    daemon.log.wait_for(&["socket in plugind.toml does not exist", "socket=admin"]);
}

#[test]
fn a_route_of_a_socket_is_found_there_and_nowhere_else() {
    let (tree, path) = tree();
    let route =
        "[[serve]]\nroute = \"/private\"\nsocket = \"web\"\n[[serve]]\nroute = \"/public\"\n";
    let tree = tree.with_named("both", "greeter_02", route);
    settings(&tree, "[sockets.web]\nprotocol = \"http\"\n");
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("web={}", path.display())]);
    for (route, on_http, on_web) in [("/private", 404, 200), ("/public", 200, 200)] {
        assert_eq!(daemon.get(route).status(), on_http, "{route}");
        assert_eq!(status(ask(&path, route)), on_web, "{route}");
    }
}

#[test]
fn a_route_of_a_socket_that_is_not_there_is_a_mistake_with_a_remedy() {
    let route = "[[serve]]\nroute = \"/private\"\nsocket = \"admin\"\n";
    let ended = end_of(&Tree::new().with_manifest("greeter_02", route), &[]);
    assert_eq!(ended.status, 78);
    let place = "greeter-02.toml:3:10: serve.socket: no socket \\\"admin\\\" speaks HTTP";
    ended.log.wait_for(&["plugin failed", "stage=route", place, "FileDescriptorName=admin"]);
}

#[test]
fn a_socket_of_the_wrong_kind_is_a_mistake_with_a_remedy() {
    for (listen, remedy) in [
        ("control=127.0.0.1:0", "write ListenStream=/PATH"),
        ("http=udp:127.0.0.1:0", "write ListenStream=ADDRESS:PORT or ListenStream=/PATH"),
    ] {
        let ended = end_of(&Tree::new(), &["--listen", listen]);
        assert_eq!(ended.status, 78, "{listen}");
        ended.log.wait_for(&["err     plugind: startup failed", remedy]);
    }
}

#[test]
fn a_socket_never_takes_the_place_of_a_file_a_link_or_a_running_daemon() {
    let (tree, path) = tree();
    let listen = format!("control={}", path.display());
    let refused = |what: &str| {
        let ended = end_of(&tree, &["--listen", &listen]);
        assert_eq!(ended.status, 1, "{what}");
        ended.log.wait_for(&["err     plugind: startup failed", what, "choose another path"]);
    };
    fs::write(&path, "precious").unwrap();
    refused("a file is there");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    refused("a symbolic link is there");
    fs::remove_file(&path).unwrap();
    let daemon = Daemon::start_with(&tree, &["--listen", &listen]);
    refused("the socket of another process is there");
    assert!(UnixStream::connect(&path).is_ok());
    drop(daemon);
}

#[test]
fn a_peer_with_too_many_connections_loses_the_longest_idle_one() {
    let tree = Tree::new().with("greeter_02");
    let settings = "[sockets.http]\nconnections-max-per-peer = 2\n";
    fs::write(tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
    let daemon = control::start(&tree);
    let mut first = daemon.connect();
    assert_eq!(first.get("/greeter-02").status(), 200);
    let mut second = daemon.connect();
    assert_eq!(second.get("/greeter-02").status(), 200);
    let mut third = daemon.connect();
    assert_eq!(third.get("/greeter-02").status(), 200);
    assert_eq!(first.wait_until_closed(), b"");
    assert_eq!(second.get("/greeter-02").status(), 200, "it was idle for a shorter time");
    daemon.log.wait_for(&["warning", "connection limit of a peer reached", "limit=2"]);
    let status = control::run(&tree, &["status"]).stdout;
    let limit = "Limits: connections-max-per-peer of the socket http (2) reached\n";
    assert!(status.contains(limit), "{status}");
}
