//! Reads, writes and their ends, over real sockets.

use super::*;
use futures::poll;
use std::{
    os::unix,
    pin::pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::advance,
};

/// A connection, and its client.
async fn connection() -> (ClientConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let socket = "echo".parse().unwrap();
    let stream = stream.into_std().unwrap();
    (ClientConnection::new(stream, ClientAddress::Ip(address), socket), client)
}

#[tokio::test]
async fn one_read_and_one_write_may_be_in_progress() {
    let (connection, mut client) = connection().await;
    let waits = connection.clone();
    let waits = tokio::spawn(async move { waits.read(9).await });
    while !connection.0.reading.load(Acquire) {
        tokio::task::yield_now().await;
    }
    assert!(matches!(connection.read(9).await, Err(TransferError::Busy)));
    assert!(connection.write(b"beside it").await.is_ok());
    client.write_all(b"bytes").await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), b"bytes");
}

/// A stream that notes where the bytes are that it is given, and writes two of them at a time.
#[derive(Clone, Default)]
struct NotesPlaces(Arc<Mutex<Vec<usize>>>);

impl NotesPlaces {
    fn note(&self, bytes: &[u8]) {
        self.0.lock().unwrap().push(bytes.as_ptr().addr());
    }
}

impl UnwatchedStream for NotesPlaces {
    fn watch(self: Box<Self>) -> io::Result<Box<dyn ByteStream>> {
        Ok(self)
    }
}

impl ByteStream for NotesPlaces {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_read(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        assert!(buffer.capacity() >= max, "there is room");
        buffer.resize(max, 7);
        self.note(buffer);
        Ok(max)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.note(bytes);
        Ok(bytes.len().min(2))
    }

    fn shut_down(&self, _: Shutdown) {}

    fn reset(&self) {}
}

#[tokio::test]
async fn no_buffer_is_between_the_bytes_of_a_guest_and_the_stream() {
    let stream = NotesPlaces::default();
    let places = || std::mem::take(&mut *stream.0.lock().unwrap());
    let socket = "echo".parse().unwrap();
    let connection = ClientConnection::new(stream.clone(), ClientAddress::Unix(None), socket);
    for max in [9, READ_MAX] {
        let read = connection.read(max).await.unwrap();
        assert_eq!(places(), [read.as_ptr().addr()], "these bytes become the guest's list");
    }
    let written = b"bytes";
    connection.write(written).await.unwrap();
    let begin = written.as_ptr().addr();
    assert_eq!(places(), [begin, begin + 2, begin + 4], "these are those of the guest's list");
}

#[test]
fn a_connection_is_watched_by_the_executor_that_uses_it_first() {
    use std::io::Write as _;
    let (stream, mut client) = unix::net::UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    // There is no executor here, so it would panic if it were watched now.
    let client_address = ClientAddress::Unix(None);
    let connection = ClientConnection::new(stream, client_address, "echo".parse().unwrap());
    let executor = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let waits = connection.clone();
    let waits = executor.spawn(async move { waits.read(9).await });
    client.write_all(b"bytes").unwrap();
    assert_eq!(executor.block_on(waits).unwrap().unwrap(), b"bytes");
}

#[tokio::test]
async fn a_read_returns_no_more_than_it_may() {
    let (connection, mut client) = connection().await;
    client.write_all(b"abc").await.unwrap();
    assert_eq!(connection.read(0).await.unwrap(), b"");
    assert_eq!(connection.read(1).await.unwrap(), b"a");
    assert_eq!(connection.read(2).await.unwrap(), b"bc");
    client.shutdown().await.unwrap();
    assert_eq!(connection.read(9).await.unwrap(), b"");
}

#[test]
fn the_room_follows_what_is_read() {
    let mut room = ROOM_MIN;
    for expected in [4 << 10, 16 << 10, READ_MAX, READ_MAX] {
        room = next_room(room, room);
        assert_eq!(room, expected);
    }
    assert_eq!(next_room(room, room / 4), room);
    for _ in 0..9 {
        room = next_room(room, 64);
    }
    assert_eq!(room, ROOM_MIN);
    assert_eq!(next_room(room, 1), ROOM_MIN);
}

#[tokio::test]
async fn what_comes_after_a_short_read_is_read_and_so_is_the_end() {
    let (connection, mut client) = connection().await;
    for piece in [&b"a"[..], b"bc", &[b'x'; 9 << 10]] {
        client.write_all(piece).await.unwrap();
        let mut received = Vec::new();
        while received.len() < piece.len() {
            received.extend(connection.read(READ_MAX).await.unwrap());
        }
        assert_eq!(received, piece);
    }
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(connection.read(READ_MAX).await.unwrap(), b"last");
    assert_eq!(connection.read(READ_MAX).await.unwrap(), b"");
}

#[tokio::test]
async fn a_reset_is_seen_by_the_client_and_an_end_is_no_reset() {
    let (connection, mut client) = connection().await;
    connection.reset();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let (connection, mut client) = self::connection().await;
    connection.write(b"x").await.unwrap();
    client.write_all(b"never read").await.unwrap();
    let closes = tokio::spawn(async move { connection.close(Duration::from_secs(60)).await });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"x");
    drop(client);
    closes.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_while_the_machine_stood_still_keep_a_connection_open() {
    let (connection, _client) = connection().await;
    let idle = Duration::from_secs(9);
    let mut idles = pin!(connection.idle(idle));
    assert!(poll!(&mut idles).is_pending());
    advance(2 * idle).await;
    assert!(poll!(&mut idles).is_pending());
    connection.used();
    advance(LATE_BYTES).await;
    assert!(poll!(&mut idles).is_pending(), "it was used again");
    advance(idle).await;
    assert!(poll!(&mut idles).is_pending());
    advance(LATE_BYTES).await;
    assert!(poll!(&mut idles).is_ready());
}

#[tokio::test]
async fn a_connection_that_timed_out_says_so() {
    let (connection, _client) = connection().await;
    connection.idle(Duration::from_millis(1)).await;
    connection.time_out();
    assert!(matches!(connection.read(9).await, Err(TransferError::TimedOut)));
    assert!(matches!(connection.write(b"x").await, Err(TransferError::TimedOut)));
}
