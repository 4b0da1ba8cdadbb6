//! Datagrams, which plugins answer.

use crate::{
    base::{name::SocketName, quantity::Bytes},
    listen::tries::TRIES,
    pool::{
        Reply,
        call::{Call, NotServed},
        instances::Pool,
    },
    route::table::TableReader,
    systemd::sockets::Socket,
    world::{client_address::ClientAddress, received_datagram::ReceivedDatagram},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, recvfrom, sendto};
use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};
use tokio::{
    io::Interest,
    net::{UdpSocket, UnixDatagram},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The most datagrams of a socket that wait for their answers.
const WAITING_MAX: usize = 1024;
/// The most datagrams that are received before answers are sent.
const BATCH: usize = 64;
/// Interval over which dropped datagrams are counted before they are logged.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A socket that receives datagrams.
pub struct DatagramSocket {
    name: SocketName,
    inner: Inner,
}

/// The socket, by its kind.
enum Inner {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// The server for datagram sockets. It ends when no more are wanted.
pub type DatagramServer =
    Arc<dyn Fn(DatagramSocket, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

impl DatagramSocket {
    /// Receives from a socket, which stays open when this is dropped. None for sockets of connections. To be called
    /// within the runtime.
    ///
    /// # Errors
    /// When the socket cannot be used for that.
    pub fn of(socket: &Socket, name: SocketName) -> io::Result<Option<Self>> {
        let inner = match socket {
            Socket::Udp(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Inner::Udp(UdpSocket::from_std(socket)?)
            }
            Socket::UnixDatagram(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Inner::Unix(UnixDatagram::from_std(socket)?)
            }
            Socket::Tcp(_) | Socket::UnixStream(_) => return Ok(None),
        };
        Ok(Some(Self { name, inner }))
    }

    /// Waits until there is a datagram.
    async fn readable(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Udp(socket) => socket.readable().await,
            Inner::Unix(socket) => socket.readable().await,
        }
    }

    /// Receives a datagram that is there: how much of it fits into `buffer`, its length, and who sent it.
    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, usize, Option<SocketAddrAny>)> {
        let mut receive = || {
            let fd = match &self.inner {
                Inner::Udp(socket) => socket.as_fd(),
                Inner::Unix(socket) => socket.as_fd(),
            };
            Ok(recvfrom(fd, &mut *buffer, RecvFlags::TRUNC)?)
        };
        match &self.inner {
            Inner::Udp(socket) => socket.try_io(Interest::READABLE, &mut receive),
            Inner::Unix(socket) => socket.try_io(Interest::READABLE, &mut receive),
        }
    }

    /// Sends an answer. False if the receiver has no room for it, or is gone.
    fn send(&self, bytes: &[u8], to: &SocketAddrAny) -> bool {
        let fd = match &self.inner {
            Inner::Udp(socket) => socket.as_fd(),
            Inner::Unix(socket) => socket.as_fd(),
        };
        sendto(fd, bytes, SendFlags::NOSIGNAL, to).is_ok()
    }
}

/// Has plugins answer the datagrams of their sockets.
#[must_use]
pub fn server(reader: TableReader) -> DatagramServer {
    Arc::new(move |socket, closing| {
        let (reader, waiting) = (reader.clone(), FuturesUnordered::new());
        let drops = Drops::default();
        let buffer = Vec::new();
        DatagramService { socket, reader, waiting, drops, buffer }.run(closing).boxed()
    })
}

/// An answer, where it goes.
type Answer = (Option<SocketAddrAny>, Result<Option<Vec<u8>>, Dropped>);

/// One socket, and the datagrams that wait for their answers.
struct DatagramService {
    socket: DatagramSocket,
    reader: TableReader,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
    drops: Drops,
    buffer: Vec<u8>,
}

impl DatagramService {
    async fn run(mut self, closing: CancellationToken) {
        loop {
            let report_at = self.drops.report_at();
            let readable = tokio::select! {
                () = closing.cancelled() => break,
                Some(answer) = self.waiting.next() => {
                    self.send(answer);
                    continue;
                }
                () = sleep_until(report_at.unwrap_or_else(Instant::now)), if report_at.is_some() => {
                    self.drops.report(&self.socket.name);
                    continue;
                }
                readable = self.socket.readable() => readable,
            };
            if let Err(error) = readable {
                warn!(socket = %self.socket.name, %error, "cannot receive datagrams");
                return;
            }
            self.receive();
        }
        while let Some(answer) = self.waiting.next().await {
            self.send(answer);
        }
        self.drops.report(&self.socket.name);
    }

    /// Takes those that are there, up to a batch.
    fn receive(&mut self) {
        let pool = pool(&self.reader, &self.socket.name);
        let max = pool.as_ref().map_or(0, |pool| datagram_max(pool));
        self.buffer.resize(max, 0);
        for _ in 0..BATCH {
            // An error is that of an answer that did not arrive, or says that there are no more.
            let Ok((read, length, sender)) = self.socket.try_receive(&mut self.buffer) else {
                return;
            };
            let bytes = (length <= max).then(|| self.buffer[..read].to_vec());
            self.take(pool.as_ref(), bytes, sender);
        }
    }

    /// Has a datagram answered; without bytes it was too large.
    fn take(
        &mut self,
        pool: Option<&Arc<Pool>>,
        bytes: Option<Vec<u8>>,
        sender: Option<SocketAddrAny>,
    ) {
        let bytes = match (pool, bytes) {
            (None, _) => return self.drop(Dropped::NotServed),
            (Some(_), None) => return self.drop(Dropped::TooLarge),
            (Some(_), Some(bytes)) => bytes,
        };
        if self.waiting.len() >= WAITING_MAX {
            return self.drop(Dropped::QueueFull);
        }
        let address = sender.as_ref().and_then(|sender| SocketAddr::try_from(sender.clone()).ok());
        let client = address.map_or(ClientAddress::Unix(None), ClientAddress::Ip);
        let datagram =
            Box::new(ReceivedDatagram { socket: self.socket.name.clone(), client, bytes });
        let reader = self.reader.clone();
        self.waiting.push(async move { (sender, answer(&reader, datagram).await) }.boxed());
    }

    fn send(&mut self, (to, answer): Answer) {
        match (answer, to) {
            (Ok(None), _) => (),
            (Ok(Some(bytes)), Some(to)) if self.socket.send(&bytes, &to) => (),
            (Ok(Some(_)), _) => self.drop(Dropped::NotSent),
            (Err(dropped), _) => self.drop(dropped),
        }
    }

    fn drop(&mut self, why: Dropped) {
        if let Some(entry) = self.reader.table().whole_socket(&self.socket.name) {
            entry.figures.datagrams_dropped.add(1);
        }
        self.drops.note(why);
    }
}

fn pool(reader: &TableReader, socket: &SocketName) -> Option<Arc<Pool>> {
    reader.table().whole_socket(socket).and_then(|entry| entry.pool.clone())
}

fn datagram_max(pool: &Pool) -> usize {
    let Bytes(max) = pool.linked().release.manifest.limits.datagram_max;
    usize::try_from(max).unwrap_or(usize::MAX)
}

async fn answer(
    reader: &TableReader,
    mut datagram: Box<ReceivedDatagram>,
) -> Result<Option<Vec<u8>>, Dropped> {
    for _ in 0..TRIES {
        let pool = pool(reader, &datagram.socket).ok_or(Dropped::NotServed)?;
        match pool.call(Call::Datagram(datagram)).await {
            Ok(Reply::Datagram(answer)) => return Ok(answer),
            Err(NotServed::Draining(Call::Datagram(given_back))) => datagram = given_back,
            Err(NotServed::Busy) => return Err(Dropped::QueueFull),
            Ok(Reply::Http(_) | Reply::Stream | Reply::WebSocket | Reply::Message)
            | Err(NotServed::Draining(_) | NotServed::TimedOut | NotServed::Failed(_)) => {
                return Err(Dropped::Failed);
            }
        }
    }
    Err(Dropped::NotServed)
}

/// Why a datagram, or its answer, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    /// It is larger than the plugin takes.
    TooLarge,
    /// The limit of waiting datagrams is reached.
    QueueFull,
    /// No instance serves the socket at present.
    NotServed,
    /// The instance failed, or took too long.
    Failed,
    /// The sender cannot be answered.
    NotSent,
}

/// Number of datagrams dropped since the last log entry, and in all.
#[derive(Debug, Default)]
struct Drops {
    /// By the reasons, in their order.
    counts: [u64; 5],
    total: u64,
    /// When the next ones are logged.
    report_at: Option<Instant>,
}

impl Drops {
    fn note(&mut self, why: Dropped) {
        self.counts[why as usize] += 1;
        self.total += 1;
        self.report_at.get_or_insert_with(|| Instant::now() + REPORT_EVERY);
    }

    fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    fn report(&mut self, socket: &SocketName) {
        if self.report_at.take().is_none() {
            return;
        }
        let [too_large, queue_full, not_served, failed, not_sent] =
            std::mem::take(&mut self.counts);
        let total = self.total;
        warn!(
            %socket, too_large, queue_full, not_served, failed, not_sent, total, "datagrams dropped"
        );
    }
}
