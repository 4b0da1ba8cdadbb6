//! Messages by a NATS server: what is subscribed to arrives, and what was acknowledged is never lost.

use crate::{
    control,
    metrics::Measured,
    nats::{NatsClient, NatsServer},
};
use plugind_tests::{Daemon, Signal, Tree, end_of, eventually, run, tool};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

const PUBLISH: &str = "[grants]\npublish = [\"done.*\"]\n";
/// Two plugins that share the messages of a queue.
pub(crate) const PLAIN: &str = "[[subscribe]]\nsubject = \"orders.*\"\nqueue = \"workers\"\n";
pub(crate) const STREAM: &str =
    "[[subscribe]]\nsubject = \"orders.*\"\nqueue = \"workers\"\nstream = \"ORDERS\"\n";

pub(crate) fn manifest(subscribe: &str, rest: &str) -> String {
    format!("{subscribe}{PUBLISH}{rest}")
}

/// A tree with a plugin that takes messages.
pub(crate) fn tree(server: &NatsServer, manifest: &str) -> Tree {
    Tree::new().with_settings(&server.settings()).with_manifest("takes_messages", manifest)
}

/// Waits until the status of a plugin contains this text.
fn wait_for_status(tree: &Tree, plugin: &str, text: &str) -> String {
    eventually(text, || {
        let status = control::run(tree, &["status", plugin]).stdout;
        status.contains(text).then_some(status)
    })
}

pub(crate) fn wait_until_healthy(tree: &Tree, plugin: &str) {
    eventually("the plugin to be healthy", || {
        let list = control::run(tree, &["list"]).stdout;
        list.lines().any(|line| line.contains(plugin) && !line.contains("degraded")).then_some(())
    });
}

/// The texts of the next messages, without repetitions.
fn texts(client: &mut NatsClient, count: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        seen.insert(client.next().text);
    }
    seen
}

#[test]
fn a_message_is_handled_with_its_metadata_and_answered() {
    let server = NatsServer::start();
    let tree = tree(&server, &manifest(PLAIN, ""));
    let daemon = Daemon::start(&tree);
    let mut client = server.client();
    assert_eq!(client.request("orders.new", "one"), "orders.new one");
    client.subscribe("done.*");
    client.publish_with("orders.old", "Content-Type: text/plain\r\nb: 2\r\na: 1\r\n", "two");
    let done = client.next();
    assert_eq!(done.subject, "done.takes-messages");
    assert_eq!((done.text.as_str(), done.reply), ("orders.old two as text/plain a=1 b=2", None));
    client.publish("other.new", "three");
    client.publish("orders.new.eu", "four");
    assert_eq!(client.request("orders.new", "five"), "orders.new five");
    drop(daemon);
}

#[test]
fn a_wildcard_receives_no_subject_of_the_server_and_no_replies_of_others() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ALL", "$KV.*.x\",\"_INBOX.*.x\",\"orders.*.x");
    client.subscribe("done.*");
    let plain = "[[subscribe]]\nsubject = \"*.*.x\"\n";
    for subscribe in [&*format!("{plain}stream = \"ALL\"\n"), plain] {
        let tree = tree(&server, &manifest(subscribe, ""));
        let measured = Measured::start(&tree, &[]);
        client.store("$KV.a.x", "secret");
        client.store("_INBOX.a.x", "reply");
        for text in ["one", "two"] {
            client.store("orders.a.x", text);
            assert_eq!(client.next().text, format!("orders.a.x {text}"), "{subscribe}");
        }
        let delivered = "plugind_plugin_messages_delivered_total{plugin=\"takes-messages\"}";
        measured.wait_for(delivered, 2.0);
        if subscribe != plain {
            eventually("the stream to have none to deliver", || {
                let info = client.consumer("ALL", "takes-messages");
                (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
            });
        }
    }
}

