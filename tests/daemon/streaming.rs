//! Bodies of any size pass through plugins, and through the daemon, in little memory.

use crate::http2::{Frames, get};
use plugind_tests::{Connection, Daemon, Tree, another};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

/// Far more than plugin and daemon together may use.
const SIZE: usize = 100 << 20;
/// Growth of the daemon's memory that is allowed: an instance or two, and the data in transit.
const GROWTH: u64 = 40 << 20;
const SMALL: &str = "[limits]\ninstance-memory-max = \"16M\"\n";

/// Bytes that are the same nowhere nearby: one that is lost, doubled or moved is found.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Self {
        // A prime number of them, so that no buffer's size is a multiple.
        let byte = |place: u32| u8::try_from(place.wrapping_mul(2_654_435_761) >> 24).unwrap();
        Self((0..65_521).map(byte).collect())
    }

    fn send(&self, client: &mut Connection) {
        let mut left = SIZE;
        while left > 0 {
            let piece = &self.0[..left.min(self.0.len())];
            client.write(piece);
            left -= piece.len();
        }
    }

    /// Compares `bytes` with what is to be at `place`.
    fn check(&self, place: usize, bytes: &[u8]) {
        let mut place = place % self.0.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = rest.len().min(self.0.len() - place);
            assert!(rest[..length] == self.0[place..place + length], "other bytes came back");
            (rest, place) = (&rest[length..], 0);
        }
    }
}

fn post(daemon: &Daemon, path: &str) -> Connection {
    let mut client = daemon.connect();
    client.request("POST", path, &[&format!("Content-Length: {SIZE}")]);
    client
}

