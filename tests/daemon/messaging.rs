//! Messages over a NATS server: subscribers receive them, and none that a stream has stored is lost.

use crate::{
    control,
    metrics::Measured,
    nats::{NatsClient, NatsServer},
};
use plugind_tests::{Daemon, Signal, Tree, end_of, eventually};
use std::collections::BTreeSet;

const PUBLISH: &str = "[grants]\npublish = [\"done.*\"]\n";
/// A subscription without a stream, in a queue group.
pub(crate) const PLAIN: &str = "[[subscribe]]\nsubject = \"orders.*\"\nqueue = \"workers\"\n";
/// The same with a stream, which keeps the messages.
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
pub(crate) fn wait_for_status(tree: &Tree, plugin: &str, text: &str) -> String {
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
fn each_message_of_a_queue_group_is_handled_by_one_of_two_daemons() {
    const MESSAGES: usize = 100;
    let server = NatsServer::start();
    let mut client = server.client();
    client.subscribe("done.*");
    let trees = ["one", "two"].map(|name| {
        let tree = Tree::new().with_settings(&server.settings());
        tree.with_named(name, "takes_messages", &manifest(PLAIN, ""))
    });
    let daemons = trees.each_ref().map(Daemon::start);
    for daemon in &daemons {
        daemon.log.wait_for(&["plugind: subscribed"]);
    }
    for message in 0..MESSAGES {
        client.publish("orders.new", &message.to_string());
    }
    let handled: Vec<_> = (0..MESSAGES).map(|_| client.next()).collect();
    // Daemons that have stopped handle nothing more, so this comes after all that they have sent.
    daemons.into_iter().for_each(|mut daemon| assert_eq!(daemon.stop(), 0));
    client.publish("done.end", "the end");
    assert_eq!(client.next().subject, "done.end", "a message was handled twice");
    let texts: BTreeSet<_> = handled.iter().map(|it| &it.text).collect();
    let by: BTreeSet<_> = handled.iter().map(|it| &*it.subject).collect();
    assert_eq!(texts.len(), MESSAGES);
    assert_eq!(by, BTreeSet::from(["done.one", "done.two"]), "both had a share");
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
        ("send/$JS.API.STREAM.DELETE.A/x", "other: a subject cannot begin with"),
        ("send/events.*/x", "other: a message cannot be sent to a subject with wildcards"),
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
            "was granted permission to publish messages, but the daemon has no NATS server",
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
    // By the client of the server, or by the subscription that the client fills: it depends on which of them is faster.
    let dropped = daemon.log.wait_for_any(&[
        "warning plugind: messages dropped server=nats://",
        "warning plugind: waiting messages dropped plugin=takes-messages",
    ]);
    assert!(dropped.contains("messages="), "{dropped}");
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