#[test]
fn a_plugin_sends_to_the_subjects_that_it_was_granted_and_no_others() {
    let server = NatsServer::start();
    let grants = "[grants]\npublish = [\"events.>\"]\n";
    let tree =
        Tree::new().with_settings(&server.settings()).with_manifest("sends_messages", grants);
    let measured = Measured::start(&tree, &[]);
    let ask =
        |path: &str| measured.daemon.get(&format!("/sends-messages/{path}")).text().to_owned();
    let mut client = server.client();
    client.subscribe("events.a");
    client.subscribe("events.metadata");
    assert_eq!(ask("send/events.a/one"), "sent");
    assert_eq!(client.next().text, "one");
    assert_eq!(ask("with/key/value"), "sent");
    assert_eq!(client.next().subject, "events.metadata");
    for (path, error) in [
        (
            "send/orders.new/x",
            "permission denied: messages to \"orders.new\" are not granted; write publish = [\"orders.new\"] below \
             [grants] in the manifest",
        ),
        ("ask/orders.new/x", "permission denied: "),
        ("send/$JS.API.STREAM.DELETE.A/x", "other: a subject must have"),
        ("send/events.*/x", "other: a subject must have"),
        ("by/other/events.a", "other: the name of a client must be \"default\" or \"jetstream\""),
        ("with/Nats-Rollup/all", "other: a key of metadata must not begin with \"Nats-\""),
        ("ask/events.nobody/x", "other: nothing replies to requests on this subject"),
        ("ask/events.a/x", "timeout"),
        ("store/events.nobody/x", "other: no stream has stored the message"),
    ] {
        let answer = ask(path);
        assert!(answer.starts_with(error), "{path}: {answer}");
    }
    measured.wait_for("plugind_plugin_messages_published_total{plugin=\"sends-messages\"}", 2.0);
}

#[test]
fn a_message_that_the_server_refuses_is_an_error_and_not_counted() {
    let users = "authorization { users = [ { user: a, password: secret, permissions: { publish: \
                 { allow: [\"events.>\"], deny: [\"events.secret\"] } } } ] }\n";
    let server = NatsServer::start_with(users);
    let grants = "[grants]\npublish = [\"events.>\"]\n";
    let tree = Tree::new().with_manifest("sends_messages", grants);
    let credential = tree.root().join("nats-login");
    std::fs::write(&credential, "a:secret\n").unwrap();
    let settings = format!("{}credential = \"{}\"\n", server.settings(), credential.display());
    let tree = tree.with_settings(&settings);
    let measured = Measured::start(&tree, &[]);
    let ask =
        |path: &str| measured.daemon.get(&format!("/sends-messages/{path}")).text().to_owned();
    eventually("the connection", || (ask("send/events.a/x") == "sent").then_some(()));
    assert_eq!(ask("send/events.a/x"), "sent");
    for path in ["send/events.secret/x", "ask/events.secret/x", "store/events.secret/x"] {
        for _ in 0..2 {
            let answer = ask(path);
            let error =
                "permission denied: nats: Permissions Violation for Publish to \"events.secret\"";
            assert_eq!(answer, error, "{path}");
        }
    }
    measured.wait_for("plugind_plugin_messages_published_total{plugin=\"sends-messages\"}", 2.0);
}

#[test]
fn a_server_that_stops_answering_delays_no_call_without_end() {
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
fn a_message_that_a_stream_stored_is_sent_and_replies_are_received() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    let sends = "[grants]\npublish = [\"orders.*\", \"questions\"]\n";
    let questions = "[[subscribe]]\nsubject = \"questions\"\n";
    let tree = Tree::new()
        .with_settings(&server.settings())
        .with_manifest("sends_messages", sends)
        .with_named("one", "takes_messages", &manifest(questions, ""))
        .with_named("two", "takes_messages", &manifest(questions, ""));
    let daemon = Daemon::start(&tree);
    let ask = |path: &str| daemon.get(&format!("/sends-messages/{path}")).text().to_owned();
    assert_eq!(ask("store/orders.new/x"), "sent");
    let info = client.request("$JS.API.STREAM.INFO.ORDERS", "");
    assert!(info.contains("\"messages\":1"), "{info}");
    assert_eq!(ask("ask/questions/a"), "questions a");
    assert_eq!(ask("ask-two/questions/b"), "questions b questions b", "each subscriber replies");
}

#[test]
fn a_subscription_or_a_grant_is_refused_without_a_server_and_without_a_handler() {
    let granted = "[grants]\npublish = [\"a\"]\n";
    for (guest, manifest, parts) in [
        (
            "takes_messages",
            &*manifest(PLAIN, ""),
            "subscribes to messages, but the daemon has no NATS server; write url = \"nats://HOST:4222\" below \
             [messaging] in plugind.toml",
        ),
        (
            "sends_messages",
            granted,
            "was granted publish for messages, but the daemon has no NATS server",
        ),
        (
            "sends_messages",
            "",
            "imports wasi:messaging/producer@0.2.0-draft, which must be granted; write publish = [\"SUBJECT\"] below",
        ),
        ("takes_messages", PUBLISH, "handles messages, and its manifest subscribes to none"),
        (
            "statuses",
            PLAIN,
            "[[subscribe]] cannot be used: the component does not export wasi:messaging/incoming-handler",
        ),
    ] {
        let tree = Tree::new().with_manifest(guest, manifest);
        let ended = end_of(&tree, &[]);
        let line = ended.log.wait_for(&["err     plugind: plugin failed"]).replace("\\\"", "\"");
        assert!(line.contains(parts), "{line}");
        assert_eq!(ended.status, 78);
    }
}

