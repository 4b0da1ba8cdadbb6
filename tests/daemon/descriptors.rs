//! Open sockets and files: no plugin takes the descriptors of others and of the daemon.

use crate::control;
use plugind_tests::{Daemon, Tree, eventually};
use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The number of files that the daemon may have open.
const LIMIT: usize = 256;
/// The part of it that one plugin may have as sockets, and as files: a quarter is kept for the daemon, and a quarter of
/// the rest.
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

    /// Answers on all connections, and closes them.
    fn answer(&self, text: &str) {
        for mut connection in self.accepted.lock().unwrap().drain(..) {
            connection.write_all(text.as_bytes()).unwrap();
        }
    }
}

/// Sends so many requests of which each opens a socket, and returns the texts of the responses. `meanwhile` happens
/// when there are as many sockets as may be.
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
