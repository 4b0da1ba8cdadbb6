//! WebSockets: opened, refused, passed on and closed, over both versions of HTTP.

use crate::http2::{Frames, frame};
use plugind_tests::{Connection, Daemon, Signal, Tree, WAIT_MAX, another, run, tool};
use std::{io::Write, net::TcpStream};
use tungstenite::{
    ClientRequestBuilder, Message, Utf8Bytes, WebSocket,
    error::Error,
    http::Response,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

pub(crate) type Client = WebSocket<TcpStream>;

/// The header fields of a request for a WebSocket.
pub(crate) const UPGRADE: [&str; 4] = [
    "Connection: upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
];

pub(crate) fn start(manifest: &str) -> Daemon {
    Daemon::start(&Tree::new().with_manifest("messages", manifest))
}

/// Asks for a WebSocket; the response if there is none.
pub(crate) fn ask(
    daemon: &Daemon,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Client, Box<Response<Vec<u8>>>> {
    let stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let uri = format!("ws://{}{path}", daemon.address()).parse().unwrap();
    let mut request = ClientRequestBuilder::new(uri);
    for (name, value) in fields {
        request = request.with_header(*name, *value);
    }
    match tungstenite::client(request, stream) {
        Ok((client, _)) => Ok(client),
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
            Err(Box::new(response.map(Option::unwrap_or_default)))
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn open(daemon: &Daemon, path: &str) -> Client {
    ask(daemon, path, &[]).unwrap_or_else(|response| panic!("{response:?}"))
}

fn text(text: &str) -> Message {
    Message::text(text)
}

/// Sends a text and receives one.
pub(crate) fn echo(client: &mut Client, word: &str) -> String {
    client.send(text(word)).unwrap();
    client.read().unwrap().into_text().unwrap().as_str().to_owned()
}

/// Returns the close code of a WebSocket; none if it ends without a close.
pub(crate) fn close_code(client: &mut Client) -> Option<CloseCode> {
    loop {
        match client.read() {
            Ok(Message::Close(frame)) => {
                // The server closes the connection when this is confirmed.
                while client.read().is_ok() {}
                return frame.map(|frame| frame.code);
            }
            Ok(_) => (),
            Err(_) => return None,
        }
    }
}

#[test]
fn messages_of_both_kinds_are_received_and_sent() {
    let daemon = start("");
    let mut client = open(&daemon, "/messages");
    assert_eq!(echo(&mut client, "grüße"), "grüße");
    client.send(Message::binary(vec![0, 255])).unwrap();
    assert_eq!(client.read().unwrap(), Message::binary(vec![0, 255]));
    client.send(text("large")).unwrap();
    assert_eq!(client.read().unwrap().len(), 1 << 20);
}

#[test]
fn a_plugin_knows_what_the_client_asks_for_and_chooses_a_subprotocol() {
    let daemon = start("");
    let fields = [
        ("sec-websocket-protocol", "chat.v2, chat.v1"),
        ("origin", "https://page.example"),
        ("x-forwarded-for", "203.0.113.9"),
    ];
    let stream = TcpStream::connect(daemon.address()).unwrap();
    let uri = format!("ws://{}/messages/room?x=1", daemon.address()).parse().unwrap();
    let mut request = ClientRequestBuilder::new(uri);
    for (name, value) in fields {
        request = request.with_header(name, value);
    }
    let (mut client, response) = tungstenite::client(request, stream).unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v2");
    let host = daemon.address();
    let expected =
        format!("http /room?x=1 {host} [chat.v2 chat.v1] https://page.example 127.0.0.1");
    assert_eq!(echo(&mut client, "who"), expected);
}

#[test]
fn a_request_that_is_not_accepted_is_answered_with_a_status() {
    let daemon = start("[limits]\nrequest-timeout = \"500ms\"\n");
    for (path, status) in
        [("refuse", 418), ("undecided", 403), ("fail", 502), ("trap", 502), ("forever", 504)]
    {
        let Err(response) = ask(&daemon, &format!("/messages/{path}"), &[]) else {
            panic!("{path} is not accepted")
        };
        assert_eq!(response.status(), status, "{path}");
    }
    assert_eq!(echo(&mut open(&daemon, "/messages"), "again"), "again");
}

#[test]
fn a_malformed_handshake_is_answered_with_the_version_that_is_known() {
    let daemon = start("");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (fields, status) in [
        (format!("{upgrade}\r\n{key}\r\nSec-WebSocket-Version: 8"), 426),
        (format!("{upgrade}\r\n{key}"), 426),
        (format!("{upgrade}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short"), 400),
    ] {
        let mut connection = Connection::to(daemon.address());
        connection.write(format!("GET /messages HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        let response = connection.response();
        assert_eq!(response.status(), status, "{fields}");
        let version = response.head.field("sec-websocket-version");
        assert_eq!(version, (status == 426).then_some("13"), "{fields}");
    }
}

#[test]
fn a_plugin_without_the_handler_refuses_websockets_unless_its_manifest_ignores_them() {
    let tree = Tree::new().with_named("plain", "headers", "").with_named(
        "ignores",
        "headers",
        "[[serve]]\nroute = \"/ignores\"\nwebsocket = \"ignore\"\n",
    );
    let daemon = Daemon::start(&tree);
    let Err(response) = ask(&daemon, "/plain", &[]) else { panic!("it has no handler") };
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["upgrade"], "HTTP/1.1");
    assert_eq!(response.headers()["connection"], "upgrade");
    let Err(response) = ask(&daemon, "/ignores", &[]) else { panic!("it has no handler") };
    assert_eq!(response.status(), 200);
    // Over HTTP/2, this status would open it.
    let mut frames = Frames::open(&daemon);
    frames.send(&connect("/ignores", "websocket"));
    assert_ne!(frames.of(1).1.first(), Some(&0x88));
    let (kind, why) = frames.of(1);
    let why = String::from_utf8(why).unwrap();
    assert!(kind == 0 && why.contains("does not serve the protocol"), "{why}");
    // Another protocol is no WebSocket, and a client need not get it.
    let answer = run(tool("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--http2"])
        .arg(format!("http://{}/plain", daemon.address())));
    assert_eq!(answer, "200");
}

#[test]
fn other_requests_to_a_plugin_that_only_serves_websockets_are_answered_426() {
    let daemon = start("");
    let response = daemon.get("/messages");
    assert_eq!(response.status(), 426);
    assert_eq!(response.head.field("upgrade"), Some("websocket"));
    assert_eq!(response.head.field("connection"), Some("upgrade"));
}

#[test]
fn a_close_of_either_side_is_confirmed_and_its_code_is_passed_on() {
    let daemon = start("");
    let mut client = open(&daemon, "/messages");
    client.send(text("close")).unwrap();
    let frame = CloseFrame { code: CloseCode::from(4001), reason: Utf8Bytes::from_static("bye") };
    assert_eq!(client.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    daemon.log.wait_for(&["close 4001 \"bye\", then Err(WebsocketError { code: 2"]);

    let mut client = open(&daemon, "/messages");
    let frame = CloseFrame { code: CloseCode::from(4002), reason: Utf8Bytes::from_static("done") };
    client.close(Some(frame)).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::from(4002)));
    daemon.log.wait_for(&["close 4002 \"done\""]);

    let mut client = open(&daemon, "/messages");
    client.send(text("end")).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Normal));
    drop(open(&daemon, "/messages"));
    daemon.log.wait_for(&["receive: WebsocketError { code: 0"]);
}

#[test]
fn a_close_with_a_code_that_must_not_be_sent_is_a_broken_protocol() {
    let daemon = start("");
    for (nth, code) in [999_u16, 1005, 1006].into_iter().enumerate() {
        let mut client = open(&daemon, "/messages");
        let mut frame = vec![0x88, 0x82, 0, 0, 0, 0];
        frame.extend(code.to_be_bytes());
        client.get_mut().write_all(&frame).unwrap();
        assert_eq!(close_code(&mut client), Some(CloseCode::Protocol), "{code}");
        // The code of the error `protocol`.
        daemon.log.wait_for_times(nth + 1, &["receive: WebsocketError { code: 4"]);
    }
    let mut client = open(&daemon, "/messages");
    let frame = CloseFrame { code: CloseCode::Protocol, reason: Utf8Bytes::from_static("mine") };
    client.close(Some(frame)).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Protocol));
    daemon.log.wait_for(&["close 1002 \"mine\""]);
}

