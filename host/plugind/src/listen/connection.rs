//! One HTTP connection: its requests, its limits, and its end.

use crate::{
    base::error_chain::ErrorChain,
    journal::Journal,
    listen::{
        access_log::AccessTarget,
        activity::{Activity, ClientRate, ConnectionLimits, ExchangeGuard},
        client_certificate,
        forwarded::ForwardedFields,
        health::HealthRoute,
        http,
        http_endpoint::HttpEndpoint,
        listeners::Accepted,
        opening::{self, HttpWire, Opened},
        request_record::RequestRecord,
        response,
        spans::SpanSink,
        stream::{Peer, Stream},
        unread::StreamBody,
    },
    route::table::TableReader,
};
use ::http::{
    HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION, uri::Scheme,
};
use bytes::Buf;
use futures::TryFutureExt;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    rt::{Read, Write, bounds::Http2ServerConnExec},
    server::conn,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{Shutdown, shutdown},
};
use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// From the first byte of a request until its header has come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a response to a client that sends no more may pause.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a client may take to read pending data before it is considered gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// About the most bytes of a request's header, and the largest piece of a body that is read at once.
const BUFFER: usize = 64 << 10;
/// The most header fields of a request.
const HEADERS: usize = 100;
/// The most requests at a time on a connection that speaks HTTP/2.
const STREAMS: u32 = 100;
/// Bytes of request bodies that such a client may send before they are read: for one request, and for all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Limits of a client's resets that were not noticed yet, and of streams that the daemon resets because of the client's
/// mistakes, before the connection ends.
const RESETS_PENDING: usize = 20;
const RESETS_OWN: usize = 128;
/// The most bytes of a request's header in HTTP/2.
const HEADER_LIST: u32 = 64 << 10;
/// Time that a connection without a request stays open when no more are accepted.
const LINGER: Duration = Duration::from_secs(1);

/// The limits of a connection that may be idle for so long.
#[must_use]
pub fn limits(keep_alive: Duration) -> ConnectionLimits {
    ConnectionLimits {
        keep_alive,
        header: HEADER_TIMEOUT,
        half_closed: HALF_CLOSED_TIMEOUT,
        rate_min: 0,
    }
}

/// Why a connection has ended.
enum ConnectionEnd {
    Finished(hyper::Result<()>),
    TimedOut,
    PeerGone,
    Drained,
}

/// Serves HTTP on a connection until its end. When no more requests are wanted, those in progress are finished.
pub async fn serve(
    accepted: Accepted,
    reader: TableReader,
    health: Option<Arc<HealthRoute>>,
    mut limits: ConnectionLimits,
    journal: Journal,
    spans: Option<SpanSink>,
) {
    let Accepted { stream, peer, socket, how, place } = accepted;
    limits.rate_min = how.connections.rate_min.0;
    let stream = Arc::new(stream);
    let (activity, closing) = (place.activity(), place.closing());
    let drained = async {
        closing.cancelled().await;
        sleep(LINGER).await;
    };
    // Until its first request is complete there is one limit, whatever comes before that.
    let opened = tokio::select! {
        biased;
        opened = timeout(limits.header, opening::open(&stream, peer, &how)) => opened,
        () = drained => return,
    };
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            debug!(%peer, error = %ErrorChain(&error), "connection refused");
            return close_unread(&stream).await;
        }
        Err(_) => return debug!(%peer, "connection timed out"),
    };
    let Opened { wire, peer, is_http2, certificate } = opened;
    let scheme = if how.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let certificate = certificate.map(|certificate| client_certificate::field(&certificate));
    let client = ForwardedFields::new(peer, scheme, how.setting.clone(), certificate);
    let access_log = how.setting.access_log.map(|format| AccessTarget { format, journal });
    let websockets = TaskTracker::new();
    let endpoint = {
        let (closing, websockets) = (closing.clone(), websockets.clone());
        HttpEndpoint {
            socket,
            reader,
            client,
            health,
            access_log,
            spans,
            peer,
            closing,
            websockets,
        }
    };
    let observed = Observed { wire, activity: activity.clone(), notes_reads: !is_http2 };
    let mut io = TimeoutStream::new(observed);
    io.set_write_timeout(Some(WRITE_TIMEOUT));
    let io = TokioIo::new(Box::pin(io));
    let endpoint = Arc::new(endpoint);
    let service = {
        let (activity, endpoint) = (activity.clone(), endpoint.clone());
        service_fn(move |request| respond(request, activity.clone(), endpoint.clone()))
    };
    // The time limits of a connection do not show a stream of HTTP/2 that nobody reads.
    let streams = {
        let (activity, endpoint) = (activity.clone(), endpoint.clone());
        service_fn(move |request| {
            let responding = respond(request, activity.clone(), endpoint.clone());
            responding
                .map_ok(move |response| response.map(|body| StreamBody::new(body, limits.rate_min)))
        })
    };
    let driver = Driver { stream: &stream, activity: &activity, limits, closing };
    let ended = match is_http2 {
        false => {
            let connection = conn::http1::Builder::new()
                // Both are limited here: a request's header from its first byte, and the pause before it by a setting.
                .header_read_timeout(None)
                // A client may say that it has sent everything. One that is gone is noticed below.
                .half_close(true)
                .max_buf_size(BUFFER)
                .max_headers(HEADERS)
                .serve_connection(io, service)
                .with_upgrades();
            driver.run(pin!(connection), LINGER, Duration::ZERO).await
        }
        true => {
            let connection = conn::http2::Builder::new(TokioExecutor::new())
                // WebSockets ask for it (RFC 8441).
                .enable_connect_protocol()
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEADER_LIST)
                .max_send_buf_size(BUFFER)
                .max_pending_accept_reset_streams(RESETS_PENDING)
                .max_local_error_reset_streams(RESETS_OWN)
                .serve_connection(io, streams);
            // The client learns which requests are still answered, so that it loses none, and ends the connection.
            driver.run(pin!(connection), Duration::ZERO, LINGER).await
        }
    };
    log_end(peer, &ended);
    if let Some(status) = status_of_refused(&ended) {
        endpoint.log_refused(status);
    }
    // A WebSocket keeps the connection that it was asked for on.
    websockets.close();
    websockets.wait().await;
}

