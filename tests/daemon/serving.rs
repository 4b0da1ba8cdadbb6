//! The plugin that answers a request, and the view that client and plugin have of each other.

use crate::control;
use plugind_tests::{Daemon, Tree, eventually};

/// A manifest that says who it is, for the guest `config`.
fn who(name: &str, serve: &str) -> String {
    format!("{serve}\n[config]\nwho = \"{name}\"\n")
}

fn route(route: &str) -> String {
    format!("[[serve]]\nroute = \"{route}\"\n")
}

#[test]
fn plain_components_of_both_versions_of_wasi_http_are_plugins() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02").with("sleeps"));
    assert_eq!(
        daemon.get("/greeter-02").status_and_text(),
        (200, "Hello from a wasi:http 0.2 component\n")
    );
    assert_eq!(daemon.get("/sleeps").status_and_text(), (200, "fine"));
}

#[test]
fn the_later_of_two_wasi_versions_in_one_component_serves() {
    let daemon = Daemon::start(&Tree::new().with("both_versions"));
    assert_eq!(daemon.get("/both-versions").status_and_text(), (200, "0.3"));
}

#[test]
fn the_longest_route_that_ends_where_a_segment_ends_serves() {
    let tree = Tree::new()
        .with_named("top", "config", &who("top", &route("/")))
        .with_named("a", "config", &who("a", &route("/a")))
        .with_named("ab", "config", &who("ab", &route("/a/b")));
    let daemon = Daemon::start(&tree);
    for (path, who) in [
        ("/", "top"),
        ("/a", "a"),
        ("/a/", "a"),
        ("/a?b", "a"),
        ("/a/b", "ab"),
        ("/a/b/c?d", "ab"),
        ("/a/bc", "a"),
        ("/ab", "top"),
        ("/%61", "a"),
        ("/a%2Fb", "top"),
        ("//a", "top"),
    ] {
        assert_eq!(daemon.get(path).status_and_text(), (200, &*format!("who={who}\n")), "{path}");
    }
}