fn streams_in_bounded_memory(guest: &str) {
    let daemon = Daemon::start(&Tree::new().with_named("streams", guest, SMALL));
    assert_eq!(daemon.get("/streams").status_and_text(), (200, "fine"));
    let before = daemon.peak_memory();
    let bounded = |what: &str| {
        let growth = daemon.peak_memory().saturating_sub(before);
        assert!(growth < GROWTH, "{what} took {} MiB", growth >> 20);
    };

    let mut client = daemon.connect();
    client.request("GET", &format!("/streams/down/{SIZE}"), &[]);
    let (head, mut length) = (client.head(), 0);
    client.body(&head, |piece| {
        assert!(piece.iter().all(|byte| *byte == b'x'));
        length += piece.len();
    });
    assert_eq!((head.status, length), (200, SIZE));
    bounded("down");

    let pattern = Pattern::new();
    let mut client = post(&daemon, "/streams/up");
    pattern.send(&mut client);
    assert_eq!(client.response().status_and_text(), (200, &*SIZE.to_string()));
    bounded("up");

    let mut client = post(&daemon, "/streams/echo");
    let mut writer = client.writer();
    thread::scope(|scope| {
        scope.spawn(|| pattern.send(&mut writer));
        let (head, mut place) = (client.head(), 0);
        client.body(&head, |piece| {
            pattern.check(place, piece);
            place += piece.len();
        });
        assert_eq!((head.status, place), (200, SIZE));
    });
    bounded("both ways");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_hundred_mebibytes_stream_each_way_in_bounded_memory_by_wasi_http_0_3() {
    streams_in_bounded_memory("streams");
}

#[test]
fn a_hundred_mebibytes_stream_each_way_in_bounded_memory_by_wasi_http_0_2() {
    streams_in_bounded_memory("streams_02");
}

#[test]
fn an_instance_that_transfers_for_long_is_not_ended_by_its_watchdog() {
    let times = 8;
    let bytes = times * SIZE;
    for guest in ["streams", "streams_02"] {
        let manifest = "[service]\nwatchdog-sec = \"200ms\"\n";
        let daemon = Daemon::start(&Tree::new().with_named("streams", guest, manifest));
        let mut client = daemon.connect();
        client.request("GET", &format!("/streams/down/{bytes}"), &[]);
        let (head, mut length) = (client.head(), 0);
        client.body(&head, |piece| length += piece.len());
        assert_eq!((head.status, length), (200, bytes), "{guest}");

        let (mut client, pattern) = (daemon.connect(), Pattern::new());
        client.request("POST", "/streams/up", &[&format!("Content-Length: {bytes}")]);
        (0..times).for_each(|_| pattern.send(&mut client));
        assert_eq!(client.response().status_and_text(), (200, &*bytes.to_string()), "{guest}");
        assert_eq!(daemon.log.count(&["instance failed"]), 0);
    }
}

#[test]
fn a_client_that_reads_slowly_holds_the_plugin_back_and_fills_no_memory() {
    for guest in ["streams", "streams_02"] {
        let tree = Tree::new().with_named("slow", guest, SMALL);
        let daemon = Daemon::start(&tree.with_named("other", guest, SMALL));
        assert_eq!(daemon.get("/other").status(), 200);
        let before = daemon.peak_memory();
        let mut slow = daemon.connect();
        slow.request("GET", &format!("/slow/down/{}", 10 * SIZE), &[]);
        let head = slow.head();
        assert!(slow.chunks_of(1 << 20).len() >= 1 << 20);

        // While it reads nothing, as much is read by another one as would fill the memory.
        let mut quick = daemon.connect();
        quick.request("GET", &format!("/other/down/{SIZE}"), &[]);
        let quick_head = quick.head();
        quick.body(&quick_head, |_| ());
        let growth = daemon.peak_memory().saturating_sub(before);
        assert!(growth < GROWTH, "{guest}: {} MiB", growth >> 20);
        assert_eq!(head.status, 200);
        assert!(slow.chunks_of(1 << 20).len() >= 1 << 20, "the response continues where it paused");
    }
}

#[test]
fn a_client_that_never_reads_or_sends_gives_its_place_back() {
    let one = "[instances]\nmax = 1\nconcurrency = 1\n[limits]\nrequest-timeout = \"2min\"\n";
    let tree = Tree::new().with_manifest("streams", one).with_named("upload", "streams", one);
    let daemon = Daemon::start(&tree.with_settings("[sockets.http]\nrate-min = \"64K\"\n"));
    let path = format!("/streams/down/{}", 10 * SIZE);
    // It is answered when the other client has no place any more.
    let another_is_served = |plugin: &str| {
        let mut other = TcpStream::connect(daemon.address()).unwrap();
        other.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let request = format!("GET /{plugin} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        other.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        other.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    };
    let mut sends = daemon.connect();
    sends.request("POST", "/upload/up", &["Content-Length: 1000"]);
    sends.write("x");
    let mut over_1 = daemon.connect();
    over_1.request("GET", &path, &[]);
    assert_eq!(over_1.head().status, 200);
    another_is_served("streams");
    let mut over_2 = Frames::open(&daemon);
    over_2.send(&get(1, &path));
    over_2.of(1);
    another_is_served("streams");
    // The connection still serves others.
    over_2.send(&get(3, "/streams"));
    over_2.of(3);
    another_is_served("upload");
    assert_eq!(sends.wait_until_closed(), b"");
}

#[test]
fn a_plugin_that_reads_nothing_holds_its_client_back() {
    let manifest = format!("{SMALL}request-timeout = \"2s\"\n");
    let tree = Tree::new().with_manifest("sleeps", &manifest).with_manifest("sleeps_02", &manifest);
    let daemon = Daemon::start(&tree);
    for path in ["/sleeps", "/sleeps-02"] {
        assert_eq!(daemon.get(path).status(), 200);
        let before = daemon.peak_memory();
        let mut client = post(&daemon, &format!("{path}/sleep/60000"));
        let mut writer = client.writer();
        thread::scope(|scope| {
            // The client's writing ends when the daemon closes the connection behind its answer.
            let written = scope.spawn(move || {
                let piece = [b'x'; 64 << 10];
                (0..SIZE / piece.len()).take_while(|_| writer.try_write(&piece)).count()
            });
            assert_eq!(client.head().status, 504);
            client.wait_until_closed();
            assert!(written.join().unwrap() * (64 << 10) < GROWTH.try_into().unwrap());
        });
        let growth = daemon.peak_memory().saturating_sub(before);
        assert!(growth < GROWTH, "{path}: {} MiB", growth >> 20);
    }
}

#[test]
fn what_streams_from_an_instance_that_is_gone_does_not_end_as_if_it_were_whole() {
    for guest in ["streams", "streams_02"] {
        let tree =
            Tree::new().with_named("cut", guest, "[service]\ntimeout-stop-sec = \"100ms\"\n");
        let daemon = Daemon::start(&tree);
        let mut client = daemon.connect();
        client.request("POST", "/cut/echo", &["Transfer-Encoding: chunked"]);
        client.write_chunk(b"before");
        assert_eq!(client.head().status, 200);
        assert_eq!(client.chunks_of(6), b"before");
        // The reload ends the previous version after that time.
        tree.put("cut.wasm", another(guest));
        daemon.reload();
        let rest = client.wait_until_closed();
        assert_eq!(String::from_utf8_lossy(&rest), "", "{guest}: a chunk of no length ends it");
    }
}
