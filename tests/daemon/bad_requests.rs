//! Malformed and ambiguous requests are refused, and harm no other client.

use plugind_tests::{Daemon, Tree};

#[test]
fn a_request_without_one_good_host_is_refused() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    let reported = |request: &str| {
        let mut client = daemon.connect();
        client.write(request);
        client.response().status()
    };
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\nHost:\r\n\r\n"), 400);
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(reported("GET /greeter-02 HTTP/1.1\r\nHost: a:b@c\r\n\r\n"), 400);
    assert_eq!(reported("GET http://a/greeter-02 HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(reported("GET http://a:b@c/greeter-02 HTTP/1.1\r\nHost: c\r\n\r\n"), 400);
    assert_eq!(reported("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), 400);
    assert_eq!(reported("GET http://a/greeter-02 HTTP/1.1\r\nHost: b\r\n\r\n"), 200);
    // HTTP/1.0 knew no hosts.
    assert_eq!(reported("GET /greeter-02 HTTP/1.0\r\n\r\n"), 200);
}

#[test]
fn a_path_with_dot_segments_is_refused_however_it_is_written() {
    let daemon = Daemon::start(&Tree::new().with("headers"));
    for path in [
        "/headers/../x",
        "/headers/..",
        "/./headers",
        "/headers/.",
        "/headers/%2e%2E/x",
        "/headers/.%2e",
        "/headers/%2e",
    ] {
        assert_eq!(daemon.get(path).status(), 400, "{path}");
    }
    for path in ["/headers/...", "/headers/.x", "/headers/x.", "/headers?/../x"] {
        assert_eq!(daemon.get(path).status(), 200, "{path}");
    }
}

#[test]
fn a_malformed_request_is_refused_and_harms_no_other_client() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    let many = "X: y\r\n".repeat(101);
    for request in [
        "\r\nhello\r\n\r\n",
        "GET /greeter-02 HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET  /greeter-02 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /greeter-02 HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
        "GET /greeter-02 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("GET /greeter-02 HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
    ] {
        let mut client = daemon.connect();
        client.write(request);
        let status = client.head().status;
        assert!((400..500).contains(&status), "{status} for {request:.80}");
    }
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn a_request_with_two_lengths_cannot_hide_another_one_behind_it() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02").with("streams"));
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 40",
        "Transfer-Encoding: chunked, identity\r\nContent-Length: 4",
    ] {
        let mut client = daemon.connect();
        client.write(format!(
            "POST /streams/up HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n\
             GET /greeter-02 HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        let answer = client.response();
        assert!(matches!(answer.status(), 200 | 400), "{lengths}");
        assert_ne!(answer.text(), "4", "{lengths}: a proxy may have meant something else");
        assert_eq!(client.wait_until_closed(), b"", "{lengths}: nothing behind it is believed");
    }
}

#[test]
fn a_header_that_does_not_end_is_cut_off() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    let mut client = daemon.connect();
    client.write("GET /greeter-02 HTTP/1.1\r\nHost: a\r\nX: ");
    let piece = [b'x'; 64 << 10];
    let taken = (0..1024).take_while(|_| client.try_write(&piece)).count();
    assert!(taken < 1024, "64 MiB of header were taken");
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}
