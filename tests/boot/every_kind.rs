//! Clients of every kind lose nothing while plugins and the daemon are replaced.

use crate::{
    HELLO,
    streams::{at_path, example, is_time, over_tcp, time_at_path, time_by_udp},
    tls,
};
use plugind_tests::{Machine, WAIT_MAX, run, tool};
use std::{
    net::{Ipv4Addr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, Scope, ScopedJoinHandle},
};
use tungstenite::{ClientRequestBuilder, Message};

/// Requests on one connection of HTTP/1.1, as long as that stays open. Over HTTP/2 it is one, because curl 7.88 fails
/// instead of connecting again when it wants to send another one after GOAWAY.
const REQUESTS: usize = 5;

/// The answer of `messages` over a WebSocket, which both sides close.
fn over_websocket(machine: &Machine) -> String {
    let stream = machine.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).unwrap());
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let request = ClientRequestBuilder::new("ws://localhost/messages".parse().unwrap());
    let (mut client, _) = tungstenite::client(request, stream).unwrap();
    client.send(Message::text("hello\n")).unwrap();
    let answer = client.read().unwrap().into_text().unwrap().as_str().to_owned();
    client.close(None).unwrap();
    while client.read().is_ok() {}
    answer
}

/// The answer to a request over HTTP/2 without TLS.
fn over_http2(machine: &Machine) -> String {
    let curl = ["-sS", "--fail", "--max-time", "30", "--http2-prior-knowledge"];
    machine.within(|| run(tool("curl").args(curl).arg("http://127.0.0.1:8080/hello")))
}

/// Has a client repeat its work, each time on a connection of its own, until that is to end. Returns how often.
fn repeat<'scope>(
    scope: &'scope Scope<'scope, '_>,
    is_running: &'scope AtomicBool,
    client: impl Fn() + Send + 'scope,
) -> ScopedJoinHandle<'scope, u32> {
    scope.spawn(move || {
        let mut count = 0;
        while is_running.load(Relaxed) {
            client();
            count += 1;
        }
        count
    })
}

#[test]
fn no_client_of_any_kind_loses_anything_by_reloads_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let machine = tls::boot(&["echo", "clock", "messages", "hello"], directory.path());
    for plugin in ["echo", "clock"] {
        example(&machine, plugin);
    }
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "clock.socket", "echo.socket", "https.socket"]);
    machine.start();
    let is_running = AtomicBool::new(true);
    let machine = &machine;
    let over_https = |version: &str, requests| {
        let answers = tls::get_often(machine, directory.path(), &[version], requests);
        assert_eq!(answers, HELLO.repeat(requests), "{version}");
    };
    thread::scope(|scope| {
        let clients = [
            repeat(scope, &is_running, || assert_eq!(over_tcp(machine, 7007), "hello\n")),
            repeat(scope, &is_running, || {
                assert_eq!(at_path(machine, "/run/plugind-echo/socket"), "hello\n");
            }),
            repeat(scope, &is_running, || assert!(is_time(&time_by_udp(machine)))),
            repeat(scope, &is_running, || assert!(is_time(&time_at_path(machine)))),
            repeat(scope, &is_running, || assert_eq!(over_websocket(machine), "hello\n")),
            repeat(scope, &is_running, || assert_eq!(over_http2(machine), HELLO)),
            repeat(scope, &is_running, || over_https("--http1.1", REQUESTS)),
            repeat(scope, &is_running, || over_https("--http2", 1)),
        ];
        for round in 0..20 {
            for plugin in ["echo", "clock", "messages", "hello"] {
                machine.put_manifest(plugin, &format!("description = \"{round}\"\n"));
            }
            machine.succeed(&["systemctl", "reload", "plugind.service"]);
            if round % 4 == 0 {
                machine.succeed(&["systemctl", "restart", "plugind.service"]);
            }
        }
        is_running.store(false, Relaxed);
        let counts = clients.map(|client| client.join().unwrap());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    });
}
