//! Servers of messages that cannot be reached, and daemons that are killed: no message of a stream is lost.

use crate::{
    control,
    messaging::{PLAIN, STREAM, manifest, tree, wait_for_status, wait_until_healthy},
    nats::NatsServer,
};
use plugind_tests::{Daemon, Signal, Tree, eventually, run, tool};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

#[test]
fn a_server_that_stops_answering_delays_calls_for_a_bounded_time() {
    let mut server = NatsServer::start();
    let grants = "[grants]\npublish = [\"events.>\"]\n";
    let tree =
        Tree::new().with_settings(&server.settings()).with_manifest("sends_messages", grants);
    let daemon = Daemon::start(&tree);
    let ask = |path: &str| daemon.get(&format!("/sends-messages/{path}")).text().to_owned();
    let sends = ["send/events.new/x", "store/events.new/x", "ask/events.new/x"];
    eventually("the connection", || (ask("send/events.a/x") == "sent").then_some(()));
    server.signal(Signal::STOP);
    eventually("the outage to be noticed", || {
        let answers = sends.map(ask);
        for answer in &answers {
            assert!(answer == "timeout" || answer.starts_with("connection: "), "{answer}");
        }
        answers.iter().all(|answer| answer.contains(" cannot be reached: ")).then_some(())
    });
    server.signal(Signal::CONT);
    eventually("the connection", || (ask("send/events.a/x") == "sent").then_some(()));
    server.stop();
    for path in sends {
        let answer = ask(path);
        assert!(answer.starts_with("connection: "), "{path}: {answer}");
    }
    server.start_again();
    eventually("the connection", || (ask("send/events.a/x") == "sent").then_some(()));
}

#[test]
fn a_server_that_is_gone_makes_the_plugin_degraded_and_loses_no_message_of_a_stream() {
    let mut server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    let plain = "[[subscribe]]\nsubject = \"orders.*\"\n";
    let tree = tree(&server, &manifest(STREAM, "")).with_named(
        "plain",
        "takes_messages",
        &manifest(plain, ""),
    );
    let daemon = control::start(&tree);
    wait_until_healthy(&tree, "takes-messages");
    wait_until_healthy(&tree, "plain");
    drop(client);
    server.stop();
    for plugin in ["takes-messages", "plain"] {
        let reason = "the subscription to \"orders.*\" is not established";
        let status = wait_for_status(&tree, plugin, reason);
        assert!(status.contains("degraded"), "{status}");
    }
    daemon.log.wait_for(&["cannot reach server"]);
    server.start_again();
    wait_until_healthy(&tree, "takes-messages");
    wait_until_healthy(&tree, "plain");
    let mut client = server.client();
    client.subscribe("done.takes-messages");
    client.store("orders.new", "after");
    assert_eq!(client.next().text, "orders.new after");
    drop(daemon);
    client.store("orders.new", "meanwhile");
    let _daemon = control::start(&tree);
    assert_eq!(client.next().text, "orders.new meanwhile");
}

#[test]
fn a_subscription_shows_the_present_reason_of_an_outage() {
    let mut server = NatsServer::start();
    server.client().add_stream("ORDERS", "orders.*");
    let plain = "[[subscribe]]\nsubject = \"orders.*\"\n";
    let tree = tree(&server, &manifest(STREAM, "")).with_named(
        "plain",
        "takes_messages",
        &manifest(plain, ""),
    );
    let _daemon = control::start(&tree);
    for plugin in ["takes-messages", "plain"] {
        wait_until_healthy(&tree, plugin);
    }
    // At first, all that is known is that the connection has ended.
    server.stop();
    for plugin in ["takes-messages", "plain"] {
        wait_for_status(&tree, plugin, "onnection refused");
    }
}

