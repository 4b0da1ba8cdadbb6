//! A server of stores that cannot be reached is an error for its plugins, and no instance hangs.

use crate::{
    control,
    stores::{GRANTED, ask},
    stores_on_servers::{Kind, Server},
};
use plugind_tests::{Daemon, Signal, Tree, WAIT_MAX, eventually};
use std::os::unix::net::UnixDatagram;

/// Stops the server's process, and has a call of the plugin fail.
fn stop_answering(server: &Server, daemon: &Daemon) {
    server.signal(Signal::STOP);
    // Its threads stop one after the other.
    let error = eventually("the server to stop", || {
        Some(ask(daemon, "/stores/get/key")).filter(|answer| answer != "value")
    });
    assert!(error.starts_with("error: the store cannot be used at present: "), "{error}");
}

fn survive_an_outage(kind: Kind) {
    let mut server = Server::start(kind);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let daemon = control::start(&tree);
    let status = || control::run(&tree, &["status", "stores"]).stdout;
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    assert!(!status().contains("degraded"), "{}", status());
    for _ in 0..2 {
        server.stop();
        let reached = format!(
            "error: the store cannot be used at present: {} cannot be reached: ",
            server.url()
        );
        for act in ["get/key", "set/key/other", "keys", "add/n/1"] {
            let error = ask(&daemon, &format!("/stores/{act}"));
            assert!(error.starts_with(&reached), "{act}: {error}");
        }
        assert_eq!(ask(&daemon, "/stores/nothing"), "fine", "the instance serves");
        let (shown, url) = (status(), server.url());
        assert!(shown.contains("degraded") && shown.contains(&url), "{shown}");
        let list = control::run(&tree, &["list"]).stdout;
        assert!(list.contains("degraded"), "{list}");
        server.start_again();
        eventually("the store to work again", || {
            (ask(&daemon, "/stores/get/key") == "value").then_some(())
        });
        assert!(!status().contains("degraded"), "{}", status());
    }
    assert_eq!(daemon.log.count(&["warning plugind: cannot reach server"]), 2);
    assert_eq!(daemon.log.count(&["info    plugind: server reachable again"]), 2);
    // A server that does not answer is an error in time, and no hang.
    stop_answering(&server, &daemon);
    server.signal(Signal::CONT);
    eventually("the store to work again", || {
        (ask(&daemon, "/stores/get/key") == "value").then_some(())
    });
    assert!(!status().contains("degraded"), "{}", status());
}

#[test]
fn while_nats_is_gone_a_plugin_gets_errors_and_is_degraded() {
    survive_an_outage(Kind::Nats);
}

#[test]
fn while_valkey_is_gone_a_plugin_gets_errors_and_is_degraded() {
    survive_an_outage(Kind::Valkey);
}

/// Waits for a status of the daemon that systemd shows.
fn wait_for_status(notified: &UnixDatagram, is_right: impl Fn(&str) -> bool) {
    let mut bytes = [0; 4096];
    loop {
        let length = notified.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        if text.lines().filter_map(|line| line.strip_prefix("STATUS=")).any(&is_right) {
            return;
        }
    }
}

/// Starts a daemon whose messages to systemd are received by the socket.
fn start_notifying(tree: &Tree) -> (Daemon, UnixDatagram) {
    let path = tree.root().join("notify");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    (Daemon::start_by(tree, &["env", &socket]), notified)
}

fn is_well(status: &str) -> bool {
    status.starts_with("1 of 1 plugins ready") && !status.contains("degraded")
}

fn show_an_outage(kind: Kind) {
    let mut server = Server::start(kind);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let (_daemon, notified) = start_notifying(&tree);
    wait_for_status(&notified, is_well);
    server.stop();
    wait_for_status(&notified, |status| status.contains("degraded: stores (its key-value store "));
    server.start_again();
    wait_for_status(&notified, is_well);
}

/// A call fails before it is known that the server does not answer. The plugin makes no other call.
fn recover_without_a_call(kind: Kind) {
    let server = Server::start(kind);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let daemon = control::start(&tree);
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    stop_answering(&server, &daemon);
    daemon.log.wait_for(&["warning plugind: cannot reach server"]);
    server.signal(Signal::CONT);
    daemon.log.wait_for(&["info    plugind: server reachable again"]);
    eventually("the plugin to be well", || {
        let status = control::run(&tree, &["status", "stores"]).stdout;
        (!status.contains("degraded")).then_some(())
    });
}

#[test]
fn a_call_that_nats_did_not_answer_is_not_held_against_it_after_the_outage() {
    recover_without_a_call(Kind::Nats);
}

#[test]
fn a_call_that_valkey_did_not_answer_is_not_held_against_it_after_the_outage() {
    recover_without_a_call(Kind::Valkey);
}

/// The plugin is ready before the server answers, which the daemon notices after its first look at all plugins.
fn answer_late(kind: Kind) {
    let server = Server::start(kind);
    server.signal(Signal::STOP);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let (_daemon, notified) = start_notifying(&tree);
    wait_for_status(&notified, |status| status.contains("degraded: stores (its key-value store "));
    server.signal(Signal::CONT);
    wait_for_status(&notified, is_well);
}

#[test]
fn systemd_shows_that_nats_answers_after_the_start_of_its_plugin() {
    answer_late(Kind::Nats);
}

#[test]
fn systemd_shows_that_valkey_answers_after_the_start_of_its_plugin() {
    answer_late(Kind::Valkey);
}

#[test]
fn systemd_shows_that_nats_is_gone_until_it_is_back() {
    show_an_outage(Kind::Nats);
}

#[test]
fn systemd_shows_that_valkey_is_gone_until_it_is_back() {
    show_an_outage(Kind::Valkey);
}

fn start_before_the_server(kind: Kind) {
    let mut server = Server::start(kind);
    server.stop();
    let tree = server.tree().with_manifest("stores", GRANTED);
    let daemon = Daemon::start(&tree);
    let error = ask(&daemon, "/stores/get/key");
    assert!(error.contains(" cannot be reached: "), "{error}");
    server.start_again();
    eventually("the store to work", || (ask(&daemon, "/stores/get/key") == "none").then_some(()));
    assert_eq!(daemon.log.count(&["cannot reach server"]), 1);
}

#[test]
fn a_daemon_starts_before_nats_and_before_valkey() {
    start_before_the_server(Kind::Nats);
    start_before_the_server(Kind::Valkey);
}
