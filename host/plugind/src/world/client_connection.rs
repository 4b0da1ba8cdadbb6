//! The connections of stream sockets, as a guest has them and as the host watches over them.
//!
//! Outside the kernel, bytes are copied once: the runtime copies them between the memory of the guest and the buffer that
//! the kernel fills or empties. A connection that waits has no buffer.
//!
//! A connection is watched by the executor that uses it first, which is that of its instance: otherwise one thread would
//! learn of each message and wake another one to read it.

use crate::{
    base::{figures::CoreFigures, name::SocketName},
    runtime::file_threads,
    world::{
        byte_stream::{ByteStream, UnwatchedStream},
        client_address::ClientAddress,
        heartbeat::{Heartbeat, ServerHeartbeat},
    },
};
use rustix::net::Shutdown;
use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The most bytes that one `read` returns.
const READ_MAX: usize = 64 << 10;
/// The room for what is read first, and the least that there is later. The C library keeps memory of this size for each
/// thread, so that small messages take it without searching.
const ROOM_MIN: usize = 1 << 10;
/// Bytes read at a time of data that is to be discarded.
const DROP_MAX: usize = 4 << 10;
/// Time to read what came while the machine, or the daemon alone, did not run: a connection with such bytes is not idle.
pub const LATE_BYTES: Duration = Duration::from_millis(100);

/// A connection, as a guest has it and as the host watches over it.
#[derive(Clone)]
pub struct ClientConnection(Arc<ConnectionState>);

struct ConnectionState {
    stream: OnceLock<Box<dyn ByteStream>>,
    /// The same, until it is used.
    unwatched: Mutex<Option<Box<dyn UnwatchedStream>>>,
    client: ClientAddress,
    socket: SocketName,
    opened: Instant,
    /// When something was read or written last, in ms since it was opened.
    last_used: AtomicU64,
    /// The room for what is read next: it follows what came last.
    room: AtomicUsize,
    reading: AtomicBool,
    writing: AtomicBool,
    /// The peer has finished sending.
    is_read: AtomicBool,
    /// Nothing more will be written.
    is_finished: AtomicBool,
    timed_out: AtomicBool,
    /// The counter of its bytes.
    figures: OnceLock<Arc<CoreFigures>>,
    heartbeat: ServerHeartbeat,
}

/// Why nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Another transfer in this direction is in progress.
    Busy,
    /// Nothing more can be written.
    Closed,
    /// The peer or the network ended the connection.
    Reset,
    /// The host closed it, because it was not used for too long.
    TimedOut,
}

impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientConnection").field(&self.0.client).finish()
    }
}

impl ClientConnection {
    /// A connection that was accepted from `socket`.
    #[must_use]
    pub fn new(stream: impl UnwatchedStream, client: ClientAddress, socket: SocketName) -> Self {
        Self(Arc::new(ConnectionState {
            stream: OnceLock::new(),
            unwatched: Mutex::new(Some(Box::new(stream))),
            client,
            socket,
            opened: Instant::now(),
            last_used: AtomicU64::new(0),
            room: AtomicUsize::new(ROOM_MIN),
            reading: AtomicBool::new(false),
            writing: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            figures: OnceLock::new(),
            heartbeat: ServerHeartbeat::default(),
        }))
    }

