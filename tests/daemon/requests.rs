//! A request has one identity, which the host's and the guest's entries about it share, and each
//! failure is logged with its cause.

use crate::{control, readiness::http_02};
use plugind_tests::{Daemon, Tree, end_of, eventually};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

/// A request that another program has begun.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// The value of a field in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split(' ').next()
}

fn traceparent() -> String {
    format!("traceparent: 00-{TRACE}-{SPAN}-01")
}

/// The identities in a `traceparent` that a plugin saw: trace and request.
fn seen(answer: &str) -> (&str, &str) {
    let mut all = answer.lines().filter_map(|line| line.strip_prefix("header traceparent: 00-"));
    let (field, other) = (all.next().expect("a plugin sees the field"), all.next());
    assert_eq!((field.len(), other), (52, None), "{answer}");
    (&field[..32], &field[33..49])
}

#[test]
fn a_trap_is_logged_with_the_functions_of_the_guest_and_the_request() {
    let daemon = Daemon::start(
        &Tree::new()
            .with("traps_02")
            .with_manifest("traps_in_request", "[instances]\nmode = \"exclusive\"\n"),
    );
    for plugin in ["traps-02", "traps-in-request"] {
        assert_eq!(daemon.get(&format!("/{plugin}/trap")).status(), 502);
        let named = format!("plugin={plugin} ");
        let trapped = daemon.log.wait_for(&["instance failed", &named, "result=trap "]);
        let (_, backtrace) = trapped.split_once(" backtrace=\"").expect("it has a backtrace");
        assert!(
            backtrace.contains("!abort") && backtrace.contains("::process::abort"),
            "{trapped}"
        );
        let failed = daemon.log.wait_for(&["requests failed", &named, "count=1 "]);
        for name in ["request_id", "trace_id"] {
            assert!(field(&failed, name).is_some(), "{failed}");
            assert_eq!(field(&trapped, name), field(&failed, name), "{trapped}");
        }
    }
}

#[test]
fn each_way_to_fail_a_request_has_its_cause_in_one_warning_and_counts() {
    let ways = [
        ("nothing", "fails_02", "/nothing", Some(502), "never invoked"),
        ("error", "fails_02", "/error", Some(502), "InternalError"),
        ("status", "statuses", "/103", Some(502), "must be final; it is 103"),
        ("short", "fails_02", "/short", None, "the body of the response"),
        ("aborts", "fails_02", "/aborts", None, "the body of the response"),
    ];
    let manifest = "[instances]\nmode = \"exclusive\"\n";
    let tree = Tree::new();
    for (plugin, guest, ..) in ways {
        tree.put_guest(plugin, guest);
        tree.put(&format!("{plugin}.toml"), manifest);
    }
    let daemon = control::start(&tree);
    for (plugin, _, path, status, cause) in ways {
        for _ in 0..2 {
            let mut client = daemon.connect();
            client.request("GET", &format!("/{plugin}{path}"), &["Connection: close"]);
            let came = client.wait_until_closed();
            // A response whose body fails may be lost as a whole.
            if let Some(status) = status {
                let begins = format!("HTTP/1.1 {status} ");
                assert!(came.starts_with(begins.as_bytes()), "{plugin}");
            }
        }
        let words = ["warning plugind: requests failed ", &format!("plugin={plugin} "), "count=1 "];
        let line = daemon.log.wait_for(&words);
        assert!(line.contains(cause), "{plugin}: {line}");
        assert!(field(&line, "request_id").is_some() && field(&line, "trace_id").is_some());
        let shown = "Requests: 2 failed in the last minute\n";
        eventually(&format!("{plugin} to have failed twice"), || {
            let status = control::run(&tree, &["status", plugin]).stdout;
            let counted = status.contains(" (instances), 2 (requests)\n");
            (counted && status.contains(shown)).then_some(())
        });
        assert_eq!(daemon.log.count(&words[..2]), 1, "the second one waits");
    }
}

#[test]
fn a_plugin_sees_a_trace_of_a_trusted_proxy_and_none_of_a_client() {
    let proxies = "[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\n";
    for (settings, is_trusted) in [(proxies, true), ("", false)] {
        let daemon = Daemon::start(&Tree::new().with("headers").with_settings(settings));
        let ask = |lines: &[&str]| {
            let mut client = daemon.connect();
            client.request("GET", "/headers", lines);
            client.response().text().to_owned()
        };
        let answer = ask(&[&traceparent(), "tracestate: vendor=1"]);
        let (trace, request) = seen(&answer);
        assert_eq!(trace == TRACE, is_trusted, "{answer}");
        assert_ne!(request, SPAN, "the request here is another one than the proxy's");
        assert_eq!(answer.contains("header tracestate: vendor=1\n"), is_trusted, "{answer}");
        let answer = ask(&[]);
        assert_ne!(seen(&answer).0, trace);
    }
}

