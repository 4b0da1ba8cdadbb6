//! One HTTP connection: its requests one after the other, its limits, and its end.

use crate::listen::{
    activity::{Activity, ConnectionLimits, ExchangeGuard},
    http::{self, HttpEndpoint},
    stream::{Peer, SharedStream, Stream},
};
use ::http::{HeaderValue, Request, Response, header::CONNECTION};
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// From the first byte of a request until its header has come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a response to a client that sends no more may pause.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read what waits for it, before it is taken to be gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// About the most bytes of a request's header, and the largest piece of a body that is read at once.
const BUFFER: usize = 64 << 10;
/// The most header fields of a request.
const HEADERS: usize = 100;
/// How long a connection without a request stays open when no more are accepted.
const LINGER: Duration = Duration::from_secs(1);

/// The limits of a connection that may be idle for so long.
#[must_use]
pub fn limits(keep_alive: Duration) -> ConnectionLimits {
    ConnectionLimits { keep_alive, header: HEADER_TIMEOUT, half_closed: HALF_CLOSED_TIMEOUT }
}

/// Why a connection has ended.
enum ConnectionEnd {
    Finished(hyper::Result<()>),
    TimedOut,
    PeerGone,
    Drained,
}

/// Serves HTTP on a connection until its end. When `closing` is cancelled, requests in progress are finished.
pub async fn serve(
    stream: Stream,
    peer: Peer,
    endpoint: Arc<HttpEndpoint>,
    limits: ConnectionLimits,
    closing: CancellationToken,
) {
    let stream = Arc::new(stream);
    let activity = Arc::new(Activity::new(Instant::now()));
    let observed = Observed { stream: SharedStream(stream.clone()), activity: activity.clone() };
    let mut io = TimeoutStream::new(observed);
    io.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = service_fn(|request| respond(request, activity.clone(), endpoint.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        // Both are limited here: a request's header from its first byte, and the pause before it by a setting.
        .header_read_timeout(None)
        // A client may say that it has sent everything. One that is gone is noticed below.
        .half_close(true)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(io)), service);
    let mut connection = pin!(connection);
    let mut timer = LimitTimer::new(&activity, limits);
    let mut gone = pin!(peer_is_gone(&stream, &activity));
    let mut draining = pin!(drain(&closing, &activity));
    let mut drains = false;
    let ended = poll_fn(|context| {
        if !drains && draining.as_mut().poll(context).is_ready() {
            drains = true;
            connection.as_mut().graceful_shutdown();
        }
        // Before the limits, since this is what changes them.
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ConnectionEnd::Finished(ended));
        }
        if drains && activity.is_idle() {
            return Poll::Ready(ConnectionEnd::Drained);
        }
        if gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(ConnectionEnd::PeerGone);
        }
        activity.wake_at_end(context.waker());
        timer.poll_expired(context, &activity).map(|()| ConnectionEnd::TimedOut)
    })
    .await;
    match ended {
        ConnectionEnd::Finished(Ok(())) | ConnectionEnd::Drained => (),
        ConnectionEnd::Finished(Err(error)) => debug!(%peer, %error, "connection ended"),
        ConnectionEnd::TimedOut => debug!(%peer, "connection timed out"),
        ConnectionEnd::PeerGone => debug!(%peer, "client disconnected"),
    }
}

async fn respond(
    request: Request<Incoming>,
    activity: Arc<Activity>,
    endpoint: Arc<HttpEndpoint>,
) -> Result<Response<Delivered<http::Body>>, Infallible> {
    let exchange = activity.begin();
    let mut response = http::answer(&endpoint, request, exchange.clone()).await?;
    activity.respond();
    if activity.is_closing() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Delivered { body, _exchange: exchange }))
}

/// Waits until no more requests are wanted, and then for those that are on their way.
///
/// A client whose next request is on its way to a connection that is being closed would lose it. So its next response
/// says that it is the last, and only a connection without a request is closed without a word.
async fn drain(closing: &CancellationToken, activity: &Activity) {
    closing.cancelled().await;
    activity.close();
    sleep(LINGER).await;
}

/// Waits until the client has gone. A client that sends no more is noted, and may wait for its response.
///
/// The connection does not read while it waits for a plugin, so that it would not notice; what the client sent beside
/// its request may lie unread for ever.
async fn peer_is_gone(stream: &Stream, activity: &Activity) {
    // Only the closing of the other side, not what there is to read: a level that is always there would be no news.
    let closed = stream.ready(Interest::PRIORITY | Interest::ERROR).await;
    if closed.is_ok_and(|closed| !closed.is_error()) && !is_hung_up(stream) {
        activity.half_close();
        stream.ready(Interest::ERROR).await.ok();
    }
}

/// Whether both directions are closed.
fn is_hung_up(stream: &Stream) -> bool {
    let mut state = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut state, Some(&now)).is_ok()
        && state[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// The timer for the limits of a connection. It is set when it has to go off earlier, and looks again when it goes off:
/// most requests do not touch it.
struct LimitTimer {
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    limits: ConnectionLimits,
}

impl LimitTimer {
    fn new(activity: &Activity, limits: ConnectionLimits) -> Self {
        let first = activity.deadline(&limits).unwrap_or_else(Instant::now);
        Self { sleep: Box::pin(sleep_until(first)), armed: Some(first), limits }
    }

    fn poll_expired(&mut self, context: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        loop {
            let deadline = activity.deadline(&self.limits);
            if let Some(deadline) = deadline
                && self.armed.is_none_or(|armed| deadline < armed)
            {
                self.sleep.as_mut().reset(deadline);
                self.armed = Some(deadline);
            }
            if self.armed.is_none() {
                return Poll::Pending;
            }
            ready!(self.sleep.as_mut().poll(context));
            self.armed = None;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Poll::Ready(());
            }
        }
    }
}

/// A connection whose activity is noted.
struct Observed {
    stream: SharedStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A response's body, in progress until it is dropped.
struct Delivered<B> {
    body: B,
    _exchange: ExchangeGuard,
}

impl<B: Body<Data: Buf> + Unpin> Body for Delivered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
