//! Ordinary load: more connections than a plugin's instances take calls.
//!
//! `PLUGIND_LOAD_REQUESTS` is the number of requests of each method to each plugin. With it, they come over one
//! connection as well as over many.

use plugind_tests::{Daemon, Tree, WAIT_MAX, number};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread::scope,
};

/// More than four workers with sixteen calls each.
const CONNECTIONS: usize = 128;
/// The numbers of connections if a number of requests is asked for.
const ALL_CONNECTIONS: [usize; 4] = [1, 32, 128, 1000];
/// Requests that are sent before the first response to them is read.
const PIPELINED: usize = 20;
/// A store has 10,000 handles, and a call takes several: a handle kept for each call would be noticed soon.
const ROUNDS: usize = 40;

/// Reads one response, of which more than its beginning may come later.
fn response(stream: &mut TcpStream, method: &str) -> Vec<u8> {
    let mut response = Vec::new();
    let body = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
        if response.ends_with(b"\r\n\r\n") {
            break response.len();
        }
    };
    if method != "HEAD" {
        let head = String::from_utf8_lossy(&response);
        let field = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = field.expect("the length is known").parse().unwrap();
        response.resize(body + length, 0);
        stream.read_exact(&mut response[body..]).unwrap();
    }
    response
}

/// Sends so many rounds of requests on one connection, each with the same response, and checks every one of them.
fn load(address: SocketAddr, method: &str, path: &str, rounds: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let length = {
        stream.write_all(request.as_bytes()).unwrap();
        let first = response(&mut stream, method);
        assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", first.escape_ascii());
        first.len()
    };
    let requests = request.repeat(PIPELINED);
    let mut responses = vec![0; length * PIPELINED];
    for _ in 0..rounds {
        stream.write_all(requests.as_bytes()).unwrap();
        stream.read_exact(&mut responses).unwrap();
        for response in responses.chunks(length) {
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", response.escape_ascii());
        }
    }
}

fn serves_under_load(daemon: &Daemon, path: &str) {
    let requests = number("PLUGIND_LOAD_REQUESTS").and_then(|number| usize::try_from(number).ok());
    let loads = match requests {
        Some(requests) => {
            ALL_CONNECTIONS.map(|all| (all, requests.div_ceil(all * PIPELINED))).to_vec()
        }
        None => vec![(CONNECTIONS, ROUNDS)],
    };
    for (connections, rounds) in loads {
        for method in ["GET", "HEAD"] {
            scope(|threads| {
                for _ in 0..connections {
                    threads.spawn(|| load(daemon.address(), method, path, rounds));
                }
            });
        }
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn more_connections_than_calls_at_a_time_lose_no_request() {
    let daemon = Daemon::start(&Tree::new().with("hello").with("greeter_02"));
    serves_under_load(&daemon, "/hello");
    serves_under_load(&daemon, "/greeter-02");
}

#[test]
fn a_daemon_on_one_processor_loses_no_request_under_load() {
    let daemon = Daemon::start_by(&Tree::new().with("hello"), &["taskset", "-c", "0"]);
    serves_under_load(&daemon, "/hello");
}
