//! Ordinary load: more connections than a plugin's instances take calls.
//!
//! `PLUGIND_LOAD_REQUESTS` is the number of requests of each method to each plugin. With it, they come over one
//! connection as well as over many. `PLUGIND_LOAD_PROCESSORS` are the processors of the daemon, as `taskset -c` takes them.

use plugind_tests::{Daemon, Tree, WAIT_MAX, number};
use std::{
    env, fs,
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
/// The same for examples of which each request takes longer.
const FEW_ROUNDS: usize = 2;

/// A path of one of the examples, with the lines that a request must have besides, and the rounds of each connection if no
/// number of requests is asked for.
type Target = (&'static str, &'static str, usize);

/// Every example that answers requests, and every one that stands before another as middleware.
const EXAMPLES: [Target; 8] = [
    ("/hello", "", ROUNDS),
    ("/greeter-02", "", ROUNDS),
    ("/warmup", "", FEW_ROUNDS),
    ("/chat", "", FEW_ROUNDS),
    ("/static-files/index.html", "", FEW_ROUNDS),
    // `ada:lovelace`
    ("/behind-auth", "Authorization: Basic YWRhOmxvdmVsYWNl\r\n", FEW_ROUNDS),
    ("/behind-cors", "Origin: https://app.example\r\n", FEW_ROUNDS),
    ("/behind-limit", "", FEW_ROUNDS),
];
/// The same plugin in the other modes.
const MODES: [Target; 2] = [("/exclusive", "", FEW_ROUNDS), ("/fresh", "", FEW_ROUNDS)];

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
    let head = String::from_utf8_lossy(&response).into_owned();
    if method != "HEAD" && head.contains("transfer-encoding: chunked") {
        while !response.ends_with(b"\r\n0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            response.push(byte[0]);
        }
    } else if method != "HEAD" {
        let field = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = field.expect("the length is known").parse().unwrap();
        response.resize(body + length, 0);
        stream.read_exact(&mut response[body..]).unwrap();
    }
    response
}

/// Sends so many rounds of requests on one connection, each with the same response, and checks every one of them.
fn load(address: SocketAddr, method: &str, path: &str, lines: &str, rounds: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
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

fn serves_under_load(daemon: &Daemon, targets: &[Target]) {
    let requests = number("PLUGIND_LOAD_REQUESTS").and_then(|number| usize::try_from(number).ok());
    for (path, lines, rounds) in targets {
        let loads = match requests {
            Some(requests) => {
                ALL_CONNECTIONS.map(|all| (all, requests.div_ceil(all * PIPELINED))).to_vec()
            }
            None => vec![(CONNECTIONS, *rounds)],
        };
        for (connections, rounds) in loads {
            for method in ["GET", "HEAD"] {
                scope(|threads| {
                    for _ in 0..connections {
                        threads.spawn(|| load(daemon.address(), method, path, lines, rounds));
                    }
                });
            }
        }
        assert_eq!(daemon.log.count(&["instance failed"]), 0, "{path}");
        assert_eq!(daemon.log.count(&["requests failed"]), 0, "{path}");
    }
}

/// All examples, with what they need.
fn examples() -> Tree {
    let tree = Tree::new();
    let www = tree.root().join("www");
    fs::create_dir_all(&www).unwrap();
    fs::write(www.join("index.html"), "<p>start</p>").unwrap();
    let www = www.display();
    let files = format!("[grants]\nread = [\"{www}\"]\n[config]\nroot = \"{www}\"\n");
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    fs::write(credentials.join("plugind.basic-auth.users"), "ada:lovelace\n").unwrap();
    let limit = "[instances]\nmax = 1\n[config]\nper-second = \"1e9\"\nburst = \"1e9\"\n";
    let behind = |middleware: &str| format!("middleware = [\"{middleware}\"]\n");
    let mode = |mode: &str| format!("[instances]\nmode = \"{mode}\"\n");
    let chat = "[instances]\nmax = 1\nmode = \"shared\"\nconcurrency = 1000\n";
    tree.with("hello")
        .with("greeter_02")
        .with("warmup")
        .with_manifest("chat", chat)
        .with_manifest("static_files", &files)
        .with_named("basic-auth", "basic_auth", "[grants]\ncredentials = [\"users\"]\n")
        .with_manifest("cors", "[config]\norigins = \"https://app.example\"\n")
        .with_named("rate-limit", "rate_limit", limit)
        .with_named("behind-auth", "hello", &behind("basic-auth"))
        .with_named("behind-cors", "hello", &behind("cors"))
        .with_named("behind-limit", "hello", &behind("rate-limit"))
        .with_named("exclusive", "hello", &mode("exclusive"))
        .with_named("fresh", "hello", &mode("fresh"))
}

#[test]
fn more_connections_than_calls_at_a_time_lose_no_request() {
    let daemon = match env::var("PLUGIND_LOAD_PROCESSORS") {
        Ok(processors) => Daemon::start_by(&examples(), &["taskset", "-c", &processors]),
        Err(_) => Daemon::start(&examples()),
    };
    serves_under_load(&daemon, &EXAMPLES);
    serves_under_load(&daemon, &MODES);
}

#[test]
fn a_daemon_on_one_processor_loses_no_request_under_load() {
    let daemon = Daemon::start_by(&examples(), &["taskset", "-c", "0"]);
    serves_under_load(&daemon, &EXAMPLES.map(|(path, lines, rounds)| (path, lines, rounds / 2)));
}