#[test]
fn a_trap_closes_the_websockets_of_its_instance_with_code_1011() {
    let daemon = start("[instances]\nmax = 1\n");
    let mut others: Vec<_> = (0..3).map(|_| open(&daemon, "/messages")).collect();
    for other in &mut others {
        assert_eq!(echo(other, "x"), "x");
    }
    let mut client = open(&daemon, "/messages");
    client.send(text("fail")).unwrap();
    assert_eq!(close_code(&mut client), Some(CloseCode::Error));
    daemon.log.wait_for(&["connection failed", "plugin=messages", "socket=http", "asked to fail"]);
    assert_eq!(echo(&mut others[0], "y"), "y");
    let mut client = open(&daemon, "/messages");
    client.send(text("trap")).unwrap();
    for mut client in others.into_iter().chain([client]) {
        assert_eq!(close_code(&mut client), Some(CloseCode::Error));
    }
    daemon.log.wait_for(&["instance failed", "plugin=messages", "result=trap"]);
    assert_eq!(echo(&mut open(&daemon, "/messages"), "again"), "again");
}

#[test]
fn an_instance_for_each_websocket_or_one_at_a_time_costs_others_nothing() {
    for mode in ["fresh", "exclusive"] {
        let daemon = start(&format!("[instances]\nmode = \"{mode}\"\n"));
        let mut others: Vec<_> = (0..3).map(|_| open(&daemon, "/messages")).collect();
        let mut client = open(&daemon, "/messages");
        client.send(text("trap")).unwrap();
        assert_eq!(close_code(&mut client), Some(CloseCode::Error), "{mode}");
        for other in &mut others {
            assert_eq!(echo(other, "y"), "y", "{mode}");
        }
    }
}