    /// The stream, which the executor of this thread watches if none has used it before.
    fn stream(&self) -> io::Result<&dyn ByteStream> {
        if let Some(stream) = self.0.stream.get() {
            return Ok(stream.as_ref());
        }
        let mut unwatched = self.0.unwatched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unwatched) = unwatched.take() {
            let executor = file_threads::executor();
            let _entered = executor.enter();
            // Nobody else can set it while this has the lock.
            self.0.stream.set(unwatched.watch()?).ok();
        }
        let stream = self.0.stream.get().ok_or(io::ErrorKind::NotConnected)?;
        Ok(stream.as_ref())
    }

    /// Has its bytes counted here from now on. The first one counts.
    pub fn count_in(&self, figures: &Arc<CoreFigures>) {
        self.0.figures.set(figures.clone()).ok();
    }

    /// Has what is transferred be a heartbeat of the instance that serves it.
    pub fn beat_with(&self, heartbeat: &Arc<Heartbeat>) {
        self.0.heartbeat.set(heartbeat);
    }

    /// Returns the peer.
    #[must_use]
    pub fn client(&self) -> ClientAddress {
        self.0.client
    }

    /// The name of the socket from which it was accepted.
    #[must_use]
    pub fn socket(&self) -> &SocketName {
        &self.0.socket
    }

    /// Waits until nothing was read or written for `idle`.
    pub async fn idle(&self, idle: Duration) {
        loop {
            sleep(self.left(idle)).await;
            if self.left(idle).is_zero() {
                sleep(LATE_BYTES).await;
                if self.left(idle).is_zero() {
                    return;
                }
            }
        }
    }

    /// The time until nothing was read or written for `idle`, if nothing is.
    fn left(&self, idle: Duration) -> Duration {
        let last_used = Duration::from_millis(self.0.last_used.load(Relaxed));
        (last_used + idle).saturating_sub(self.0.opened.elapsed())
    }

    /// Closes it since it was not used for too long, which the guest learns by its next `read` or `write`.
    pub fn time_out(&self) {
        self.0.timed_out.store(true, Release);
        self.shut_down(Shutdown::Both);
    }

    /// Resets the connection, so that the peer sees an error.
    pub fn reset(&self) {
        self.0.is_finished.store(true, Release);
        if let Ok(stream) = self.stream() {
            stream.reset();
        }
    }

    /// Closes it properly: the peer gets all that was written, and then the end. Data that it sends meanwhile
    /// is read and dropped for a while, since unread bytes would make the kernel break the connection.
    pub async fn close(&self, wait_max: Duration) {
        self.finish();
        if !self.0.is_read.load(Acquire) {
            let unread = async {
                let mut buffer = Vec::with_capacity(DROP_MAX);
                loop {
                    buffer.clear();
                    match self.read_into(&mut buffer, DROP_MAX).await {
                        Ok(1..) => (),
                        Ok(0) | Err(_) => return,
                    }
                }
            };
            // It has had its time.
            timeout(wait_max, unread).await.ok();
        }
        self.shut_down(Shutdown::Both);
    }

    /// Writes nothing more: the peer sees the end.
    pub fn finish(&self) {
        if !self.0.is_finished.swap(true, AcqRel) {
            self.shut_down(Shutdown::Write);
        }
    }

    /// Closes one direction, or both. One that the kernel refused to watch is closed when it is dropped.
    fn shut_down(&self, direction: Shutdown) {
        if let Ok(stream) = self.stream() {
            stream.shut_down(direction);
        }
    }

    fn used(&self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_used.store(now, Relaxed);
    }

    /// Reads into `buffer`, which gets its memory when there is something to read.
    async fn read_into(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let stream = self.stream()?;
        loop {
            poll_fn(|cx| stream.poll_readable(cx)).await?;
            buffer.reserve(max);
            match stream.try_read(buffer, max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *buffer = Vec::new(),
                read => return read,
            }
        }
    }

    /// Reads at most `max` bytes of what the peer sent; 0 bytes mean the end.
    ///
    /// # Errors
    /// When another read is in progress, or the connection has ended.
    pub async fn read(&self, max: usize) -> Result<Vec<u8>, TransferError> {
        let _turn = Exclusive::take(&self.0.reading).ok_or(TransferError::Busy)?;
        let mut buffer = Vec::new();
        let room = self.0.room.load(Relaxed);
        let read = match max {
            0 => Ok(0),
            max => self.read_into(&mut buffer, max.min(room)).await,
        };
        if self.0.timed_out.load(Acquire) {
            return Err(TransferError::TimedOut);
        }
        match read {
            Ok(0) => self.0.is_read.fetch_or(max > 0, AcqRel),
            Ok(read) => {
                self.used();
                self.0.room.store(next_room(room, read), Relaxed);
                self.0.heartbeat.beat();
                if let Some(figures) = self.0.figures.get() {
                    figures.received.add(read as u64);
                }
                false
            }
            Err(_) => return Err(TransferError::Reset),
        };
        Ok(buffer)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When another write is in progress, or the connection has ended.
    pub async fn write(&self, mut bytes: &[u8]) -> Result<(), TransferError> {
        let _turn = Exclusive::take(&self.0.writing).ok_or(TransferError::Busy)?;
        let stream = self.stream().map_err(|_| TransferError::Reset)?;
        while !bytes.is_empty() {
            if self.0.timed_out.load(Acquire) {
                return Err(TransferError::TimedOut);
            }
            if self.0.is_finished.load(Acquire) {
                return Err(TransferError::Closed);
            }
            match stream.try_write(bytes) {
                Ok(written) => {
                    self.used();
                    self.0.heartbeat.beat();
                    if let Some(figures) = self.0.figures.get() {
                        figures.sent.add(written as u64);
                    }
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writable = poll_fn(|cx| stream.poll_writable(cx)).await;
                    writable.map_err(|_| TransferError::Reset)?;
                }
                Err(_) => return Err(TransferError::Reset),
            }
        }
        Ok(())
    }
}

/// The room for the next read, after `read` bytes came into `room`. One short read at most halves it, since a stream of
/// large pieces has some of these.
fn next_room(room: usize, read: usize) -> usize {
    match read {
        _ if read >= room => (4 * room).min(READ_MAX),
        _ if read < room / 4 => (room / 2).max(ROOM_MIN),
        _ => room,
    }
}

/// The right to the only transfer in a direction; it ends when this is dropped.
struct Exclusive<'a>(&'a AtomicBool);

impl<'a> Exclusive<'a> {
    fn take(taken: &'a AtomicBool) -> Option<Self> {
        (!taken.swap(true, AcqRel)).then_some(Self(taken))
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

#[cfg(test)]
mod tests;