/// The identity of all lines with these parts, which they have in common.
fn identity(daemon: &Daemon, parts: &[&str], times: usize) -> (String, String) {
    daemon.log.wait_for_times(times, parts);
    let lines = daemon.log.all();
    let mut lines = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part)));
    let of = |line: &str| {
        let value = |name| field(line, name).unwrap_or_else(|| panic!("{name}: {line}")).to_owned();
        (value("trace_id"), value("request_id"))
    };
    let first = of(lines.next().expect("they were waited for"));
    for line in lines {
        assert_eq!(of(line), first, "{line}");
    }
    first
}

#[test]
fn host_and_guest_entries_of_a_request_are_found_by_its_trace() {
    let proxies = "[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\n";
    for mode in ["fresh", "exclusive", "shared"] {
        let manifest = format!("[instances]\nmode = \"{mode}\"\nmax = 1\n");
        let tree = Tree::new().with_manifest("traced", &manifest).with_settings(proxies);
        let daemon = Daemon::start(&tree);
        let mut client = daemon.connect();
        client.request("GET", "/traced/trap", &[&traceparent()]);
        assert_eq!(client.response().status(), 502);
        let of_trace = format!("trace_id={TRACE}");
        for parts in [
            &["info    plugind[traced]: an entry trace-id=forged "][..],
            &["info    plugind[traced]: a line on stdout "],
            &["warning plugind[traced]: a line on stderr "],
            &["warning plugind: instance failed ", "result=trap "],
            &["warning plugind: requests failed "],
        ] {
            let line = daemon.log.wait_for(&[parts, &[&of_trace]].concat());
            assert_eq!(line.matches("trace_id=").count(), 1, "{line}");
        }
        let (_, request) = identity(&daemon, &[&of_trace], 5);
        assert_ne!(request, SPAN);
        // The next request of the same connection has nothing to do with it.
        assert_eq!(client.get("/traced/log").status(), 200);
        daemon.log.wait_for_times(2, &["plugind[traced]: a line on stderr "]);
        assert_eq!(daemon.log.count(&[&of_trace]), 5, "{mode}");
    }
}

#[test]
fn an_instance_with_two_requests_writes_entries_of_each_and_lines_of_neither() {
    let manifest = "[instances]\nmode = \"shared\"\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("traced", manifest));
    let mut holding = daemon.connect();
    holding.request("GET", "/traced/hold", &[]);
    let line = daemon.log.wait_for(&["a line on stderr"]);
    assert!(field(&line, "trace_id").is_some(), "{line}");
    let entry = daemon.log.wait_for(&["an entry"]);
    assert_eq!(field(&line, "trace_id"), field(&entry, "trace_id"));
    let mut others = std::collections::BTreeSet::from([entry]);
    for count in 2..5 {
        let place = daemon.log.place();
        assert_eq!(daemon.get("/traced/log").status(), 200);
        let line = daemon.log.wait_for_after(place, &["a line on stderr"]);
        assert_eq!(field(&line, "trace_id"), None, "{line}");
        let entry = daemon.log.wait_for_after(place, &["an entry"]);
        assert!(field(&entry, "trace_id").is_some(), "{entry}");
        others.insert(entry);
        assert_eq!(others.len(), count, "each has its own");
    }
}

#[test]
fn a_request_that_a_plugin_sends_belongs_to_the_trace_of_the_one_that_it_serves() {
    let proxies = "[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\n";
    let tree = Tree::new()
        .with_named("back", "headers", "[[serve]]\nroute = \"/greeting\"\n")
        .with_settings(proxies);
    let daemon = Daemon::start(&tree);
    let address = daemon.address();
    let granted = format!("[grants]\noutgoing-http = [\"{address}\"]\n");
    tree.put("front.toml", granted);
    tree.put_guest("front", "fetches");
    assert!(daemon.reload().contains("changed=1"));
    for version in ["02", "03"] {
        let mut client = daemon.connect();
        let path = format!("/front/{version}/http/{address}");
        client.request("GET", &path, &[&traceparent()]);
        let answer = client.response();
        let (trace, request) = seen(answer.text());
        assert_eq!(trace, TRACE, "{}", answer.text());
        assert_ne!(request, SPAN);
    }
}

/// Custom sections of DWARF 4 that place all of a module's code at line 42 of `guest.c`.
fn dwarf() -> String {
    let abbreviations = [
        1, 0x11, 0, // 1: a unit without children, with
        0x03, 0x08, // a name,
        0x10, 0x17, // the place of its line numbers,
        0x11, 0x01, // its first address,
        0x12, 0x06, // and its length
        0, 0, 0,
    ];
    let mut unit = vec![4, 0, 0, 0, 0, 0, 4, 1];
    unit.extend(*b"guest.c\0");
    unit.extend([0, 0, 0, 0, 1, 0, 0, 0, 100, 0, 0, 0]);
    let mut header = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0];
    header.extend(*b"guest.c\0\0\0\0\0");
    let program = [
        0, 5, 2, 1, 0, 0, 0, // address 1
        3, 41, 1, // line 42
        2, 100, 0, 1, 1, // until address 101
    ];
    let length = |part: &[u8]| u8::try_from(part.len()).expect("it is short");
    let mut lines = vec![4, 0, length(&header), 0, 0, 0];
    lines.extend(header);
    lines.extend(program);
    let section = |name: &str, prefix: &[u8], bytes: &[u8]| {
        let bytes = prefix.iter().chain(bytes).map(|byte| format!("\\{byte:02x}"));
        format!("(@custom \"{name}\" \"{}\")", bytes.collect::<String>())
    };
    section(".debug_abbrev", &[], &abbreviations)
        + &section(".debug_info", &[length(&unit), 0, 0, 0], &unit)
        + &section(".debug_line", &[length(&lines), 0, 0, 0], &lines)
}

