//! A daemon that is stopped closes its listeners, finishes the requests in progress, and exits with status 0.

use plugind_tests::{Daemon, Signal, Tree, WAIT_MAX, another, eventually};
use std::{
    io::ErrorKind,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

#[test]
fn requests_in_progress_are_finished_after_the_listener_has_closed() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&Tree::new().with("streams").with("streams_02"));
        let mut idle = daemon.connect();
        assert_eq!(idle.get("/streams").status(), 200);
        let clients = ["/streams/echo", "/streams-02/echo"].map(|path| {
            let mut client = daemon.connect();
            client.request("POST", path, &["Transfer-Encoding: chunked"]);
            client.write_chunk(b"before");
            assert_eq!(client.head().status, 200);
            assert_eq!(client.chunks_of(6), b"before");
            client
        });

        daemon.signal(signal);
        daemon.log.wait_for(&["info    plugind: stopping"]);
        let refused = || TcpStream::connect(daemon.address()).err();
        let error = eventually("the listener to be closed", refused);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(idle.wait_until_closed(), b"", "an idle connection is closed");

        for mut client in clients {
            client.write_chunk(b"after");
            assert_eq!(client.chunks_of(5), b"after");
            client.write_chunk(b"");
            assert_eq!(client.chunks_of(1), b"");
        }
        assert_eq!(daemon.wait(), 0);
        daemon.log.wait_for(&["info    plugind: stopped"]);
        assert_eq!(daemon.log.count(&["warning"]), 0);
    }
}

#[test]
fn under_load_every_request_that_was_taken_is_answered() {
    let tree = Tree::new().with("hello").with("greeter_02");
    let mut daemon = Daemon::start(&tree);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for path in ["/hello", "/greeter-02", "/hello", "/greeter-02"] {
            let mut client = daemon.connect();
            let answered = &answered;
            scope.spawn(move || {
                loop {
                    client.request("GET", path, &[]);
                    let Some(answer) = client.response_unless_closed() else { return };
                    assert_eq!(answer.status(), 200);
                    answered.fetch_add(1, Relaxed);
                    if answer.head.field("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        eventually("some load", || (answered.load(Relaxed) > 100).then_some(()));
        daemon.signal(Signal::TERM);
    });
    assert_eq!(daemon.wait(), 0);
    assert_eq!(daemon.log.count(&["warning"]), 0);
}

#[test]
fn after_a_second_signal_the_daemon_waits_for_nothing() {
    let mut daemon = Daemon::start(&Tree::new().with("streams"));
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    assert_eq!(client.head().status, 200);
    daemon.signal(Signal::INT);
    daemon.log.wait_for(&["info    plugind: stopping"]);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(), 0);
    daemon.log.wait_for(&["warning plugind: stopped without waiting"]);
}

#[test]
fn a_stop_gives_a_plugin_the_time_of_its_manifest_and_asks_systemd_for_it() {
    let manifest = "[service]\ntimeout-stop-sec = \"2min\"\n";
    let tree = Tree::new().with_manifest("streams", manifest).with("hello");
    let path = tree.root().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    let mut daemon = Daemon::start_by(&tree, &["env", &socket]);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    assert_eq!(client.head().status, 200);
    daemon.signal(Signal::TERM);
    daemon.log.wait_for(&["info    plugind: stopping"]);
    // It asks every 5 seconds, so the last of these comes after more than the 30 seconds that a stop may take if no
    // plugin has more.
    for _ in 0..9 {
        let mut buffer = [0; 4096];
        while {
            let length = systemd.recv(&mut buffer).unwrap();
            buffer[..length] != *b"EXTEND_TIMEOUT_USEC=30000000\n"
        } {}
        client.write_chunk(b"still here");
        assert_eq!(client.chunks_of(10), b"still here");
    }
    client.write_chunk(b"");
    assert_eq!(client.chunks_of(1), b"");
    assert_eq!(daemon.wait(), 0);
    daemon.log.wait_for(&["info    plugind: stopped"]);
    assert_eq!(daemon.log.count(&["warning"]), 0);
}

#[test]
fn a_plugin_that_spins_does_not_keep_the_daemon() {
    // The second request must not share an instance with the one that spins.
    let manifest = "[service]\ntimeout-stop-sec = \"1s\"\n[instances]\nconcurrency = 1\n";
    let tree = Tree::new().with_manifest("loops_in_request", manifest);
    let mut daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    client.request("GET", "/loops-in-request/loop", &[]);
    // Another one is served, so that one has begun.
    assert_eq!(daemon.get("/loops-in-request").status(), 200);
    drop(client);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_plugin_that_spins_and_its_waiting_client_have_the_time_to_stop_and_no_more() {
    // The second request must not share an instance with the one that spins.
    let manifest = "[service]\ntimeout-stop-sec = \"1s\"\nwatchdog-sec = \"1h\"\n\
                    [instances]\nconcurrency = 1\n";
    let tree = Tree::new().with_manifest("loops_in_request", manifest);
    let mut daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    client.request("GET", "/loops-in-request/loop", &[]);
    assert_eq!(daemon.get("/loops-in-request").status(), 200);
    daemon.signal(Signal::TERM);
    assert_eq!(client.head().status, 502);
    assert_eq!(daemon.wait(), 0);
    assert_eq!(daemon.log.count(&["connections closed after timeout"]), 0);
}

#[test]
fn a_version_that_spins_has_its_time_to_stop_and_no_more() {
    let manifest = "[service]\ntimeout-stop-sec = \"1s\"\n[instances]\nconcurrency = 1\n";
    let tree = Tree::new().with_manifest("loops_in_request", manifest);
    let daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    client.request("GET", "/loops-in-request/loop", &[]);
    assert_eq!(daemon.get("/loops-in-request").status(), 200);
    tree.put("loops-in-request.wasm", another("loops_in_request"));
    daemon.reload();
    // It is ended by the time that its manifest gives it, and not by its watchdog.
    daemon.log.wait_for(&["instance failed", "generation=1 ", "result=timeout"]);
}

#[test]
fn a_part_of_a_request_does_not_hold_up_a_stop() {
    let mut daemon = Daemon::start(&Tree::new().with("streams"));
    let parts = ["G", "GET /streams HT", "GET /streams HTTP/1.1\r\nHost: local"];
    let mut clients = parts.map(|part| {
        let mut fresh = daemon.connect();
        fresh.write(part);
        let mut used = daemon.connect();
        assert_eq!(used.get("/streams").status(), 200);
        used.write(part);
        [fresh, used]
    });
    daemon.signal(Signal::TERM);
    for client in clients.iter_mut().flatten() {
        assert_eq!(client.wait_until_closed(), b"");
    }
    assert_eq!(daemon.wait(), 0);
    assert_eq!(daemon.log.count(&["warning"]), 0, "nothing was cut off");
}