#[test]
fn websockets_whose_functions_block_are_served_side_by_side() {
    const PATH: &str = "/messages-blocking";
    let manifest = "[service]\nwatchdog-sec = \"1s\"\ntimeout-stop-sec = \"3s\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("messages_blocking", manifest));
    let refused = ask(&daemon, "/messages-blocking/refuse", &[]).unwrap_err();
    assert_eq!(refused.status(), 418);
    let fields = [("sec-websocket-protocol", "chat.v2, chat.v1"), ("origin", "here")];
    let mut asking = ask(&daemon, "/messages-blocking/room?x=1", &fields).unwrap();
    let expected = format!("http /room?x=1 {} [chat.v2 chat.v1] true", daemon.address());
    assert_eq!(echo(&mut asking, "who"), expected);
    daemon.log.wait_for(&["not offered: Err(WebsocketError { code: 6"]);

    let mut clients: Vec<_> = (0..3).map(|_| open(&daemon, PATH)).collect();
    for client in &mut clients {
        assert_eq!(echo(client, "hello"), "hello");
    }
    clients[0].send(Message::binary(vec![0, 255])).unwrap();
    assert_eq!(clients[0].read().unwrap(), Message::binary(vec![0, 255]));
    clients[1].send(text("trap")).unwrap();
    assert_eq!(close_code(&mut clients[1]), Some(CloseCode::Error));
    assert_eq!(echo(&mut clients[2], "still here"), "still here");
    clients[2].send(text("fail")).unwrap();
    assert_eq!(close_code(&mut clients[2]), Some(CloseCode::Error));
    daemon.log.wait_for(&["connection failed", "asked to fail"]);
    let mut closing = open(&daemon, PATH);
    closing.send(text("close")).unwrap();
    assert_eq!(close_code(&mut closing), Some(CloseCode::from(4001)));
    daemon.log.wait_for(&["close 4001 \"bye\", then Err(WebsocketError { code: 2"]);
    drop(open(&daemon, PATH));
    daemon.log.wait_for(&["receive: WebsocketError { code: 0"]);

    // The reload does not wait for the WebSockets that block their instances. At its end they know why.
    daemon.tree().put("messages-blocking.wasm", another("messages_blocking"));
    daemon.reload();
    assert_eq!(echo(&mut clients[0], "after"), "after");
    assert_eq!(close_code(&mut clients[0]), Some(CloseCode::Away));
    daemon.log.wait_for(&["receive: WebsocketError { code: 3"]);
}

#[test]
fn an_accepted_websocket_whose_functions_block_outlives_request_timeout() {
    let manifest = "[limits]\nrequest-timeout = \"500ms\"\n";
    let tree = Tree::new().with_manifest("messages_blocking", manifest);
    let daemon = Daemon::start(&tree.with_manifest("messages", manifest));
    let mut silent = open(&daemon, "/messages-blocking");
    let mut client = open(&daemon, "/messages-blocking");
    for word in ["one", "two", "three"] {
        assert_eq!(echo(&mut client, word), word);
        // Another plugin that lets its time pass.
        let late = ask(&daemon, "/messages/forever", &[]).unwrap_err();
        assert_eq!(late.status(), 504);
    }
    assert_eq!(echo(&mut silent, "late"), "late");
    assert_eq!(echo(&mut client, "still here"), "still here");
    assert_eq!(daemon.log.count(&["instance failed", "plugin=messages-blocking"]), 0);
    assert_eq!(daemon.log.count(&["connection failed", "plugin=messages-blocking"]), 0);
}

#[test]
fn pings_are_answered_by_the_host_while_the_plugin_waits() {
    let daemon = start("");
    let mut client = open(&daemon, "/messages/deaf");
    client.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(vec![1, 2, 3].into()));
}

#[test]
fn a_reload_keeps_the_websockets_of_the_previous_version_until_its_time_to_stop() {
    let daemon = start("[service]\ntimeout-stop-sec = \"3s\"\n");
    let mut client = open(&daemon, "/messages");
    assert_eq!(echo(&mut client, "before"), "before");
    daemon.tree().put("messages.wasm", another("messages"));
    daemon.reload();
    assert_eq!(echo(&mut client, "after"), "after");
    assert_eq!(echo(&mut open(&daemon, "/messages"), "new"), "new");
    assert_eq!(close_code(&mut client), Some(CloseCode::Away));
    daemon.log.wait_for(&["receive: WebsocketError { code: 3"]);
}

