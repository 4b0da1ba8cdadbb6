//! Clients that send 64 bytes, wait until these are back, and send again:
//! `echo-load tcp|unix|udp ADDRESS:PORT|PATH CLIENTS SECONDS` prints a line of JSON, times in microseconds.

use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixStream},
    time::timeout,
};

const LENGTH: usize = 64;
/// A datagram that is not back by then is lost.
const LOST: Duration = Duration::from_millis(500);

/// The times of the messages of one client, and the number of those that were lost.
#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    lost: usize,
}

async fn by_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    end: Instant,
) -> io::Result<Seen> {
    let (mut seen, sent, mut received) = (Seen::default(), [b'x'; LENGTH], [0; LENGTH]);
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(seen);
        }
        stream.write_all(&sent).await?;
        stream.read_exact(&mut received).await?;
        seen.times.push(began.elapsed());
    }
}

async fn by_datagrams(socket: UdpSocket, end: Instant) -> io::Result<Seen> {
    let (mut seen, sent, mut received) = (Seen::default(), [b'x'; LENGTH], [0; LENGTH]);
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(seen);
        }
        socket.send(&sent).await?;
        match timeout(LOST, socket.recv(&mut received)).await {
            Ok(length) => {
                length?;
                seen.times.push(began.elapsed());
            }
            Err(_) => seen.lost += 1,
        }
    }
}

async fn client(kind: String, address: String, end: Instant) -> io::Result<Seen> {
    match kind.as_str() {
        "tcp" => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            by_stream(stream, end).await
        }
        "unix" => by_stream(UnixStream::connect(address).await?, end).await,
        _ => {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(address).await?;
            by_datagrams(socket, end).await
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let usage = "usage: echo-load tcp|unix|udp ADDRESS CLIENTS SECONDS";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address, clients, seconds] = &arguments[..] else { panic!("{usage}") };
    let clients: u32 = clients.parse().expect(usage);
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds.parse().expect(usage));
    let working: Vec<_> =
        (0..clients).map(|_| tokio::spawn(client(kind.clone(), address.clone(), end))).collect();
    let (mut times, mut lost) = (Vec::new(), 0);
    for client in working {
        let seen = client.await.expect("clients do not panic")?;
        times.extend(seen.times);
        lost += seen.lost;
    }
    let took = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |of: usize| times.get(times.len() * of / 100).copied().unwrap_or_default();
    println!(
        r#"{{"messages": {}, "lost": {lost}, "seconds": {took:.6}, "p50": {}, "p99": {}}}"#,
        times.len(),
        percentile(50).as_micros(),
        percentile(99).as_micros(),
    );
    Ok(())
}
