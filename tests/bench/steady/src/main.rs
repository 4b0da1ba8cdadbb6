//! A load with a constant rate, whatever the server does: `steady ADDRESS:PORT PATH CLIENTS REQUESTS-A-SECOND`.
//!
//! Each client keeps its connection and sends its requests at fixed times. The time that a request waits for the one
//! before it is part of its latency. No request is sent twice. A connection that was closed between requests is opened
//! again, as every client does; one that breaks off during a request is a failure. The load ends with its standard
//! input, and prints a line of JSON, times in microseconds.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// An answer that does not come within this has failed.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Seen {
    /// When each answer had come, and how long that was after its request was due.
    answers: Vec<(Instant, Duration)>,
    failed: usize,
    reconnected: usize,
}

struct Client {
    address: SocketAddr,
    request: Vec<u8>,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    fn connect(&mut self, seen: &mut Seen) -> io::Result<BufReader<TcpStream>> {
        if let Some(connection) = self.connection.take() {
            let stream = connection.get_ref();
            stream.set_nonblocking(true)?;
            let open = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
            stream.set_nonblocking(false)?;
            if open {
                return Ok(connection);
            }
            seen.reconnected += 1;
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        Ok(BufReader::new(stream))
    }

    fn ask(&mut self, seen: &mut Seen) -> io::Result<()> {
        let mut connection = self.connect(seen)?;
        connection.get_mut().write_all(&self.request)?;
        let (mut line, mut length, mut stays) = (String::new(), 0, true);
        let mut first = true;
        loop {
            line.clear();
            connection.read_line(&mut line)?;
            let field = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?.to_lowercase();
            match field.split_once(": ") {
                None if first && field.contains(" 200") => first = false,
                None if first => return Err(ErrorKind::InvalidData.into()),
                None => break,
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("connection", "close")) => stays = false,
                Some(_) => (),
            }
        }
        if io::copy(&mut connection.by_ref().take(length), &mut io::sink())? < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.connection = stays.then_some(connection);
        Ok(())
    }
}

fn main() {
    let usage = "usage: steady ADDRESS:PORT PATH CLIENTS REQUESTS-A-SECOND";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, clients, rate] = &arguments[..] else { panic!("{usage}") };
    let address: SocketAddr = address.parse().expect(usage);
    let (clients, rate): (u32, f64) = (clients.parse().expect(usage), rate.parse().expect(usage));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();

    let enough = AtomicBool::new(false);
    let begin = Instant::now() + Duration::from_millis(20);
    let all: Vec<Seen> = thread::scope(|scope| {
        let work = |nth: u32| {
            let (request, enough) = (request.clone(), &enough);
            move || {
                let mut seen = Seen::default();
                let mut client = Client { address, request, connection: None };
                for turn in 0.. {
                    let place = f64::from(turn) * f64::from(clients) + f64::from(nth);
                    let due = begin + Duration::from_secs_f64(place / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if enough.load(Relaxed) {
                        break;
                    }
                    match client.ask(&mut seen) {
                        Ok(()) => {
                            let now = Instant::now();
                            seen.answers.push((now, now - due));
                        }
                        Err(_) => seen.failed += 1,
                    }
                }
                seen
            }
        };
        let working: Vec<_> = (0..clients).map(|nth| scope.spawn(work(nth))).collect();
        io::copy(&mut io::stdin(), &mut io::sink()).expect("standard input can be read");
        enough.store(true, Relaxed);
        working.into_iter().map(|client| client.join().expect("clients count")).collect()
    });

    let mut came: Vec<Instant> =
        all.iter().flat_map(|seen| &seen.answers).map(|answer| answer.0).collect();
    let mut took: Vec<Duration> =
        all.iter().flat_map(|seen| &seen.answers).map(|answer| answer.1).collect();
    came.sort_unstable();
    took.sort_unstable();
    let gap = came.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let percentile = |of: usize| took.get(took.len() * of / 100).copied().unwrap_or_default();
    let count = |each: fn(&Seen) -> usize| all.iter().map(each).sum::<usize>();
    println!(
        r#"{{"answered": {}, "failed": {}, "reconnected": {}, "gap": {}, "p50": {}, "p99": {}, "max": {}}}"#,
        took.len(),
        count(|seen| seen.failed),
        count(|seen| seen.reconnected),
        gap.as_micros(),
        percentile(50).as_micros(),
        percentile(99).as_micros(),
        took.last().copied().unwrap_or_default().as_micros(),
    );
}
