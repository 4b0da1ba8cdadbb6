//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The longest time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a WebSocket (RFC 6455), and returns it with the head of the response.
fn open(host: &Host) -> (BufReader<TcpStream>, String) {
    let stream = TcpStream::connect(host.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = BufReader::new(stream);
    let request = "GET /@NAME@ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
    (stream, head)
}

/// Sends a short text. Clients have to mask it; a mask of zeros leaves it as it is.
fn send(stream: &mut BufReader<TcpStream>, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126, "a longer text needs a longer head");
    let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
    stream.get_mut().write_all(&frame).unwrap();
}

/// Receives a short text.
fn receive(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81, "a text in one frame");
    let mut text = vec![0; head[1].into()];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_client_is_greeted_and_a_request_for_no_websocket_is_refused() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let manifest = "[config]\ngreeting = \"Good morning\"\n";
    let host = Host::with("@NAME@", component).manifest(manifest).start();
    host.wait_for_log("greeting loaded");
    let (mut stream, head) = open(&host);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for name in ["Ada", "Grace"] {
        send(&mut stream, name);
        assert_eq!(receive(&mut stream), format!("Good morning, {name}\n"));
    }
    assert_eq!(host.get("/").status, 426);
    drop(stream);
    assert!(host.stop().0.success());
}
