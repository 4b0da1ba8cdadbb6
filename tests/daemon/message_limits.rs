//! Messages that are too many, too late or for others: they are bounded, counted and never handled by the wrong plugin.

use crate::{
    control,
    messaging::{PLAIN, STREAM, manifest, tree, wait_until_healthy},
    metrics::Measured,
    nats::NatsServer,
};
use plugind_tests::{Daemon, eventually};
use std::{collections::BTreeSet, thread};

/// One message at a time, whose handler does not return while a test lasts.
const WAITS: &str = "[config]\nmood = \"wait\"\n[instances]\nmax = 1\n[limits]\nmessages-in-flight = 1\n\
                     request-timeout = \"10min\"\n";

#[test]
fn waiting_messages_are_bounded_by_their_bytes_and_further_ones_counted() {
    let server = NatsServer::start();
    let tree = tree(&server, &manifest(PLAIN, WAITS));
    let measured = Measured::start(&tree, &[]);
    let mut client = server.client();
    let large = "x".repeat(1_000_000);
    for _ in 0..20 {
        client.publish("orders.new", &large);
    }
    client.flush();
    let log = &measured.daemon.log;
    log.wait_for(&["warning plugind: waiting messages dropped", "plugin=takes-messages"]);
    // One is in progress, and 8 MiB of others wait.
    let name = "plugind_plugin_messages_dropped_total{plugin=\"takes-messages\"}";
    eventually("the others to be counted", || {
        measured.value(name).filter(|dropped| (11.0..=12.0).contains(dropped))
    });
}

#[test]
fn messages_that_a_stop_cuts_off_are_counted_in_a_warning() {
    let server = NatsServer::start();
    let rest = format!("{WAITS}[service]\ntimeout-stop-sec = \"500ms\"\n");
    let tree = tree(&server, &manifest(PLAIN, &rest));
    let daemon = control::start(&tree);
    wait_until_healthy(&tree, "takes-messages");
    let mut client = server.client();
    for message in 0..4 {
        client.publish("orders.new", &message.to_string());
    }
    client.flush();
    control::run(&tree, &["stop", "takes-messages"]);
    eventually("the messages to be reported", || {
        matches!(not_handled(&daemon), 3 | 4).then_some(())
    });
}

#[test]
fn messages_that_a_stop_of_the_daemon_cuts_off_are_counted_in_a_warning() {
    let server = NatsServer::start();
    let rest = format!("{WAITS}[service]\ntimeout-stop-sec = \"500ms\"\n");
    let tree = tree(&server, &manifest(PLAIN, &rest));
    let mut daemon = control::start(&tree);
    wait_until_healthy(&tree, "takes-messages");
    let mut client = server.client();
    for message in 0..8 {
        client.publish("orders.new", &message.to_string());
    }
    client.flush();
    daemon.stop();
    daemon.log.wait_for(&["plugind: stopped"]);
    assert!(matches!(not_handled(&daemon), 7 | 8), "{:?}", daemon.log.all());
}

/// The number of messages that were not handled, by the log: those that wait for room and those that wait in the pool may
/// be reported in separate entries.
fn not_handled(daemon: &Daemon) -> u32 {
    let lines = daemon.log.all().into_iter().filter(|line| {
        line.contains("warning plugind: messages not handled plugin=takes-messages ")
    });
    lines.map(|line| line.rsplit_once("messages=").unwrap().1.parse::<u32>().unwrap()).sum()
}

#[test]
fn a_consumer_that_was_changed_gives_no_message_to_the_wrong_plugin() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.add_stream("ORDERS", "orders.*");
    let own = STREAM.replace("orders.*", "orders.a");
    let tree = tree(&server, &manifest(&own, ""));
    let daemon = control::start(&tree);
    wait_until_healthy(&tree, "takes-messages");
    client.subscribe("done.*");
    client.store("orders.a", "one");
    assert_eq!(client.next().text, "orders.a one");
    // As another daemon does that makes the consumer at the same moment.
    let config = "{\"stream_name\":\"ORDERS\",\"config\":{\"durable_name\":\"workers\",\"ack_policy\":\"explicit\",\
                  \"ack_wait\":30000000000,\"max_deliver\":-1,\"filter_subject\":\"orders.b\",\
                  \"description\":\"messages of the plugin other\"}}";
    let changed = client.request("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.workers", config);
    assert!(!changed.contains("\"error\""), "{changed}");
    client.store("orders.b", "two");
    daemon.log.wait_for(&["cannot subscribe", "the subject of consumer workers has changed"]);
    daemon.log.wait_for(&["cannot subscribe", "must have the subject \\\"orders.a\\\""]);
    client.publish("done.marker", "three");
    assert_eq!(client.next().text, "three");
    assert_eq!(client.consumer("ORDERS", "workers")["ack_floor"]["stream_seq"], 1);
}

#[test]
fn daemons_that_make_a_consumer_at_the_same_time_share_it() {
    let server = NatsServer::start();
    let mut client = server.client();
    client.subscribe("done.*");
    for round in 0..3 {
        let stream = format!("ORDERS{round}");
        client.add_stream(&stream, &format!("orders{round}.*"));
        let subscribe =
            STREAM.replace("ORDERS", &stream).replace("orders.*", &format!("orders{round}.*"));
        let trees = [(); 3].map(|()| tree(&server, &manifest(&subscribe, "")));
        let daemons: Vec<_> = thread::scope(|scope| {
            let started = trees.each_ref().map(|tree| scope.spawn(|| Daemon::start(tree)));
            started.map(|daemon| daemon.join().unwrap()).into()
        });
        for daemon in &daemons {
            daemon.log.wait_for(&["info    plugind: subscribed", &stream]);
            assert_eq!(daemon.log.count(&["cannot subscribe"]), 0);
        }
        for message in 0..20 {
            client.store(&format!("orders{round}.new"), &message.to_string());
        }
        let mut seen = BTreeSet::new();
        while seen.len() < 20 {
            seen.insert(client.next().text);
        }
    }
}