#[test]
fn a_daemon_that_stops_closes_websockets_with_code_1001() {
    let mut daemon = start("[service]\ntimeout-stop-sec = \"2s\"\n");
    let mut client = open(&daemon, "/messages");
    daemon.signal(Signal::TERM);
    daemon.log.wait_for(&["stopping"]);
    assert_eq!(echo(&mut client, "still there"), "still there");
    assert_eq!(close_code(&mut client), Some(CloseCode::Away));
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_websocket_that_is_accepted_during_a_stop_is_opened() {
    let mut daemon = start("[service]\ntimeout-stop-sec = \"5s\"\n");
    let mut client = daemon.connect();
    client.request("GET", "/messages/late", &UPGRADE);
    daemon.log.wait_for(&["not decided yet"]);
    daemon.signal(Signal::TERM);
    let head = client.head();
    assert_eq!((head.status, head.field("connection")), (101, Some("upgrade")), "{head:?}");
    drop(client);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn the_clients_of_the_chat_read_what_each_of_them_writes() {
    let manifest = "[instances]\nmax = 1\nconcurrency = 100\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("chat", manifest));
    let page = daemon.get("/chat");
    assert!(page.status() == 200 && page.text().contains("new WebSocket"), "{page:?}");
    let mut ada = open(&daemon, "/chat?name=Ada");
    let line = |client: &mut Client| client.read().unwrap().into_text().unwrap().to_string();
    assert_eq!(line(&mut ada), "Ada has joined");
    let mut grace = open(&daemon, "/chat?name=Grace%20H");
    assert_eq!(line(&mut ada), "Grace H has joined");
    assert_eq!(line(&mut grace), "Grace H has joined");
    grace.send(text("hello")).unwrap();
    for client in [&mut ada, &mut grace] {
        assert_eq!(line(client), "Grace H: hello");
    }
    drop(grace);
    assert_eq!(line(&mut ada), "Grace H has left");
    for (origin, is_open) in [
        (format!("http://{}", daemon.address()), true),
        ("https://other.example".to_owned(), false),
    ] {
        assert_eq!(ask(&daemon, "/chat", &[("origin", &origin)]).is_ok(), is_open, "{origin}");
    }
}

#[test]
fn a_client_in_python_talks_over_a_websocket() {
    let daemon = start("");
    let client = "import asyncio, sys, websockets\n\
        async def main():\n    \
            async with websockets.connect(sys.argv[1], subprotocols=['a', 'b']) as client:\n        \
                await client.send('hello')\n        \
                await client.send(bytes(60000))\n        \
                print(client.subprotocol, await client.recv(), len(await client.recv()))\n\
        asyncio.run(main())\n";
    let url = format!("ws://{}/messages", daemon.address());
    let said = run(tool("/usr/bin/python3").args(["-c", client, &url]));
    assert_eq!(said, "a hello 60000\n");
    daemon.log.wait_for(&["close 1000"]);
}

/// A CONNECT for a protocol (RFC 8441), as HPACK has it without a dynamic table.
fn connect(path: &str, protocol: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |name: &str, value: &str| [&[0], &*text(name), &*text(value)].concat();
    let header = [
        field(":method", "CONNECT"),
        field(":protocol", protocol),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "a"),
        field("sec-websocket-version", "13"),
    ];
    frame(1, 4, 1, &header.concat())
}

#[test]
fn a_websocket_over_http_2_is_a_stream_of_its_connection() {
    let daemon = start("");
    let mut frames = Frames::open(&daemon);
    let (kind, _, settings) = frames.next().unwrap();
    assert_eq!(kind, 4);
    assert!(settings.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "it allows CONNECT");
    frames.send(&connect("/messages", "websocket"));
    // `:status: 200` of the static table.
    assert_eq!(frames.of(1).1.first(), Some(&0x88));
    // "hi" as a masked text, and a close with code 1000.
    frames.send(&frame(0, 0, 1, &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']));
    assert_eq!(frames.of(1), (0, vec![0x81, 2, b'h', b'i']));
    frames.send(&frame(0, 0, 1, &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]));
    assert_eq!(frames.of(1), (0, vec![0x88, 2, 3, 0xe8]));

    let mut frames = Frames::open(&daemon);
    frames.send(&connect("/messages", "connect-udp"));
    assert_ne!(frames.of(1).1.first(), Some(&0x88), "the protocol is not known");
    let (kind, why) = frames.of(1);
    let why = String::from_utf8(why).unwrap();
    assert!(kind == 0 && why.contains("does not serve the protocol"), "{why}");
}