/// Closes a connection whose client may still be sending, so that it learns why before the end: unread bytes would have
/// the kernel take back what was written.
async fn close_unread(stream: &Stream) {
    let unread = async {
        shutdown(stream, Shutdown::Write).ok();
        let mut buffer = [0; 512];
        while let Ok(1..) = stream.take(&mut buffer).await {}
    };
    // A client that does not stop sending needs no explanation.
    timeout(LINGER, unread).await.ok();
}

fn log_end(peer: Peer, ended: &ConnectionEnd) {
    match ended {
        ConnectionEnd::Finished(Ok(())) | ConnectionEnd::Drained => (),
        ConnectionEnd::Finished(Err(error)) => debug!(%peer, %error, "connection ended"),
        ConnectionEnd::TimedOut => debug!(%peer, "connection timed out"),
        ConnectionEnd::PeerGone => debug!(%peer, "client disconnected"),
    }
}

/// The status with which the library refuses what is not a request of HTTP/1, before anything else sees it.
fn status_of_refused(ended: &ConnectionEnd) -> Option<StatusCode> {
    let ConnectionEnd::Finished(Err(error)) = ended else { return None };
    // Not answered: a beginning of HTTP/2 in the wrong place.
    let is_answered = error.is_parse() && !error.is_parse_version_h2();
    let status = match error.is_parse_too_large() {
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    };
    is_answered.then_some(status)
}

/// A connection of either version.
trait GracefulConnection: Future<Output = hyper::Result<()>> {
    /// Takes no more requests.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> GracefulConnection for conn::http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    I: Read + Write + Unpin,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> GracefulConnection for conn::http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    I: Read + Write + Unpin,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    TokioExecutor: Http2ServerConnExec<S::Future, B>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The needs of a connection beside its protocol: limits, and an end.
struct Driver<'a> {
    stream: &'a Stream,
    activity: &'a Activity,
    limits: ConnectionLimits,
    closing: &'a CancellationToken,
}

