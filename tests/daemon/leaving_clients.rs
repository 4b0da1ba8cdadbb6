//! Clients that close a direction, leave in the middle, or send nothing for long.

use plugind_tests::{Connection, Daemon, Tree, WAIT_MAX};
use rustix::net::sockopt::set_socket_linger;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

#[test]
fn clients_that_go_away_in_the_middle_hurt_nobody_else() {
    let daemon = Daemon::start(&Tree::new().with("streams").with("streams_02"));
    type Cut<'a> = &'a dyn Fn(&mut Connection, &str);
    let cut: [Cut; 4] = [
        &|client, _| client.write("GET / HT"),
        &|client, path| {
            client.request("POST", &format!("{path}/up"), &["Content-Length: 1000"]);
            client.write("half of it");
        },
        &|client, path| {
            client.request("GET", &format!("{path}/down/100000000"), &[]);
            client.head();
        },
        &|client, path| {
            client.request("POST", &format!("{path}/echo"), &["Transfer-Encoding: chunked"]);
            client.write_chunk(b"some");
            client.head();
            assert_eq!(client.chunks_of(4), b"some");
            client.write("zzz\r\n");
        },
    ];
    for path in ["/streams", "/streams-02"] {
        for cut in cut {
            cut(&mut daemon.connect(), path);
            assert_eq!(daemon.get(path).status_and_text(), (200, "fine"));
        }
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_client_that_sends_no_more_gets_its_response() {
    let daemon = Daemon::start(&Tree::new().with("sleeps").with("streams"));
    let mut client = daemon.connect();
    client.request("GET", "/sleeps/sleep/300", &[]);
    client.finish_writing();
    assert_eq!(client.response().status_and_text(), (200, "slept"));
    assert_eq!(client.wait_until_closed(), b"");

    let mut client = daemon.connect();
    client.request("POST", "/streams/up", &["Content-Length: 5"]);
    client.write("12345");
    client.finish_writing();
    assert_eq!(client.response().status_and_text(), (200, "5"));
}

#[test]
fn a_client_that_disappears_from_a_response_that_pauses_is_noticed() {
    let daemon = Daemon::start_with(&Tree::new().with("streams"), &["--log", "debug"]);
    // One byte behind the request lies unread, and hides that the client closes.
    let request = "GET /streams/stalls HTTP/1.1\r\nHost: localhost\r\n\r\nX";
    let mut closed = daemon.connect();
    closed.write(request);
    assert_eq!(closed.head().status, 200);
    assert_eq!(closed.chunks_of(5), b"begun");
    drop(closed);
    daemon.log.wait_for(&["debug", "connection timed out"]);

    // A response that was not read makes the kernel reset the connection.
    let mut reset = TcpStream::connect(daemon.address()).unwrap();
    reset.write_all(request.as_bytes()).unwrap();
    assert_eq!(reset.peek(&mut [0]).unwrap(), 1);
    let peer = format!("peer={}", reset.local_addr().unwrap());
    drop(reset);
    // It is noticed as such, or by a write that fails.
    daemon.log.wait_for(&["debug", &peer]);
    assert_eq!(daemon.get("/streams").status_and_text(), (200, "fine"));
}

#[test]
fn clients_that_are_gone_keep_no_place_in_a_plugin() {
    let manifest = "[instances]\nmax = 1\nconcurrency = 2\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("streams", manifest));
    let request = "GET /streams/stalls HTTP/1.1\r\nHost: localhost\r\n\r\nX";
    let begin = |is_read: bool| {
        let mut client = TcpStream::connect(daemon.address()).unwrap();
        client.set_read_timeout(Some(WAIT_MAX)).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut read = Vec::new();
        while is_read && !read.ends_with(b"begun\r\n") {
            let mut piece = [0; 512];
            let length = client.read(&mut piece).unwrap();
            read.extend_from_slice(&piece[..length]);
        }
        if !is_read {
            client.peek(&mut [0]).unwrap();
        }
        client
    };
    // A client that read the answer ends with FIN, others with RST. The guest notices neither; the third pair has no
    // place in this instance, so another one takes over.
    for is_read in [true, false, true] {
        let clients = [begin(is_read), begin(is_read)];
        drop(clients);
        assert_eq!(daemon.get("/streams").status_and_text(), (200, "fine"));
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn tasks_for_clients_that_are_gone_do_not_delay_a_reload_or_a_stop() {
    // Far longer than this test waits.
    let manifest = "[service]\ntimeout-stop-sec = \"10min\"\n";
    let tree = Tree::new().with_manifest("streams", manifest).with_manifest("says_stop", manifest);
    let mut daemon = Daemon::start(&tree);
    let leave_tasks = |times: usize| {
        let mut responding = daemon.connect();
        responding.request("GET", "/streams/stalls", &[]);
        assert_eq!(responding.head().status, 200);
        assert_eq!(responding.chunks_of(5), b"begun");
        let mut waiting = TcpStream::connect(daemon.address()).unwrap();
        let request = b"GET /says-stop/forever HTTP/1.1\r\nHost: localhost\r\n\r\n";
        waiting.write_all(request).unwrap();
        daemon.log.wait_for_times(times, &["plugind[says-stop]: request begun"]);
        // It resets the connection: one that only sends no more still gets its response.
        set_socket_linger(&waiting, Some(Duration::ZERO)).unwrap();
    };
    leave_tasks(1);
    for plugin in ["streams", "says-stop"] {
        tree.put(&format!("{plugin}.toml"), format!("{manifest}timeout-start-sec = \"9s\"\n"));
    }
    assert!(daemon.reload().contains("changed=2 failed=0"));
    daemon.log.wait_for(&["plugind[says-stop]: stopped: StopReason::Reload"]);
    leave_tasks(2);
    assert_eq!(daemon.stop(), 0);
    daemon.log.wait_for(&["plugind[says-stop]: stopped: StopReason::Shutdown"]);
    assert_eq!(daemon.log.count(&["warning"]), 0);
}

#[test]
fn a_connection_may_be_idle_for_as_long_as_a_setting_says() {
    let tree = Tree::new().with("greeter_02");
    let settings = "[http]\nkeep-alive-sec = \"1s\"\n";
    std::fs::write(tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
    let daemon = Daemon::start_with(&tree, &["--log", "debug"]);
    let mut client = daemon.connect();
    assert_eq!(client.get("/greeter-02").status(), 200);
    assert_eq!(client.get("/greeter-02").status(), 200);
    assert_eq!(client.wait_until_closed(), b"");
    daemon.log.wait_for(&["debug", "connection timed out"]);
}
