//! The SDK for Rust: tasks, typed configuration, entries with fields, and requests that a plugin sends.

use plugind_tests::{Daemon, Tree, eventually};
use std::{io::Write, net::TcpListener, thread};

#[test]
fn tasks_run_beside_requests_and_return_before_stop_is_called() {
    let manifest = "[config]\ninterval-ms = \"1\"\nnames = \"a, b\"\n[instances]\nmax = 1\n";
    let mut daemon = Daemon::start(&Tree::new().with_named("worker", "background", manifest));
    assert_eq!(daemon.get("/worker/names").status_and_text(), (200, "a+b"));
    eventually("the task runs", || (daemon.get("/worker").text() != "0").then_some(()));
    assert_eq!(daemon.stop(), 0);
    let ended = [
        &["info    plugind[worker]: stopped", "reason=StopReason::Shutdown"][..],
        &["plugind: stopped"],
    ];
    for work in [&["work finished"][..], &["work given up", "done=false"]] {
        let lines: Vec<_> = [work].into_iter().chain(ended).collect();
        daemon.log.wait_for_in_order(0, &lines);
    }
}

#[test]
fn a_wrong_configuration_fails_the_start_with_its_key() {
    let with = |config: &str| format!("required = false\n[config]\n{config}\n");
    let tree = Tree::new()
        .with_named("missing", "background", "required = false\n")
        .with_named("unknown", "background", &with("interval-ms = \"1\"\ninterval = \"1\""))
        .with_named("wrong", "background", &with("interval-ms = \"1s\""));
    let daemon = Daemon::start(&tree);
    for (plugin, message) in [
        ("missing", "[config] must have interval-ms"),
        ("unknown", "[config] must have only these keys: interval-ms, names; it has interval"),
        (
            "wrong",
            "[config] interval-ms must be a whole number from 0 to 18446744073709551615; it is",
        ),
    ] {
        daemon.log.wait_for(&[&format!("plugin={plugin}"), message]);
    }
}

#[test]
fn a_request_is_sent_to_a_granted_plugin_and_refused_elsewhere() {
    let manifest = "[grants]\ncall = [\"echoes\"]\n";
    let tree = Tree::new().with_named("echoes", "sends", "").with_named("sends", "sends", manifest);
    let daemon = Daemon::start(&tree);
    let send = |to: &str, body: &str| {
        let length = format!("Content-Length: {}", body.len());
        let mut connection = daemon.connect();
        connection.request("POST", "/sends", &[&format!("To: {to}"), &length]);
        connection.write(body);
        connection.response()
    };
    assert_eq!(send("http://echoes.plugind/", "hello").status_and_text(), (200, "200 hello"));
    let large = "x".repeat(1 << 20);
    assert_eq!(send("http://echoes.plugind/", &large).text(), format!("200 {large}"));
    let refused = send("http://192.0.2.1/", "hello");
    assert_eq!(refused.text(), "cannot send the request: ErrorCode::HttpRequestDenied");
    let no_host = send("/path", "hello");
    assert_eq!(no_host.text(), "the request must have a URI with the scheme http or https");
}

#[test]
fn a_request_whose_body_is_incomplete_does_not_reach_the_handler() {
    let daemon = Daemon::start(&Tree::new().with("sends"));
    let begin = |coding: &str| {
        let mut connection = daemon.connect();
        connection.request("POST", "/sends", &[coding]);
        connection
    };
    let mut of_length = begin("Content-Length: 1000");
    of_length.write("ten bytes.");
    let mut chunked = begin("Transfer-Encoding: chunked");
    chunked.write_chunk(b"ten bytes.");
    for mut client in [of_length, chunked] {
        client.finish_writing();
        assert_eq!(client.response().status_and_text(), (400, ""));
    }

    let mut whole = begin("Content-Length: 4");
    whole.write("four");
    assert_eq!(whole.response().status_and_text(), (200, "four"));
    assert_eq!(daemon.get("/sends").status_and_text(), (200, ""));
    daemon.log.wait_for_in_order(
        0,
        &[&["request handled", "length=4"], &["request handled", "length=0"]],
    );
    assert_eq!(daemon.log.count(&["request handled"]), 2);
    assert_eq!(daemon.log.count(&["warning"]), 0);
}

#[test]
fn large_bodies_that_come_together_do_not_end_the_instance() {
    const BODY_MAX: usize = 16 << 20;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let manifest = format!("[grants]\noutgoing-http = [\"{address}\"]\n[instances]\nmax = 1\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("sends", &manifest));
    let post = |to: &[&str], body: &[u8]| {
        let mut client = daemon.connect();
        let length = format!("Content-Length: {}", body.len());
        client.request("POST", "/sends", &[&[&*length], to].concat());
        client.try_write(body);
        client
    };
    let large = vec![b'x'; BODY_MAX];
    let status = |body: &[u8]| post(&[], body).response().status();

    // It is in progress as long as the server does not answer.
    let mut waits = post(&[&format!("To: http://{address}/")], &large[..1 << 20]);
    let (mut asked, _) = server.accept().unwrap();
    for _ in 0..4 {
        assert_eq!(status(&large), 503);
    }
    assert_eq!(status(&large[1 << 20..]), 200);
    assert_eq!(status(&[&*large, b"x"].concat()), 503);
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(waits.response().status_and_text(), (200, "200 ok"));
    // The instance may learn later than a client that a response is sent.
    eventually("room for a large body", || (status(&large) == 200).then_some(()));
    let too_large = [&*large, b"x"].concat();
    eventually("room for more than one may have", || (status(&too_large) == 413).then_some(()));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| status(&large))).collect();
        for client in clients {
            let status = client.join().unwrap();
            assert!(matches!(status, 200 | 503), "{status}");
        }
    });
    assert_eq!(daemon.log.count(&["warning"]), 0);
}
