//! Open sockets and files: no plugin takes the descriptors of others and of the daemon.

use crate::{control, metrics::Measured};
use plugind_tests::{Daemon, Tree, eventually};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The number of files that the daemon may have open.
const LIMIT: usize = 256;
/// The sockets, and the files, that one plugin may have: a quarter of what is left after the quarter that is kept for
/// the daemon.
const SHARE: usize = 48;
/// Requests beyond that.
const MORE: usize = 6;

/// A server that keeps its connections open, without a word.
struct Silent {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<Mutex<Vec<TcpStream>>>::default();
        let connections = accepted.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                connections.lock().unwrap().push(connection.unwrap());
            }
        });
        Self { address, accepted }
    }

    fn wait_for(&self, connections: usize) {
        eventually("the connections", || {
            (self.accepted.lock().unwrap().len() == connections).then_some(())
        });
    }

    /// Answers on all connections, each after its request, and closes them.
    fn answer_requests(&self, text: &str) {
        for connection in self.accepted.lock().unwrap().iter_mut() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
        }
        self.answer(text);
    }

    /// Answers on all connections, and closes them.
    fn answer(&self, text: &str) {
        for mut connection in self.accepted.lock().unwrap().drain(..) {
            connection.write_all(text.as_bytes()).unwrap();
        }
    }
}

/// Sends more requests than a plugin may have sockets, each of which opens one, and returns the texts of the responses.
/// `meanwhile` is called when the plugin has all the sockets that it may have.
fn open_too_many(
    daemon: &Daemon,
    server: &Silent,
    path: &str,
    answer: &str,
    meanwhile: impl FnOnce(),
) -> Vec<String> {
    let mut clients: Vec<_> = (0..SHARE + MORE).map(|_| daemon.connect()).collect();
    for client in &mut clients {
        client.request("GET", path, &["connection: close"]);
    }
    server.wait_for(SHARE);
    meanwhile();
    server.answer(answer);
    clients.iter_mut().map(|client| client.response().text().to_owned()).collect()
}

#[test]
fn a_plugin_with_too_many_sockets_gets_no_more_and_others_do() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let server = Silent::start();
    let to = server.address;
    // All requests of a plugin are in one instance, at the same time.
    let manifest = |grant: &str| {
        format!("[grants]\n{grant} = [\"{to}\"]\n[instances]\nmax = 1\nconcurrency = 64\n")
    };
    let tree = Tree::new()
        .with_manifest("dials", &manifest("tcp-connect"))
        .with_manifest("fetches", &manifest("outgoing-http"))
        .with_named("other", "dials", &manifest("tcp-connect"));
    let daemon = control::start_by(&tree, &format!("ulimit -n {LIMIT}"));
    let others = || {
        let mut client = daemon.connect();
        client.request("GET", &format!("/other/03/{to}"), &["connection: close"]);
        server.wait_for(SHARE + 1);
        for arguments in [["list"], ["reload"]] {
            let ran = control::run(&tree, &arguments);
            assert_eq!(ran.status, Some(0), "{arguments:?}: {}", ran.stderr);
        }
    };
    for (path, answer, refused) in [
        (format!("/dials/03/{to}"), "hello", "too many sockets"),
        (format!("/fetches/03/http/{to}"), OK, "ErrorCode::ConnectionLimitReached"),
    ] {
        // What was closed makes room.
        for _ in 0..2 {
            let texts = open_too_many(&daemon, &server, &path, answer, others);
            let number = |part: &str| texts.iter().filter(|text| text.contains(part)).count();
            assert_eq!((number("hello"), number(refused)), (SHARE, MORE), "{path}: {texts:?}");
        }
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn connections_of_outgoing_requests_count_as_memory_of_their_plugin() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    // Two buffers of 408 KiB each.
    const CONNECTION: f64 = 816.0 * 1024.0;
    const MEMORY_MAX: f64 = 16.0 * 1024.0 * 1024.0;
    const REQUESTS: usize = 24;
    let server = Silent::start();
    let to = server.address;
    let manifest = format!(
        "[grants]\noutgoing-http = [\"{to}\"]\n[instances]\nmax = 1\nconcurrency = 64\n[limits]\n\
         memory-max = \"16M\"\ninstance-memory-max = \"8M\"\n"
    );
    let tree = Tree::new().with_manifest("fetches", &manifest);
    let measured = Measured::start_with_control(&tree);
    let daemon = &measured.daemon;
    let memory = || measured.value("plugind_plugin_memory_bytes{plugin=\"fetches\"}").unwrap();
    let at_rest = memory();
    let room = (MEMORY_MAX - at_rest) / CONNECTION;
    let as_float = |count: usize| f64::from(u32::try_from(count).unwrap());
    let mut clients: Vec<_> = (0..REQUESTS).map(|_| daemon.connect()).collect();
    for client in &mut clients {
        client.request("GET", &format!("/fetches/03/http/{to}"), &["connection: close"]);
    }
    let texts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                let text = client.response().text().to_owned();
                texts.lock().unwrap().push(text);
            });
        }
        let held = eventually("a connection or a refusal for each request", || {
            let held = server.accepted.lock().unwrap().len();
            (held + texts.lock().unwrap().len() == REQUESTS).then_some(as_float(held))
        });
        let used = memory();
        assert!(held <= room && used >= held * CONNECTION, "{held} of {room}, {used}");
        server.answer_requests(OK);
    });
    let texts = texts.into_inner().unwrap();
    let answered = texts.iter().filter(|text| *text == "hello").count();
    let refused = texts.iter().filter(|text| text.ends_with("ConnectionLimitReached")).count();
    assert_eq!(answered + refused, REQUESTS, "{texts:?}");
    assert!(refused > 0 && as_float(answered) <= room, "{refused}: {texts:?}");
    eventually("what the connections took", || (memory() < at_rest + CONNECTION).then_some(()));
}

#[test]
fn a_plugin_with_too_many_files_opens_no_more_and_others_do() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file) = (directory.path().display(), directory.path().join("file"));
    fs::write(&file, "contents").unwrap();
    let manifest = format!("[grants]\nread = [\"{path}\"]\n[instances]\nmax = 1\n");
    let names = ["files", "also", "other"];
    let tree = Tree::new();
    let tree = names.iter().fold(tree, |tree, name| tree.with_named(name, "files", &manifest));
    let daemon = control::start_by(&tree, &format!("ulimit -n {LIMIT}"));
    let full = format!("{SHARE} quota");
    for path in [
        format!("/files/hold/{LIMIT}{}", file.display()),
        format!("/also/hold-03/{LIMIT}/file"),
        // They are still open.
        format!("/also/hold/1{}", file.display()),
    ] {
        assert_eq!(daemon.get(&path).status_and_text(), (200, &*full), "{path}");
        let read = format!("/other/read{}", file.display());
        assert_eq!(daemon.get(&read).status_and_text(), (200, "contents"));
        for arguments in [["list"], ["reload"]] {
            let ran = control::run(&tree, &arguments);
            assert_eq!(ran.status, Some(0), "{arguments:?}: {}", ran.stderr);
        }
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}
