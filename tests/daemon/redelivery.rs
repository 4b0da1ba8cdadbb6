//! A message that its plugin did not handle is delivered again, as often as the manifest says.

use crate::{
    messaging::{STREAM, manifest, tree},
    metrics::Measured,
    nats::NatsServer,
};
use plugind_tests::{Daemon, eventually};

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
