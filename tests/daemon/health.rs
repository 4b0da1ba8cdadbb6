//! The health route, as a load balancer asks for it.

use plugind_tests::{Daemon, Signal, Tree, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

/// The status of a route, and its body.
fn health(daemon: &Daemon, path: &str) -> (u16, Value) {
    let response = daemon.get(path);
    assert_eq!(response.head.field("content-type"), Some("application/json"));
    (response.status(), serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn the_health_route_answers_for_all_required_plugins_and_for_each() {
    let tree = Tree::new()
        .with("hello")
        .with_manifest("traps_on_start", "required = false\n")
        .with_settings("[health]\nroute = \"/health\"\n");
    let daemon = Daemon::start(&tree);
    let (status, body) = health(&daemon, "/health");
    assert_eq!((status, &body["status"]), (200, &Value::from("ok")), "{body}");
    assert_eq!(body["plugins"]["hello"]["ready"], true, "{body}");
    assert_eq!(body["plugins"]["traps-on-start"]["required"], false, "{body}");
    assert_eq!(health(&daemon, "/health/hello").0, 200);
    assert_eq!(health(&daemon, "/health/traps-on-start").0, 503);
    assert_eq!(health(&daemon, "/health/nobody").0, 404);
    assert_eq!(daemon.get("/healthy").status(), 404, "it is not below the route");

    tree.put_guest("never-ready", "never_ready");
    daemon.signal(Signal::HUP);
    eventually("a required plugin to be missing", || {
        (health(&daemon, "/health").0 == 503).then_some(())
    });
    assert_eq!(health(&daemon, "/health/hello").0, 200);
}

#[test]
fn a_health_route_on_a_socket_that_nobody_can_ask_is_reported_with_its_place() {
    let settings = "[health]\nroute = \"/health\"\nsocket = \"admin\"\n";
    let daemon = Daemon::start(&Tree::new().with("hello").with_settings(settings));
    let reason = "plugind.toml:3:10: health.socket must be a socket that speaks HTTP; admin";
    daemon.log.wait_for(&["warning plugind: no socket for health checks ", reason]);
}

#[test]
fn without_a_setting_the_path_is_that_of_plugins_and_a_socket_limits_the_route() {
    let daemon = Daemon::start(&Tree::new().with("hello"));
    assert_eq!(daemon.get("/health").status(), 404);
    let settings = "[health]\nroute = \"/health\"\nsocket = \"admin\"\n\n[sockets.admin]\nprotocol = \"http\"\n";
    let tree = Tree::new().with("hello").with_settings(settings);
    let daemon = Daemon::start_with(&tree, &["--listen", "admin=127.0.0.1:0"]);
    assert_eq!(daemon.get("/health").status(), 404);
    let line = daemon.log.wait_for(&["listening ", "socket=admin"]);
    let (_, address) = line.split_once("address=").unwrap();
    let mut connection = plugind_tests::Connection::to(address.parse().unwrap());
    assert_eq!(connection.get("/health").status(), 200);
}

#[test]
fn a_daemon_that_stops_says_so_before_its_sockets_close() {
    let settings = "[health]\nroute = \"/health\"\nstop-delay-sec = \"10s\"\n";
    let mut daemon = Daemon::start(&Tree::new().with("hello").with_settings(settings));
    daemon.signal(Signal::TERM);
    let stopping = eventually("the daemon to stop", || {
        let (status, body) = health(&daemon, "/health");
        (status == 503).then_some(body)
    });
    assert_eq!(stopping["status"], "stopping");
    assert_eq!(daemon.get("/hello").status(), 200, "requests are still answered");
    // A second request to stop does not wait.
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(), 0);
}

fn succeed(tree: &Tree, arguments: &[&str]) -> String {
    let ran = crate::control::run(tree, arguments);
    assert_eq!((ran.status, &*ran.stderr), (Some(0), ""), "{arguments:?}");
    ran.stdout
}

#[test]
fn a_daemon_that_drains_says_so_and_answers_until_the_delay_has_passed() {
    let settings = "[health]\nroute = \"/health\"\nstop-delay-sec = \"10s\"\n";
    let tree = Tree::new().with("hello").with("sleeps").with_settings(settings);
    let daemon = crate::control::start(&tree);
    // Until this is answered, nothing has drained.
    let mut waits = daemon.connect();
    waits.request("GET", "/sleeps/sleep/3600000", &[]);
    let drain = crate::control::pluginctl(&tree, &["drain"]).spawn().unwrap();
    let draining = eventually("the daemon to drain", || {
        let (status, body) = health(&daemon, "/health");
        (status == 503).then_some(body)
    });
    assert_eq!(draining["status"], "draining");
    assert_eq!(daemon.get("/hello").status(), 200, "requests are still answered");
    assert_eq!(succeed(&tree, &["undrain"]), "in service again\n");
    let ended = drain.wait_with_output().unwrap();
    let error = "draining ended before all connections were closed\n";
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), &*stderr), (Some(1), error));
    assert_eq!(health(&daemon, "/health").0, 200);
}

#[test]
fn a_drained_daemon_accepts_nothing_until_it_is_put_back_into_service() {
    let settings = "[health]\nroute = \"/health\"\n";
    let tree = Tree::new().with("hello").with_settings(settings);
    let mut daemon = crate::control::start(&tree);
    let mut kept = daemon.connect();
    assert_eq!(kept.get("/hello").status(), 200);
    assert_eq!(succeed(&tree, &["drain"]), "drained: no connections are left\n");
    assert!(succeed(&tree, &["status"]).contains("Status: draining; "));
    // It continues to be drained, also after a reload.
    succeed(&tree, &["reload"]);
    succeed(&tree, &["drain"]);
    let mut waits = daemon.connect();
    waits.request("GET", "/hello", &[]);
    assert_eq!(succeed(&tree, &["undrain"]), "in service again\n");
    assert_eq!(waits.response().status(), 200);
    assert_eq!(health(&daemon, "/health").0, 200);
    assert!(!succeed(&tree, &["status"]).contains("draining"));
    // A drained daemon stops like any other, and the next one is in service.
    succeed(&tree, &["drain"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let daemon = crate::control::start(&tree);
    assert_eq!(health(&daemon, "/health").0, 200);
}

#[test]
fn a_daemon_that_cannot_accept_again_continues_to_drain_until_it_can() {
    let tree = Tree::new().with("hello").with_settings("[health]\nroute = \"/health\"\n");
    let daemon = crate::control::start(&tree);
    succeed(&tree, &["drain"]);
    let stream = UnixStream::connect(crate::control::socket(&tree)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut call = |method: &str| {
        let call = format!("{{\"method\":\"io.plugind.{method}\"}}\0");
        (&stream).write_all(call.as_bytes()).unwrap();
        let mut reply = Vec::new();
        replies.read_until(0, &mut reply).unwrap();
        String::from_utf8(reply).unwrap()
    };
    // The daemon accepts the connection while it may still open descriptors.
    assert!(call("Status").contains("draining"));
    let process = Some(daemon.pid());
    // A daemon has the limit of its parent.
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let limit = prlimit(process, Resource::Nofile, limit).unwrap();
    for _ in 0..2 {
        let reply = call("Undrain");
        assert!(reply.contains("io.plugind.DrainFailed"), "{reply}");
        assert!(call("Status").contains("draining"));
    }
    daemon.log.wait_for(&["warning plugind: cannot end draining ", "error="]);
    prlimit(process, Resource::Nofile, limit).unwrap();
    let reply = call("Undrain");
    assert!(!reply.contains("error"), "{reply}");
    assert_eq!(daemon.get("/hello").status(), 200);
}
