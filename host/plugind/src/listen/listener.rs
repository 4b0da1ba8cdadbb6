//! Accepts connections, serves HTTP on each, and drains them in the end.

use crate::{listen::http::answer, route::table::TableReader};
use ::http::{HeaderValue, header::CONNECTION};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustix::io::Errno;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as Bound},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

/// The most connections at a time; further clients wait in the kernel's queue.
const CONNECTIONS: u32 = 8192;
/// From when a request is waited for until its header has come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to read what waits for it, before it is taken to be gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// About the most bytes of a request's header, and the largest piece of a body that is read at once.
const BUFFER: usize = 64 << 10;
/// The most header fields of a request.
const HEADERS: usize = 100;
/// How long a connection without a request stays open when no more are accepted.
const LINGER: Duration = Duration::from_secs(1);
/// How long accepting pauses after an error, for what it lacks to be given back.
const PAUSE: Duration = Duration::from_millis(100);

/// An open door: a socket that is accepted from.
pub struct Listener {
    close: oneshot::Sender<()>,
    closed: JoinHandle<()>,
}

impl Listener {
    /// Begins to accept from a socket that is bound and listening.
    ///
    /// # Errors
    /// When the socket cannot be used for that.
    pub fn open(socket: Bound, reader: TableReader) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let (close, closing) = oneshot::channel();
        let closed = tokio::spawn(async move {
            let connections = GracefulShutdown::new();
            let room = Arc::new(Semaphore::new(CONNECTIONS as usize));
            let last_request = Arc::new(AtomicBool::new(false));
            tokio::select! {
                () = accept(&socket, &reader, &connections, &room, &last_request) => (),
                // Its being dropped means the same.
                _ = closing => (),
            }
            drop(socket);
            // A client whose next request is on its way to a connection that is being closed would lose it. So it is
            // told with its next response, and only who has nothing to ask is closed without a word.
            last_request.store(true, Relaxed);
            // Whether they went or the time is up comes to the same.
            tokio::time::timeout(LINGER, room.acquire_many(CONNECTIONS)).await.ok();
            connections.shutdown().await;
        });
        Ok(Self { close, closed })
    }

    /// Accepts no more, and waits until every connection has finished the request it has in hand, but no longer than
    /// `patience`.
    pub async fn drain(self, patience: Duration) {
        drop(self.close);
        if tokio::time::timeout(patience, self.closed).await.is_err() {
            warn!("connections cut off that did not end in time");
        }
    }
}

async fn accept(
    socket: &TcpListener,
    reader: &TableReader,
    connections: &GracefulShutdown,
    room: &Arc<Semaphore>,
    last_request: &Arc<AtomicBool>,
) {
    let mut last_error = None;
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, peer)) => {
                last_error = None;
                let last_request = last_request.clone();
                let served =
                    serve(stream, peer, reader.clone(), last_request, connections.watcher());
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Whoever gave up while waiting is no reason to pause, nor to say anything.
                if error.raw_os_error() == Some(Errno::CONNABORTED.raw_os_error()) {
                    continue;
                }
                if last_error.replace(error.kind()) != Some(error.kind()) {
                    warn!(%error, "connection not accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    reader: TableReader,
    last_request: Arc<AtomicBool>,
    watcher: Watcher,
) {
    // Without it small answers wait for the acknowledgement of the one before. If it fails they do, and that is all.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = service_fn(move |request| {
        let (reader, last_request) = (reader.clone(), last_request.clone());
        async move {
            let mut response = answer(reader, request).await?;
            if last_request.load(Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%peer, %error, "connection ended");
    }
}