#[test]
fn a_server_that_does_not_exist_or_refuses_is_reported() {
    let settings = "[messaging]\nurl = \"nats://127.0.0.1:9\"\n";
    let tree =
        Tree::new().with_settings(settings).with_manifest("takes_messages", &manifest(PLAIN, ""));
    let daemon = control::start(&tree);
    let status = wait_for_status(&tree, "takes-messages", "nats://127.0.0.1:9 cannot be reached");
    assert!(status.contains("degraded"), "{status}");
    drop(daemon);

    let users = "authorization { users = [ { user: a, password: secret, permissions: { subscribe: [\"_INBOX.>\"] } } ] }\n";
    let server = NatsServer::start_with(users);
    let credential = tree.root().join("nats-login");
    std::fs::write(&credential, "a:secret\n").unwrap();
    let settings = format!("{}credential = \"{}\"\n", server.settings(), credential.display());
    let tree = tree.with_settings(&settings);
    let daemon = control::start(&tree);
    daemon.log.wait_for(&["cannot subscribe", "subject=\"orders.*\"", "ermissions"]);
    wait_for_status(&tree, "takes-messages", "ermissions");
    drop(daemon);

    let server = NatsServer::start();
    let stream = tree.with_settings(&server.settings());
    stream.put("takes-messages.toml", manifest(STREAM, ""));
    let daemon = control::start(&stream);
    daemon.log.wait_for(&["cannot subscribe", "stream ORDERS", "nats stream add ORDERS"]);
    server.client().add_stream("ORDERS", "orders.*");
    daemon.log.wait_for(&["info    plugind: subscribed", "stream=ORDERS"]);
    wait_until_healthy(&stream, "takes-messages");
}

/// Two network namespaces that reach this machine and not each other, removed at the end.
struct Network {
    names: [String; 2],
    links: [String; 2],
}

impl Network {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() % 100_000 * 10 + NUMBER.fetch_add(1, Relaxed);
        let names = ["a", "b"].map(|name| format!("plugind-{name}{number}"));
        let links = ["a", "b"].map(|name| format!("pl{name}{number}"));
        let network = Self { names, links };
        for (nth, (name, link)) in (1..).zip(network.names.iter().zip(&network.links)) {
            let inner = format!("{link}i");
            let host = format!("10.{}.{nth}.1/24", 128 + number % 100);
            let guest = format!("10.{}.{nth}.2/24", 128 + number % 100);
            ip(&["netns", "add", name]);
            ip(&["link", "add", link, "type", "veth", "peer", "name", &inner]);
            ip(&["link", "set", &inner, "netns", name]);
            ip(&["addr", "add", &host, "dev", link]);
            ip(&["link", "set", link, "up"]);
            ip(&["-n", name, "addr", "add", &guest, "dev", &inner]);
            ip(&["-n", name, "link", "set", &inner, "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        network
    }

    /// The address of this side, as a namespace sees it.
    fn address(&self, nth: usize, port: u16) -> SocketAddr {
        let shown = run(tool("ip").args(["-4", "-o", "addr", "show", "dev", &self.links[nth]]));
        let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/24")).unwrap();
        SocketAddr::new(address.parse().unwrap(), port)
    }
}

fn ip(arguments: &[&str]) {
    let mut command: Command = tool("ip");
    let ran = command.args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "ip {arguments:?}: {error}");
}

impl Drop for Network {
    fn drop(&mut self) {
        for (name, link) in self.names.iter().zip(&self.links) {
            // They may be gone if the test failed early.
            drop(run(tool("ip").args(["link", "del", link])));
            drop(run(tool("ip").args(["netns", "del", name])));
        }
    }
}

#[test]
fn no_stored_message_is_lost_when_one_of_two_daemons_is_killed() {
    let network = Network::new();
    let server = NatsServer::start_everywhere();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    client.subscribe("done.*");
    let rest = "[limits]\nrequest-timeout = \"1s\"\n[config]\nmood = \"slow\"\n";
    let stream = format!("{STREAM}ack-wait-sec = \"2s\"\n");
    let daemons = [0, 1].map(|nth| {
        let address = network.address(nth, server.address.port());
        let tree = Tree::new()
            .with_settings(&format!("[messaging]\nurl = \"nats://{address}\"\n"))
            .with_named(["one", "two"][nth], "takes_messages", &manifest(&stream, rest));
        Daemon::start_by(&tree, &["/usr/sbin/ip", "netns", "exec", &network.names[nth]])
    });
    let total = 300;
    for message in 0..total {
        client.store("orders.new", &message.to_string());
        if message == total / 2 {
            daemons[0].signal(Signal::KILL);
        }
    }
    let mut seen = BTreeSet::new();
    let mut by = BTreeSet::new();
    while seen.len() < total {
        let done = client.next();
        seen.insert(done.text);
        by.insert(done.subject);
    }
    assert_eq!(by.len(), 2, "both had a share: {by:?}");
    eventually("every acknowledgement", || {
        let info = client.consumer("ORDERS", "workers");
        (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
    });
}