#[test]
fn a_message_whose_handler_traps_or_fails_is_delivered_again() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    client.subscribe("done.*");
    let moody = |mood: &str| {
        let rest = format!("{}[config]\nmood = \"{mood}\"\n", crate::RESTARTS);
        manifest(STREAM, &rest)
    };
    let tree = tree(&server, &moody("trap"));
    let measured = Measured::start(&tree, &[]);
    client.store("orders.new", "one");
    let redelivered = "plugind_plugin_messages_redelivered_total{plugin=\"takes-messages\"}";
    eventually("a message to be delivered again", || {
        measured.value(redelivered).filter(|count| *count >= 1.0)
    });
    tree.put("takes-messages.toml", moody("error"));
    measured.daemon.reload();
    measured.daemon.log.wait_for(&["plugin=takes-messages", "not today"]);
    tree.put("takes-messages.toml", moody("good"));
    measured.daemon.reload();
    assert_eq!(client.next().text, "orders.new one");
    measured.wait_for("plugind_plugin_messages_delivered_total{plugin=\"takes-messages\"}", 1.0);
    measured.wait_for("plugind_plugin_messages_in_flight{plugin=\"takes-messages\"}", 0.0);
    eventually("the acknowledgement", || {
        let info = client.consumer("ORDERS", "workers");
        (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
    });
}

#[test]
fn a_handler_that_hangs_is_ended_by_its_time_limit_and_its_message_delivered_again() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    client.subscribe("done.*");
    let moody = |mood: &str| {
        let limits = "[limits]\nrequest-timeout = \"200ms\"\n[instances]\nmax = 2\n[service]\ntimeout-stop-sec = \"1s\"\n";
        manifest(STREAM, &format!("{limits}[config]\nmood = \"{mood}\"\n"))
    };
    for mood in ["wait", "hang"] {
        let tree = tree(&server, &moody(mood));
        let measured = Measured::start(&tree, &[]);
        client.store("orders.new", mood);
        let redelivered = "plugind_plugin_messages_redelivered_total{plugin=\"takes-messages\"}";
        eventually("a message to be delivered again", || {
            measured.value(redelivered).filter(|count| *count >= 1.0)
        });
        tree.put("takes-messages.toml", moody("good"));
        measured.daemon.reload();
        assert_eq!(client.next().text, format!("orders.new {mood}"));
    }
}

#[test]
fn a_message_that_was_delivered_as_often_as_it_may_be_is_given_up() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    let stream = format!("{STREAM}max-deliver = 2\n");
    let tree = tree(&server, &manifest(&stream, "[config]\nmood = \"error\"\n"));
    let daemon = Daemon::start(&tree);
    client.store("orders.new", "one");
    daemon.log.wait_for(&["message given up", "subject=orders.new", "sequence=1", "deliveries=2"]);
    eventually("the stream to have none to deliver", || {
        let info = client.consumer("ORDERS", "workers");
        (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
    });
}

#[test]
fn a_consumer_of_another_subject_is_refused_and_not_overwritten() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    client.subscribe("done.*");
    let kept = |subject: &str| {
        let subscribe = format!("[[subscribe]]\nsubject = \"{subject}\"\nstream = \"ORDERS\"\n");
        manifest(&format!("{subscribe}queue = \"workers\"\n"), "")
    };
    let tree = tree(&server, &kept("orders.new"));
    let daemon = control::start(&tree);
    wait_until_healthy(&tree, "takes-messages");
    tree.put_guest("other", "takes_messages");
    tree.put("other.toml", kept("orders.old"));
    daemon.reload();
    let status = wait_for_status(&tree, "other", "nats consumer rm ORDERS workers");
    assert!(status.contains("degraded"), "{status}");
    assert_eq!(client.consumer("ORDERS", "workers")["config"]["filter_subject"], "orders.new");
    client.store("orders.new", "one");
    assert_eq!(client.next().text, "orders.new one");
    tree.put("takes-messages.toml", kept("orders.newer"));
    daemon.reload();
    client.store("orders.newer", "two");
    assert_eq!(client.next().text, "orders.newer two", "its own consumer is changed");
}

