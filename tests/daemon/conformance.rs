//! Demands of RFC 9110 and RFC 9112 on a server, beside those that its parser enforces by itself.

use plugind_tests::{Daemon, Tree, run, tool};

#[test]
fn a_body_with_any_coding_but_chunked_is_refused_with_what_follows_it() {
    let daemon = Daemon::start(&Tree::new().with("streams"));
    for (codings, status) in [
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        // Without `chunked` at the end nobody knows where the body ends (RFC 9112, 6.3).
        ("Transfer-Encoding: gzip", 400),
        ("Transfer-Encoding: chunked, gzip", 400),
    ] {
        let mut client = daemon.connect();
        client.write(format!(
            "POST /streams/up HTTP/1.1\r\nHost: a\r\n{codings}\r\n\r\n0\r\n\r\n\
             GET /streams/down/1 HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        assert_eq!(client.response().status(), status, "{codings}");
        assert_eq!(client.wait_until_closed(), b"", "{codings}");
    }
    let mut client = daemon.connect();
    client.request("POST", "/streams/up", &["Transfer-Encoding: Chunked"]);
    client.write("1\r\nx\r\n0\r\n\r\n");
    assert_eq!(client.response().status_and_text(), (200, "1"));
}

#[test]
fn a_host_with_a_bad_port_or_a_list_of_hosts_is_refused() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    for (host, status) in [
        ("a:http", 400),
        ("a:65536", 400),
        ("a:80:80", 400),
        ("a, b", 400),
        ("a,b", 400),
        ("[::1", 400),
        ("[a]", 400),
        ("a:65535", 200),
        ("a:", 200),
        ("[::1]:80", 200),
    ] {
        let mut client = daemon.connect();
        client.write(format!("GET /greeter-02 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "{host}");
    }
}

#[test]
fn an_expectation_that_nobody_can_meet_is_refused() {
    let daemon = Daemon::start(&Tree::new().with("streams"));
    for expected in ["200-ok", "100-continue, x", "x=\"y\""] {
        let mut client = daemon.connect();
        let expect = format!("Expect: {expected}");
        client.request("POST", "/streams/up", &[&expect, "Content-Length: 3"]);
        assert_eq!(client.response().status(), 417, "{expected}");
        assert_eq!(client.wait_until_closed(), b"", "{expected}");
    }
    let mut client = daemon.connect();
    client.request("POST", "/streams/up", &["Expect: 100-Continue", "Content-Length: 3"]);
    assert_eq!(client.head().status, 100);
    client.write("abc");
    assert_eq!(client.response().status_and_text(), (200, "3"));
}

#[test]
fn a_response_that_is_not_final_is_a_bad_one() {
    let daemon = Daemon::start(&Tree::new().with("statuses"));
    let mut client = daemon.connect();
    for status in [100, 101, 103, 199] {
        let answer = client.get(&format!("/statuses/{status}"));
        assert_eq!(answer.status_and_text(), (502, "plugin statuses failed\n"), "{status}");
    }
    assert_eq!(client.get("/statuses/200").status_and_text(), (200, "a body"));
}

#[test]
fn a_status_without_a_body_has_none_and_no_length() {
    let daemon = Daemon::start(&Tree::new().with("statuses"));
    let mut client = daemon.connect();
    for status in ["204", "304"] {
        for path in [format!("/statuses/{status}"), format!("/statuses/{status}/length")] {
            for method in ["GET", "HEAD"] {
                client.request(method, &path, &[]);
                let head = client.head();
                assert_eq!(head.status.to_string(), status);
                for field in ["content-length", "transfer-encoding"] {
                    assert_eq!(head.field(field), None, "{method} {path}");
                }
            }
        }
    }
    for (path, length) in [("/statuses/200/length", Some("6")), ("/statuses/200", None)] {
        client.request("HEAD", path, &[]);
        let head = client.head();
        assert_eq!((head.status, head.field("content-length")), (200, length), "{path}");
        // Had a body come, it would be in the way of this one.
        assert_eq!(client.get(path).text(), "a body");
    }
}

#[test]
fn a_script_that_closes_its_side_gets_its_response() {
    let daemon = Daemon::start(&Tree::new().with("sleeps").with("greeter_02"));
    let port = daemon.address().port();
    for (path, expected) in
        [("/sleeps/sleep/300", "slept"), ("/greeter-02", "Hello from a wasi:http 0.2 component")]
    {
        let script = format!(
            "printf 'GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' | nc -N 127.0.0.1 {port}"
        );
        let answer = run(tool("sh").args(["-c", &script]));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(expected), "{answer}");
    }
}