#[test]
fn a_host_has_routes_of_its_own_and_shares_the_others() {
    let host = "[[serve]]\nhost = \"One.Example\"\nroute = \"/a\"\n";
    let tree = Tree::new().with_named("one", "config", &who("one", host)).with_named(
        "any",
        "config",
        &who("any", &[route("/a"), route("/b")].concat()),
    );
    let daemon = Daemon::start(&tree);
    for (host, path, who) in [
        ("one.example", "/a", "one"),
        ("ONE.example:8080", "/a/b", "one"),
        ("one.example", "/b", "any"),
        ("two.example", "/a", "any"),
        ("127.0.0.1", "/a", "any"),
    ] {
        let mut client = daemon.connect();
        client.write(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let reported = format!("who={who}\n");
        assert_eq!(client.response().status_and_text(), (200, &*reported), "{host} {path}");
        // The same in the form that is meant for proxies, where the target counts and not the header.
        client.write(format!("GET http://{host}{path} HTTP/1.1\r\nHost: other.example\r\n\r\n"));
        assert_eq!(client.response().status_and_text(), (200, &*reported), "http://{host}{path}");
    }
}

#[test]
fn a_plugin_sees_the_path_below_its_route_and_the_route_in_a_header() {
    let keep = format!("{}strip-prefix = false\n", route("/kept"));
    let tree = Tree::new()
        .with("headers")
        .with_named("deep", "headers", &route("/deep/down"))
        .with_named("kept", "headers", &keep)
        .with_named("top", "headers", &route("/"));
    let daemon = Daemon::start(&tree);
    for (asked, seen, prefix) in [
        ("/headers", "/", Some("/headers")),
        ("/headers/x/?y=/z", "/x/?y=/z", Some("/headers")),
        ("/headers/%7Ex", "/%7Ex", Some("/headers")),
        ("/deep/down", "/", Some("/deep/down")),
        ("/deep/down?y", "/?y", Some("/deep/down")),
        ("/deep/down/x/", "/x/", Some("/deep/down")),
        ("/%64eep/down/x%2fy", "/x%2fy", Some("/%64eep/down")),
        ("/kept/x?y", "/kept/x?y", None),
        ("/other/x", "/other/x", None),
    ] {
        let mut client = daemon.connect();
        // A client cannot choose where links begin.
        client.request("GET", asked, &["X-Forwarded-Prefix: /forged"]);
        let answer = client.response();
        let line = format!("path: Some({seen:?})");
        assert!(
            answer.text().lines().any(|reported| reported == line),
            "{asked}: {}",
            answer.text()
        );
        let text = answer.text();
        let reported: Vec<_> = text
            .lines()
            .filter_map(|reported| reported.strip_prefix("header x-forwarded-prefix: "))
            .collect();
        assert_eq!(reported, prefix.into_iter().collect::<Vec<_>>(), "{asked}");
    }
}

#[test]
fn a_path_that_no_plugin_serves_is_not_found() {
    let daemon = Daemon::start(&Tree::new().with("greeter_02"));
    for path in ["/", "/greeter", "/greeter-02x", "/GREETER-02"] {
        let answer = daemon.get(path);
        assert_eq!(answer.status_and_text(), (404, "no plugin serves this path\n"), "{path}");
        let kind = answer.head.field("content-type");
        assert_eq!(kind, Some("text/plain; charset=utf-8"), "{path}");
    }
}

#[test]
fn a_head_request_has_the_headers_of_a_get_and_no_body() {
    let daemon = Daemon::start(&Tree::new().with("hello").with("greeter_02"));
    let mut client = daemon.connect();
    for path in ["/hello", "/greeter-02", "/nobody"] {
        let full = client.get(path);
        client.request("HEAD", path, &[]);
        let head = client.head();
        assert_eq!(head.status, full.status(), "{path}");
        assert_eq!(head.field("content-length"), full.head.field("content-length"), "{path}");
        assert_eq!(full.body.len().to_string(), head.field("content-length").unwrap(), "{path}");
        // Had a body come, it would be in the way of this one.
        assert_eq!(client.get(path).body, full.body, "{path}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let tree = Tree::new().with_manifest("counts", "[instances]\nmax = 1\n").with("greeter_02");
    let daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    for nth in 1..=50 {
        let count = format!("count={nth}");
        assert!(client.get("/counts").text().ends_with(&count));
        assert_eq!(client.get("/greeter-02").status(), 200);
        assert_eq!(client.get("/nobody").status(), 404);
    }
    client.request("GET", "/counts", &["Connection: close"]);
    assert_eq!(client.response().head.field("connection"), Some("close"));
    assert_eq!(client.wait_until_closed(), b"");
}

#[test]
fn requests_that_do_not_wait_for_answers_are_answered_in_their_order() {
    let daemon = Daemon::start(&Tree::new().with("sleeps").with("greeter_02"));
    let mut client = daemon.connect();
    client.request("GET", "/sleeps/sleep/100", &[]);
    client.request("GET", "/greeter-02", &[]);
    client.request("GET", "/nobody", &[]);
    assert_eq!(client.response().text(), "slept");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response().status(), 404);
}

#[test]
fn a_client_that_waits_for_permission_to_send_its_body_gets_it() {
    let daemon = Daemon::start(&Tree::new().with("streams").with("streams_02"));
    for path in ["/streams/up", "/streams-02/up"] {
        let mut client = daemon.connect();
        client.request("POST", path, &["Expect: 100-continue", "Content-Length: 5"]);
        assert_eq!(client.head().status, 100, "{path}");
        client.write("12345");
        assert_eq!(client.response().status_and_text(), (200, "5"), "{path}");
        // A client that does not wait for it gets no such answer, and the connection is as good as before.
        client.request("POST", path, &["Content-Length: 3"]);
        client.write("123");
        assert_eq!(client.response().status_and_text(), (200, "3"), "{path}");
    }
}

#[test]
fn trailers_go_both_ways() {
    let daemon = Daemon::start(&Tree::new().with("streams"));
    let mut client = daemon.connect();
    let lines = ["TE: trailers", "Trailer: x-sum", "Transfer-Encoding: chunked"];
    client.request("POST", "/streams/trailers", &lines);
    client.write_chunk(b"some");
    client.write_chunk(b"thing");
    client.write("0\r\nx-sum: 42\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status_and_text(), (200, "x-sum: 42\n"));
    assert_eq!(answer.trailers, [("x-count".to_owned(), "9".to_owned())]);

    client.request("POST", "/streams/trailers", &["Content-Length: 4"]);
    client.write("some");
    let answer = client.response();
    assert_eq!(answer.status_and_text(), (200, "none\n"));
    assert_eq!(answer.trailers, [], "trailers come only to who asks for them");
}

#[test]
fn a_plugin_sees_the_request_that_the_client_sent() {
    let daemon = Daemon::start(&Tree::new().with("headers"));
    let mut client = daemon.connect();
    client.write(
        "PURGE /headers?a=b HTTP/1.1\r\nHost: example.com:8080\r\nX-Twice: 1\r\nx-twice: 2\r\n\
         X-Bytes: caf\u{e9}\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = client.response();
    let seen: Vec<_> = answer.text().lines().collect();
    for line in [
        "method: Method::Other(\"PURGE\")",
        "scheme: Some(Scheme::Http)",
        "authority: Some(\"example.com:8080\")",
        "path: Some(\"/?a=b\")",
        "header x-twice: 1",
        "header x-twice: 2",
        "header x-bytes: caf\u{e9}",
    ] {
        assert!(seen.contains(&line), "{line:?} is not in {seen:#?}");
    }
}

#[test]
fn a_plugin_sets_its_own_headers_and_none_of_the_connections() {
    let daemon = Daemon::start(&Tree::new().with("headers"));
    let mut client = daemon.connect();
    let gives = [
        "x-own: yes",
        "set-cookie: a",
        "set-cookie: b",
        "connection: close",
        "transfer-encoding: gzip",
        "upgrade: h2c",
        "keep-alive: timeout=1",
    ];
    let lines = gives.map(|give| format!("X-Give: {give}"));
    client.request("GET", "/headers", &lines.each_ref().map(String::as_str));
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.field("x-own"), Some("yes"));
    let cookies = answer.head.fields.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.map(|(_, value)| &**value).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(answer.head.field("connection"), None);
    assert_eq!(answer.head.field("upgrade"), None);
    assert_eq!(answer.head.field("transfer-encoding"), Some("chunked"));
    assert_eq!(client.get("/headers").status(), 200, "the connection is still good");
}

#[test]
fn a_plugin_that_lies_about_its_length_hurts_its_own_connection_only() {
    let daemon = Daemon::start(&Tree::new().with("headers"));
    for length in ["5", "5000"] {
        let mut client = daemon.connect();
        let give = format!("X-Give: content-length: {length}");
        client.request("GET", "/headers", &[&give]);
        client.request("GET", "/headers", &[]);
        // The answer that it broke off may also end with a reset: the second request is left unread then.
        let came = client.wait_until_closed();
        let heads = came.windows(5).filter(|bytes| *bytes == b"HTTP/").count();
        assert!(heads <= 1, "{length}: another answer follows where the client is still reading");
        assert_eq!(daemon.get("/headers").status(), 200);
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_plugin_reads_its_configuration() {
    let text = "[config]\nb = \"two\"\na = \"one\"\n\"c d\" = \"Zwölf\\n\"\n";
    let tree = Tree::new().with("config").with_named("configured", "config", text);
    let tree = tree.with_manifest("hello", "[config]\ngreeting = \"Good day\"\n");
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/config").status_and_text(), (200, ""));
    assert_eq!(daemon.get("/configured").status_and_text(), (200, "a=one\nb=two\nc d=Zwölf\n\n"));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
}

#[test]
fn a_body_that_nobody_reads_costs_the_client_neither_its_answer_nor_its_connection() {
    let tree = Tree::new().with("hello").with("greeter_02");
    let daemon = Daemon::start(&tree);
    for (path, status) in [("/hello", 200), ("/greeter-02", 200), ("/nowhere", 404)] {
        let mut client = daemon.connect();
        for _ in 0..10 {
            client.request("POST", path, &["Content-Length: 100000"]);
            // The answer is there before the body is.
            assert_eq!(client.response().status(), status, "{path}");
            client.write([b'x'; 100_000]);
        }
        assert_eq!(client.get(path).status(), status, "{path}");
        // A client that sends without end is cut off.
        client.request("POST", path, &["Transfer-Encoding: chunked"]);
        assert_eq!(client.response().status(), status, "{path}");
        let piece = [b'x'; 100_000];
        let head = format!("{:x}\r\n", piece.len());
        while client.try_write(head.as_bytes())
            && client.try_write(&piece)
            && client.try_write(b"\r\n")
        {}
    }
}

#[test]
fn a_response_that_pauses_for_too_long_is_broken_off_and_gives_its_place_back() {
    let manifest = "[limits]\nidle-timeout = \"500ms\"\n[instances]\nmax = 1\nconcurrency = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("streams", manifest));
    let mut client = daemon.connect();
    client.request("GET", "/streams/stalls", &[]);
    assert_eq!(client.head().status, 200);
    // Without the last piece, which would say that the response is whole.
    let body = client.wait_until_closed();
    assert!(!body.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&body));
    daemon.log.wait_for(&["requests failed", "plugin=streams", "limits.idle-timeout"]);
    assert_eq!(daemon.get("/streams").status_and_text(), (200, "fine"));
}

#[test]
fn requests_that_fail_leave_one_warning_with_cause_and_count() {
    let timeout = "[limits]\nrequest-timeout = \"1s\"\n";
    let busy = "[instances]\nmax = 1\nconcurrency = 1\n[limits]\nrequest-timeout = \"2s\"\n";
    let tree = Tree::new()
        .with("fails")
        .with_manifest("sleeps", timeout)
        .with_named("busy", "streams", busy);
    let daemon = control::start(&tree);
    for _ in 0..3 {
        assert_eq!(daemon.get("/fails").status(), 502);
    }
    let words = ["requests failed", "plugin=fails", "count=1", "cause="];
    daemon.log.wait_for(&words);
    assert_eq!(daemon.log.count(&["requests failed", "plugin=fails"]), 1, "the others wait");

    assert_eq!(daemon.get("/sleeps/sleep/3600000").status(), 504);
    daemon.log.wait_for(&["requests failed", "plugin=sleeps", "limits.request-timeout"]);

    let mut stalls = daemon.connect();
    stalls.request("GET", "/busy/stalls", &[]);
    assert_eq!(stalls.head().status, 200);
    assert_eq!(daemon.get("/busy").status(), 503);
    daemon.log.wait_for(&["requests failed", "plugin=busy", "raise instances.max"]);
    let status = control::run(&tree, &["status", "busy"]).stdout;
    assert!(status.contains("Requests: 1 busy (503) in the last minute\n"), "{status}");
    for (plugin, line) in [
        ("fails", "Requests: 3 failed in the last minute\n"),
        ("sleeps", "Requests: 1 timed out (504) in the last minute\n"),
    ] {
        let status = control::run(&tree, &["status", plugin]).stdout;
        assert!(status.contains(line), "{status}");
    }
}

#[test]
fn requests_that_wait_for_an_instance_are_in_the_status_of_their_plugin() {
    let one = "[instances]\nmax = 1\nconcurrency = 1\n[limits]\nrequest-timeout = \"1h\"\n";
    let tree = Tree::new().with_manifest("streams", one);
    let daemon = control::start(&tree);
    let mut stalls = daemon.connect();
    stalls.request("GET", "/streams/stalls", &[]);
    assert_eq!(stalls.head().status, 200);
    let mut waiting = [(); 2].map(|()| daemon.connect());
    for client in &mut waiting {
        client.request("GET", "/streams", &[]);
    }
    eventually("the requests that wait", || {
        let status = control::run(&tree, &["status", "streams"]).stdout;
        status.contains("   Requests: 2 waiting, the oldest for ").then_some(())
    });
    let list = control::run(&tree, &["list", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let requests = &list["plugins"][0]["requests"];
    assert!(requests["queued"] == 2 && requests["waited"].as_u64() > Some(0), "{list}");
}