#[test]
fn messages_that_arrive_faster_than_they_are_handled_are_dropped_and_logged() {
    let server = NatsServer::start();
    let rest =
        "[config]\nmood = \"slow\"\n[instances]\nmax = 1\n[limits]\nmessages-in-flight = 1\n";
    let tree = tree(&server, &manifest(PLAIN, rest));
    let daemon = Daemon::start(&tree);
    let mut client = server.client();
    for message in 0..3000 {
        client.publish("orders.new", &message.to_string());
    }
    client.flush();
    let url = format!("server=nats://{}", server.address);
    daemon.log.wait_for(&["warning plugind: messages dropped", &url, "messages="]);
    daemon.signal(Signal::KILL);
}

#[test]
fn no_message_is_lost_by_reloads_under_load() {
    let server = NatsServer::start();
    let slow = |number: u32| {
        manifest(PLAIN, &format!("[config]\nmood = \"slow\"\nnumber = \"{number}\"\n"))
    };
    let tree = tree(&server, &slow(0));
    let daemon = Daemon::start(&tree);
    let mut client = server.client();
    client.subscribe("done.*");
    for number in 1..=5 {
        for message in 0..40 {
            client.publish("orders.new", &format!("{number}-{message}"));
        }
        client.flush();
        tree.put("takes-messages.toml", slow(number));
        assert!(daemon.reload().contains("changed=1"));
    }
    assert_eq!(texts(&mut client, 200).len(), 200);
}

#[test]
fn a_changed_subject_is_subscribed_to_and_the_previous_one_is_not() {
    let server = NatsServer::start();
    let tree = tree(&server, &manifest(PLAIN, ""));
    let daemon = control::start(&tree);
    let mut client = server.client();
    let invoices = "[[subscribe]]\nsubject = \"invoices\"\n";
    tree.put("takes-messages.toml", manifest(invoices, ""));
    daemon.reload();
    wait_until_healthy(&tree, "takes-messages");
    assert_eq!(client.request("invoices", "one"), "invoices one");
    // Without a subscriber, the server answers with a status and no text.
    eventually("the end of the subscription", || {
        client.request("orders.new", "two").is_empty().then_some(())
    });
    assert_eq!(control::run(&tree, &["stop", "takes-messages"]).status, Some(0));
    eventually("the end of the other one", || {
        client.request("invoices", "three").is_empty().then_some(())
    });
}

#[test]
fn a_stop_handles_the_messages_that_have_arrived() {
    let server = NatsServer::start();
    let rest = "[config]\nmood = \"slow\"\n[instances]\nmax = 1\n";
    let tree = tree(&server, &manifest(PLAIN, rest));
    let mut daemon = Daemon::start(&tree);
    let mut client = server.client();
    client.subscribe("done.*");
    for message in 0..20 {
        client.publish("orders.new", &message.to_string());
    }
    client.flush();
    assert_eq!(client.next().text, "orders.new 0");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(texts(&mut client, 19).len(), 19);
}

#[test]
fn a_plugin_that_is_stopped_or_removed_handles_the_messages_that_have_arrived() {
    let server = NatsServer::start();
    let rest =
        "[config]\nmood = \"slow\"\n[instances]\nmax = 1\n[limits]\nmessages-in-flight = 2\n";
    for stops in [true, false] {
        let tree = tree(&server, &manifest(PLAIN, rest));
        let daemon = control::start(&tree);
        wait_until_healthy(&tree, "takes-messages");
        let mut client = server.client();
        client.subscribe("done.*");
        for message in 0..50 {
            client.publish("orders.new", &message.to_string());
        }
        client.flush();
        let first = client.next().text;
        if stops {
            assert_eq!(control::run(&tree, &["stop", "takes-messages"]).status, Some(0));
        } else {
            tree.remove("takes-messages.toml");
            tree.remove("takes-messages.wasm");
            daemon.reload();
        }
        let mut seen = texts(&mut client, 49);
        seen.insert(first);
        assert_eq!(seen.len(), 50, "stopped: {stops}");
    }
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

/// Two network namespaces that reach each other, removed at the end.
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