#[test]
fn a_backtrace_has_files_and_lines_where_the_component_says_them() {
    let tree = Tree::new();
    tree.put(
        "bad.wasm",
        http_02(&format!("(func $broken unreachable) (start $broken) {}", dwarf())),
    );
    let ended = end_of(&tree, &[]);
    ended.log.wait_for(&["instance failed", "plugin=bad ", "- broken", "at guest.c:42"]);
}

#[test]
fn a_client_that_still_sends_when_it_is_refused_gets_the_response_and_no_reset() {
    let settings = "[sockets.web]\nprotocol = \"http\"\n";
    let tree = Tree::new().with_settings(settings);
    let path = tree.root().join("web");
    let _daemon = Daemon::start_with(&tree, &["--listen", &format!("web={}", path.display())]);
    let mut client = UnixStream::connect(path).unwrap();
    // The parser refuses the first line, and does not read all of the rest.
    client
        .write_all(format!("GET / HTTP/7.7\r\n\r\n{}", "x".repeat(100 << 10)).as_bytes())
        .unwrap();
    // Until the daemon has closed its side as well: only then is it known whether that was a reset.
    let mut closed = [PollFd::new(&client, PollFlags::empty())];
    poll(&mut closed, None).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
}

#[test]
fn each_request_is_in_the_access_log_in_the_format_of_the_newest_settings() {
    let settings = |format: &str| format!("[sockets.http]\naccess-log = \"{format}\"\n");
    let tree = Tree::new().with("headers").with_settings(&settings("journal"));
    let daemon = Daemon::start(&tree);
    let bytes = daemon.get("/headers/a?b").text().len();
    let line = daemon.log.wait_for(&[
        "info    plugind: request served socket=http plugin=headers client=127.0.0.1 method=GET ",
        &format!(
            " host=localhost target=\"/headers/a?b\" protocol=HTTP/1.1 status=200 bytes={bytes} "
        ),
        " duration_usec=",
    ]);
    assert!(field(&line, "trace_id").is_some() && field(&line, "request_id").is_some(), "{line}");
    // Requests that no plugin sees are in it as well.
    assert_eq!(daemon.get("/nobody").status(), 404);
    daemon.log.wait_for(&["request served socket=http client=127.0.0.1 ", " status=404 "]);
    let mut client = daemon.connect();
    client.write("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    daemon.log.wait_for(&["request served socket=http client=127.0.0.1 ", " status=400 "]);
    // As is what is not even a request.
    for (malformed, status) in [
        ("GET / HTTP/7.7\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)), 431),
    ] {
        let mut client = daemon.connect();
        // It may be refused before all of it is written.
        client.try_write(malformed.as_bytes());
        assert_eq!(client.response_unless_closed().map_or(status, |it| it.status()), status);
        let status = format!(" status={status} ");
        daemon.log.wait_for(&["request served socket=http client=127.0.0.1 method=- ", &status]);
    }

    let reload = |settings: &str| {
        let tree = tree.clone().with_settings(settings);
        assert!(tree.root().exists());
        let place = daemon.log.place();
        daemon.reload();
        daemon.log.wait_for_after(place, &["socket has new settings socket=http"]);
    };
    reload(&settings("combined"));
    let ask = || {
        let mut client = daemon.connect();
        client.request("GET", "/headers/x", &["User-Agent: a \"b\"", "Referer: http://c/"]);
        client.response().text().len()
    };
    let bytes = ask();
    let end = format!("] \"GET /headers/x HTTP/1.1\" 200 {bytes} \"http://c/\" \"a \\\"b\\\"\"");
    let line = daemon.log.wait_for(&["info    plugind: 127.0.0.1 - - [", &end]);
    assert!(line.ends_with(&end), "{line}");

    reload(&settings("json"));
    let bytes = ask();
    let line = daemon.log.wait_for(&["info    plugind: {"]);
    let value: serde_json::Value =
        serde_json::from_str(line.strip_prefix("info    plugind: ").unwrap()).unwrap();
    for (name, expected) in [
        ("socket", "http"),
        ("plugin", "headers"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("target", "/headers/x"),
        ("user_agent", "a \"b\""),
    ] {
        assert_eq!(value[name], expected, "{line}");
    }
    assert_eq!((&value["status"], &value["bytes"]), (&200.into(), &bytes.into()), "{line}");

    reload("");
    let place = daemon.log.place();
    ask();
    assert_eq!(daemon.get("/headers").status(), 200);
    daemon.reload();
    assert!(!daemon.log.all()[place..].iter().any(|line| line.contains("/headers")));
}
