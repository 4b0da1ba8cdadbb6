//! Clients of the plugins that are in order, each of which checks every response, and clients that misbehave.

use plugind_tests::{Daemon, Random, eventually};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::{Scope, ScopedJoinHandle},
    time::Duration,
};

/// Time that a misbehaving client spends on one connection at most.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Bytes of a streamed response.
const STREAMED: usize = 300_000;
/// Misbehaving clients at a time.
const MISBEHAVING: usize = 4;

/// Number of clients whose plugins behave well, at a time.
pub(crate) const GOOD_CLIENTS: usize = 4;

/// Requests that make a hostile plugin do its worst.
const PROVOCATIONS: [&str; 8] = [
    "/traps-in-request/trap",
    "/loops-in-request/loop",
    "/grows/grow/100",
    "/hoards/fields/2000",
    "/floods/flood/5000",
    "/exits/exit",
    "/fails",
    "/streams/stalls",
];

/// Beginnings of something that no server needs to answer.
const NONSENSE: [&[u8]; 5] = [
    b"GET /hello HTTP/1.1\r\nHost: h\r\n",
    b"POST /streams/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nhalf",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /hello HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\xff\xff",
];

/// Tells all clients to end. They also end when it is dropped by a panic.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

/// Clients at work.
pub(crate) struct Clients<'scope> {
    stop: &'scope Stop,
    good: Vec<(&'static AtomicU64, ScopedJoinHandle<'scope, ()>)>,
}

impl<'scope> Clients<'scope> {
    pub(crate) fn begin(
        scope: &'scope Scope<'scope, '_>,
        daemon: &'scope Daemon,
        stop: &'scope Stop,
        random: &mut Random,
    ) -> Self {
        let works: [fn(&Daemon, &Stop, &AtomicU64); GOOD_CLIENTS] =
            [greets, counts, streams, connects];
        let good = works.map(|work| {
            // As long as the process: a few bytes for each run.
            let answered: &'static AtomicU64 = Box::leak(Box::default());
            (answered, scope.spawn(move || work(daemon, stop, answered)))
        });
        for _ in 0..MISBEHAVING {
            let mut random = random.split();
            let address = daemon.address();
            scope.spawn(move || {
                while !stop.0.load(Relaxed) {
                    // Whatever comes of it is right.
                    misbehave(address, &mut random).ok();
                }
            });
        }
        Self { stop, good: good.into() }
    }

    /// Waits until each client of a plugin in order has had so many more responses.
    pub(crate) fn wait_for(&self, more: u64) {
        for (answered, client) in &self.good {
            let before = answered.load(Relaxed);
            eventually("more responses", || {
                assert!(!client.is_finished(), "a client has failed");
                (answered.load(Relaxed) >= before + more).then_some(())
            });
        }
    }

    /// Ends all clients, and returns how many requests were answered.
    pub(crate) fn end(mut self) -> u64 {
        self.stop.0.store(true, Relaxed);
        let ended = self.good.drain(..).map(|(answered, client)| {
            client.join().expect("each response is right");
            answered.load(Relaxed)
        });
        ended.sum()
    }
}

impl Drop for Clients<'_> {
    fn drop(&mut self) {
        self.stop.0.store(true, Relaxed);
    }
}

/// A connection that is kept, while versions come and go.
fn greets(daemon: &Daemon, stop: &Stop, answered: &AtomicU64) {
    let mut client = daemon.connect();
    while !stop.0.load(Relaxed) {
        let response = client.get("/hello");
        let text = response.text();
        assert!(response.status() == 200 && text.ends_with(" from hello\n"), "{text}");
        answered.fetch_add(1, Relaxed);
    }
}

/// One instance, which nobody else uses, and nothing replaces.
fn counts(daemon: &Daemon, stop: &Stop, answered: &AtomicU64) {
    let mut client = daemon.connect();
    let mut last = None;
    while !stop.0.load(Relaxed) {
        let response = client.get("/counts");
        let (identity, count) = response.text().rsplit_once(" count=").expect("it counts");
        let now = (identity.to_owned(), count.parse::<u64>().expect("it is a number"));
        if let Some((identity, count)) = last {
            assert_eq!(now, (identity, count + 1));
        }
        last = Some(now);
        answered.fetch_add(1, Relaxed);
    }
}

/// Responses that take a while.
fn streams(daemon: &Daemon, stop: &Stop, answered: &AtomicU64) {
    let mut client = daemon.connect();
    while !stop.0.load(Relaxed) {
        let response = client.get(&format!("/streams/down/{STREAMED}"));
        assert_eq!((response.status(), response.body.len()), (200, STREAMED));
        answered.fetch_add(1, Relaxed);
    }
}

/// A connection for each request.
fn connects(daemon: &Daemon, stop: &Stop, answered: &AtomicU64) {
    while !stop.0.load(Relaxed) {
        assert_eq!(daemon.get("/greeter-02").status(), 200);
        answered.fetch_add(1, Relaxed);
    }
}

/// Connects, and does something that a client should not do.
fn misbehave(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut buffer = [0; 512];
    match random.below(4) {
        // Goes before the response.
        0 => {
            let path = random.one_of(&PROVOCATIONS);
            write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
        }
        // Reads a part of it.
        1 => {
            let path = random.one_of(&PROVOCATIONS);
            write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")?;
            stream.read(&mut buffer).map(drop)
        }
        // Sends no request, or half of one.
        2 => {
            stream.write_all(random.one_of::<&[u8]>(&NONSENSE))?;
            stream.read(&mut buffer).map(drop)
        }
        // Sends many at once, and reads none of the responses.
        _ => stream.write_all(&b"GET /streams/down/100000 HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20)),
    }
}
