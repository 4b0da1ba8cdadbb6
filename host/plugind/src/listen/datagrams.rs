//! Datagrams, which plugins answer.

use crate::{
    base::{name::SocketName, quantity::Bytes},
    listen::{
        datagram_socket::{DatagramSocket, Incoming},
        given_back::GivenBack,
    },
    pool::{
        Reply,
        call::{Call, NotServed},
        instances::Pool,
    },
    route::table::TableReader,
    world::received_datagram::ReceivedDatagram,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rustix::net::SocketAddrAny;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The most datagrams of a socket that wait for their answers.
const WAITING_MAX: usize = 1024;
/// The most datagrams that are received before answers are sent.
const BATCH: usize = 64;
/// Interval over which dropped datagrams are counted before they are logged.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The server for datagram sockets. It ends when no more are wanted.
pub type DatagramServer =
    Arc<dyn Fn(DatagramSocket, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

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

/// An answer, and the address that it goes to.
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
                    self.drops.report(self.socket.name());
                    continue;
                }
                readable = self.socket.readable() => readable,
            };
            if let Err(error) = readable {
                warn!(socket = %self.socket.name(), %error, "cannot receive datagrams");
                return;
            }
            self.receive();
        }
        while let Some(answer) = self.waiting.next().await {
            self.send(answer);
        }
        self.drops.report(self.socket.name());
    }

    /// Takes those that are there, up to a batch.
    fn receive(&mut self) {
        let pool = pool(&self.reader, self.socket.name());
        let max = pool.as_ref().map_or(0, |pool| datagram_max(pool));
        self.buffer.resize(max, 0);
        for _ in 0..BATCH {
            // An error is that of an answer that did not arrive, or says that there are no more.
            let Ok(incoming) = self.socket.try_receive(&mut self.buffer) else { return };
            let bytes = (incoming.length <= max).then(|| self.buffer[..incoming.read].to_vec());
            self.take(pool.as_ref(), bytes, incoming);
        }
    }

    /// Has a datagram answered; without bytes it was too large.
    fn take(&mut self, pool: Option<&Arc<Pool>>, bytes: Option<Vec<u8>>, incoming: Incoming) {
        let bytes = match (pool, bytes) {
            (None, _) => return self.drop(Dropped::NotServed),
            (Some(_), None) => return self.drop(Dropped::TooLarge),
            (Some(_), Some(bytes)) => bytes,
        };
        if self.waiting.len() >= WAITING_MAX {
            return self.drop(Dropped::QueueFull);
        }
        let (client, sender) = (incoming.client(), incoming.sender);
        let socket = self.socket.name().clone();
        let datagram = Box::new(ReceivedDatagram { socket, client, bytes });
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
        if let Some(entry) = self.reader.table().whole_socket(self.socket.name()) {
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
    let mut given_back = GivenBack::none();
    loop {
        let pool = pool(reader, &datagram.socket).filter(|pool| given_back.allows(pool));
        let pool = pool.ok_or(Dropped::NotServed)?;
        match pool.call(Call::Datagram(datagram)).await {
            Ok(Reply::Datagram(answer)) => return Ok(answer),
            Err(NotServed::Draining(Call::Datagram(returned))) => {
                given_back.note(&pool);
                datagram = returned;
            }
            Err(NotServed::Busy(_)) => return Err(Dropped::QueueFull),
            Ok(Reply::Http(_) | Reply::Stream | Reply::WebSocket | Reply::Message)
            | Err(NotServed::Draining(_) | NotServed::TimedOut | NotServed::Failed(_)) => {
                return Err(Dropped::Failed);
            }
        }
    }
}

/// Why a datagram, or its answer, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    /// It is larger than the plugin takes.
    TooLarge,
    /// The limit of waiting datagrams is reached, or no instance had room in time.
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
