//! Accepts connections, serves HTTP on each, and drains them in the end.

use crate::{http, table::Reader};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustix::io::Errno;
use std::{
    io,
    net::{SocketAddr, TcpListener as Bound},
    sync::Arc,
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
const CONNECTIONS: usize = 8192;
/// From when a request is waited for until its header has come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to read what waits for it, before it is taken to be gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// About the most bytes of a request's header, and the largest piece of a body that is read at once.
const BUFFER: usize = 64 << 10;
/// The most header fields of a request.
const HEADERS: usize = 100;
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
    pub fn open(socket: Bound, reader: Reader) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let (close, closing) = oneshot::channel();
        let closed = tokio::spawn(async move {
            let connections = GracefulShutdown::new();
            tokio::select! {
                () = accept(&socket, &reader, &connections) => (),
                // Its being dropped means the same.
                _ = closing => (),
            }
            drop(socket);
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

async fn accept(socket: &TcpListener, reader: &Reader, connections: &GracefulShutdown) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut last_error = None;
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, peer)) => {
                last_error = None;
                let served = serve(stream, peer, reader.clone(), connections.watcher());
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

async fn serve(stream: TcpStream, peer: SocketAddr, reader: Reader, watcher: Watcher) {
    // Without it small answers wait for the acknowledgement of the one before. If it fails they do, and that is all.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = service_fn(move |request| http::answer(reader.clone(), request));
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
