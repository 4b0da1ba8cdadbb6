//! Spans of requests, as a collector of OpenTelemetry gets them.

use crate::metrics::Measured;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use plugind_tests::{Daemon, Tree, WAIT_MAX};
use prost::Message;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

/// A request that another program has begun.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The spans that a collector was sent, each with the name of the service.
type Spans = Receiver<(String, Span)>;

/// Receives one request on a connection, and answers it.
fn collect(connection: impl Read + Write, spans: &Sender<(String, Span)>) {
    let mut connection = BufReader::new(connection);
    let mut header = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => header.push(line.to_ascii_lowercase()),
        }
    }
    assert!(header[0].starts_with("post /v1/traces http/1.1"), "{header:?}");
    assert!(header.contains(&"content-type: application/x-protobuf".to_owned()), "{header:?}");
    let length = header.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    for resource in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
        let service = text(&resource.resource.unwrap().attributes, "service.name").unwrap();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            // The test may have seen enough.
            spans.send((service.clone(), span)).ok();
        }
    }
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    connection.get_mut().write_all(answer.as_bytes()).unwrap();
}

fn on_unix(listener: UnixListener) -> Spans {
    let (sender, spans) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            collect(connection.unwrap(), &sender);
        }
    });
    spans
}

fn on_tcp(listener: TcpListener) -> Spans {
    let (sender, spans) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            collect(connection.unwrap(), &sender);
        }
    });
    spans
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The next span, with the name of its service.
fn next(spans: &Spans) -> (String, Span) {
    spans.recv_timeout(WAIT_MAX).expect("the collector gets a span")
}

#[test]
fn a_collector_on_a_unix_socket_gets_a_span_of_each_request() {
    let tree = Tree::new().with("headers").with("traps_02");
    let path = tree.root().join("otlp.sock");
    let settings = format!(
        "[traces]\nendpoint = \"unix:{}\"\n[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\n",
        path.display()
    );
    let spans = on_unix(UnixListener::bind(&path).unwrap());
    let mut daemon = Daemon::start(&tree.with_settings(&settings));
    let mut client = daemon.connect();
    let traceparent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    client.request("GET", "/headers/a?secret", &[&traceparent]);
    let response = client.response();
    let (service, span) = next(&spans);
    assert_eq!(service, "plugind");
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    // The plugin has seen the same identity.
    let seen = format!("header traceparent: 00-{TRACE}-{}-01", hex(&span.span_id));
    assert!(response.text().contains(&seen), "{}", response.text());
    assert_eq!((span.name.as_str(), span.kind, span.status), ("GET", 2, None));
    assert!(0 < span.start_time_unix_nano);
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/headers/a"),
        ("server.address", "localhost"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("plugind.socket", "http"),
        ("plugind.plugin", "headers"),
    ] {
        assert_eq!(text(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    // A trace that the proxy does not record is not recorded here either.
    client.request("GET", "/headers", &[&traceparent.replace("-01", "-00")]);
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.get("/nobody").status(), 404);
    let (_, span) = next(&spans);
    assert_eq!(text(&span.attributes, "http.response.status_code").as_deref(), Some("404"));
    assert!(span.parent_span_id.is_empty() && span.status.is_none(), "{span:?}");
    assert_ne!(hex(&span.trace_id), TRACE);
    // A span that waits when the daemon stops is sent.
    assert_eq!(client.get("/traps-02/trap").status(), 502);
    assert_eq!(daemon.stop(), 0);
    let (_, span) = next(&spans);
    assert_eq!(text(&span.attributes, "plugind.plugin").as_deref(), Some("traps-02"));
    assert_eq!(span.status.unwrap().code, 2, "a failure of the server is an error");
    assert!(spans.try_recv().is_err());
}

#[test]
fn the_environment_names_a_collector_of_the_network_and_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", listener.local_addr().unwrap());
    let spans = on_tcp(listener);
    let tree = Tree::new().with("hello");
    let wrapper = ["/usr/bin/env", &endpoint, "OTEL_SERVICE_NAME=shop"];
    let daemon = Daemon::start_by(&tree, &wrapper);
    assert_eq!(daemon.get("/hello").status(), 200);
    let (service, span) = next(&spans);
    assert_eq!(service, "shop");
    assert_eq!(text(&span.attributes, "plugind.plugin").as_deref(), Some("hello"));
    drop(daemon);
    let wrong = ["/usr/bin/env", "OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:1"];
    let daemon = Daemon::start_by(&tree, &wrong);
    daemon.log.wait_for(&["warning plugind: environment variable ignored ", "https://"]);
}

#[test]
fn spans_without_a_collector_are_dropped_and_counted_and_requests_are_answered() {
    let tree = Tree::new().with("hello");
    let path = tree.root().join("otlp.sock");
    let settings = format!("[traces]\nendpoint = \"unix:{}\"\n", path.display());
    let measured = Measured::start(&tree.with_settings(&settings), &[]);
    let daemon = &measured.daemon;
    for _ in 0..3 {
        assert_eq!(daemon.get("/hello").status(), 200);
    }
    daemon.log.wait_for(&["warning plugind: cannot export spans endpoint=unix:"]);
    measured.wait_for("plugind_spans_dropped_total", 3.0);
    assert_eq!(measured.value("plugind_spans_exported_total"), Some(0.0));
    let spans = on_unix(UnixListener::bind(&path).unwrap());
    assert_eq!(daemon.get("/hello").status(), 200);
    next(&spans);
    daemon.log.wait_for(&["info    plugind: spans exported again "]);
    measured.wait_for("plugind_spans_exported_total", 1.0);
    assert_eq!(daemon.log.count(&["cannot export spans"]), 1);
}