impl Driver<'_> {
    /// Runs a connection until its end. When no more requests are wanted, it waits for `before`, says so in the way of
    /// the protocol, and closes the connection after another `after`, as soon as no request is in progress.
    async fn run(
        self,
        mut connection: Pin<&mut impl GracefulConnection>,
        before: Duration,
        after: Duration,
    ) -> ConnectionEnd {
        let Self { stream, activity, limits, closing } = self;
        let mut timer = LimitTimer::new(activity, limits);
        let mut gone = pin!(peer_is_gone(stream, activity));
        let mut draining = pin!(drain(closing, activity, before));
        let mut last = None;
        poll_fn(|context| {
            if last.is_none() && draining.as_mut().poll(context).is_ready() {
                last = Some(Box::pin(sleep(after)));
                connection.as_mut().graceful_shutdown();
            }
            // Before the limits, since this is what changes them.
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ConnectionEnd::Finished(ended));
            }
            if let Some(last) = &mut last
                && activity.is_idle()
                && (after.is_zero() || last.as_mut().poll(context).is_ready())
            {
                return Poll::Ready(ConnectionEnd::Drained);
            }
            if gone.as_mut().poll(context).is_ready() {
                return Poll::Ready(ConnectionEnd::PeerGone);
            }
            activity.wake_at_end(context.waker());
            timer.poll_expired(context, activity).map(|()| ConnectionEnd::TimedOut)
        })
        .await
    }
}

async fn respond(
    request: Request<Incoming>,
    activity: Arc<Activity>,
    endpoint: Arc<HttpEndpoint>,
) -> Result<Response<Delivered<response::Body>>, Infallible> {
    let exchange = activity.begin();
    let mut record = endpoint.record(&request);
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = http::answer(&endpoint, request, exchange.clone(), &mut record).await?;
    activity.respond();
    record.respond(response.status());
    if is_http1 && activity.is_closing() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Delivered { body, record, _exchange: exchange }))
}

/// Waits until no more requests are wanted, and then for those that are on their way.
///
/// A client whose next request is on its way to a connection that is being closed would lose it. So its next response
/// says that it is the last, and only a connection without a request is closed without a word.
async fn drain(closing: &CancellationToken, activity: &Activity, before: Duration) {
    closing.cancelled().await;
    activity.close();
    if !before.is_zero() {
        sleep(before).await;
    }
}

/// Waits until the client has gone. A client that sends no more is noted, and may wait for its response.
///
/// The connection does not read while it waits for a plugin, so that it would not notice; what the client sent beside
/// its request may lie unread for ever.
async fn peer_is_gone(stream: &Stream, activity: &Activity) {
    // Only the closing of the other side, not unread data: a condition that always holds would report nothing new.
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
    rate: ClientRate,
}

impl LimitTimer {
    fn new(activity: &Activity, limits: ConnectionLimits) -> Self {
        let first = activity.deadline(&limits).unwrap_or_else(Instant::now);
        let rate = ClientRate::default();
        Self { sleep: Box::pin(sleep_until(first)), armed: Some(first), limits, rate }
    }

    fn poll_expired(&mut self, context: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        loop {
            let Ok(rate) = self.rate.look(activity, self.limits.rate_min, Instant::now) else {
                return Poll::Ready(());
            };
            let deadline = activity.deadline(&self.limits);
            let deadline = deadline.into_iter().chain(rate).min();
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
            let is_over = |deadline: Instant| deadline <= Instant::now();
            if activity.deadline(&self.limits).is_some_and(is_over) {
                return Poll::Ready(());
            }
        }
    }
}

/// Returns the number of bytes written, unless none can be for now.
fn length(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Pending => None,
        Poll::Ready(written) => Some(written.as_ref().copied().unwrap_or_default()),
    }
}

/// A connection whose activity is noted.
struct Observed {
    wire: HttpWire,
    activity: Arc<Activity>,
    /// Bytes that are read begin a request, unless one is in progress.
    notes_reads: bool,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.wire).poll_read(context, buffer) else {
            // A stream of HTTP/2 may be silent for as long as it likes.
            if self.notes_reads {
                self.activity.block_read();
            }
            return Poll::Pending;
        };
        let length = buffer.filled().len() - before;
        match self.notes_reads {
            true if length > 0 => self.activity.read(length),
            _ => self.activity.read_frames(length),
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
        let written = Pin::new(&mut self.wire).poll_write(context, bytes);
        self.activity.wrote(length(&written));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(context, slices);
        self.activity.wrote(length(&written));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.wire).poll_flush(context);
        // TLS takes more than the kernel does. A flush without anything to write is no progress.
        if flushed.is_pending() || self.activity.is_write_blocked() {
            self.activity.wrote(flushed.is_ready().then_some(0));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

/// A response's body, in progress until it is dropped.
struct Delivered<B> {
    body: B,
    record: RequestRecord,
    _exchange: ExchangeGuard,
}

impl<B: Body<Data: Buf> + Unpin> Body for Delivered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.record.deliver(data.remaining());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
