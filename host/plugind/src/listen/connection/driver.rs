//! Runs a connection of either version of HTTP until its end: its limits, a client that has gone, and the drain.

use crate::listen::{
    activity::{Activity, ClientRate, ConnectionLimits},
    stream::Stream,
};
use http_body::Body;
use hyper::{
    body::Incoming,
    rt::{Read, Write, bounds::Http2ServerConnExec},
    server::conn,
    service::HttpService,
};
use hyper_util::rt::TokioExecutor;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::Interest,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Why a connection has ended.
pub(super) enum ConnectionEnd {
    Finished(hyper::Result<()>),
    TimedOut,
    PeerGone,
    Drained,
}

/// A connection of either version.
pub(super) trait GracefulConnection: Future<Output = hyper::Result<()>> {
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

/// The times of a connection from which no more requests are wanted.
pub(super) struct Drain {
    /// Until it says so.
    pub(super) before: Duration,
    /// From then on until it is closed, if no request is in progress.
    pub(super) after: Duration,
    /// From the end of its last request until it is closed: the time to read what this version of HTTP has taken of a
    /// response and not sent yet, which cannot be seen.
    pub(super) rest: Duration,
}

/// The needs of a connection apart from its protocol: limits, and an end.
pub(super) struct Driver<'a> {
    pub(super) stream: &'a Stream,
    pub(super) activity: &'a Activity,
    pub(super) limits: ConnectionLimits,
    pub(super) closing: &'a CancellationToken,
}

impl Driver<'_> {
    /// Runs a connection until its end. When no more requests are wanted, it says so in the way of the protocol, and
    /// closes the connection as soon as no request is in progress.
    pub(super) async fn run(
        self,
        mut connection: Pin<&mut impl GracefulConnection>,
        drain: Drain,
    ) -> ConnectionEnd {
        let Self { stream, activity, limits, closing } = self;
        let mut timer = LimitTimer::new(activity, limits);
        let mut gone = pin!(peer_is_gone(stream, activity));
        let mut draining = pin!(drain_wanted(closing, activity, drain.before));
        let mut last: Option<LastTimer> = None;
        poll_fn(|context| {
            if last.is_none() && draining.as_mut().poll(context).is_ready() {
                last = Some(LastTimer::new(&drain, limits, false));
                connection.as_mut().graceful_shutdown();
            }
            // Before the limits, since this is what changes them.
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ConnectionEnd::Finished(ended));
            }
            if gone.as_mut().poll(context).is_ready() {
                return Poll::Ready(ConnectionEnd::PeerGone);
            }
            if let Some(last) = &mut last
                && activity.is_idle()
            {
                return last.poll_expired(context, activity);
            }
            activity.wake_at_end(context.waker());
            ready!(timer.poll_expired(context, activity));
            if drain.rest.is_zero() || !activity.is_idle() {
                return Poll::Ready(ConnectionEnd::TimedOut);
            }
            // The client learns that the connection was idle for too long, and may have to read the last response.
            last = Some(LastTimer::new(&drain, limits, true));
            connection.as_mut().graceful_shutdown();
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

/// Waits until no more requests are wanted, and then for those that are on their way.
///
/// A client whose next request is on its way to a connection that is being closed would lose it. So its next response
/// says that it is the last, and only a connection without a request is closed without a word.
async fn drain_wanted(closing: &CancellationToken, activity: &Activity, before: Duration) {
    closing.cancelled().await;
    activity.close();
    if !before.is_zero() {
        sleep(before).await;
    }
}

/// Waits until the client has gone. A client that sends no more is noted, and may wait for its response.
///
/// The connection does not read while it waits for a plugin, so that it would not notice; data that the client
/// sent after its request may lie unread for ever.
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

/// The timer of a connection that takes no more requests and has none in progress.
struct LastTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    limits: ConnectionLimits,
    /// Since the connection was idle for too long.
    is_late: bool,
}

impl LastTimer {
    fn new(drain: &Drain, limits: ConnectionLimits, is_late: bool) -> Self {
        let sleep = (!drain.after.is_zero()).then(|| Box::pin(sleep(drain.after)));
        let limits = ConnectionLimits { keep_alive: drain.rest, header: Duration::ZERO, ..limits };
        Self { sleep, limits, is_late }
    }

    fn poll_expired(
        &mut self,
        context: &mut Context<'_>,
        activity: &Activity,
    ) -> Poll<ConnectionEnd> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(context));
            while let Some(end) = activity.deadline(&self.limits)
                && Instant::now() < end
            {
                sleep.as_mut().reset(end);
                ready!(sleep.as_mut().poll(context));
            }
        }
        Poll::Ready(if self.is_late { ConnectionEnd::TimedOut } else { ConnectionEnd::Drained })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;
    use tokio::{net::UnixStream, time::advance};

    const LIMITS: ConnectionLimits = ConnectionLimits::OF_TESTS;
    const SECOND: Duration = Duration::from_secs(1);

    /// A connection whose client answers nothing.
    struct Silent;

    impl Future for Silent {
        type Output = hyper::Result<()>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<hyper::Result<()>> {
            Poll::Pending
        }
    }

    impl GracefulConnection for Silent {
        fn graceful_shutdown(self: Pin<&mut Self>) {}
    }

    /// Returns after how many seconds a connection has ended whose only request ended after 100.
    async fn seconds_to_end(limits: ConnectionLimits, closing_at: u64) -> u64 {
        let (_client, host) = UnixStream::pair().unwrap();
        let (stream, begun) = (Stream::Unix(host), Instant::now());
        let activity = Arc::new(Activity::new(begun));
        let closing = CancellationToken::new();
        let exchange = activity.begin();
        let driver = Driver { stream: &stream, activity: &activity, limits, closing: &closing };
        let drain = Drain { before: Duration::ZERO, after: SECOND, rest: SECOND * 10 };
        let silent = pin!(Silent);
        let mut running = pin!(driver.run(silent, drain));
        let mut exchange = Some(exchange);
        loop {
            let seconds = begun.elapsed().as_secs();
            if seconds == closing_at {
                closing.cancel();
            }
            if seconds == 100 {
                exchange = None;
            }
            if running.as_mut().now_or_never().is_some() {
                assert!(exchange.is_none(), "a request is in progress");
                return seconds;
            }
            advance(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_response_over_http_2_has_time_before_the_connection_is_closed() {
        assert_eq!(seconds_to_end(LIMITS, 90).await, 110);
        assert_eq!(seconds_to_end(LIMITS, 105).await, 110);
        let idle = ConnectionLimits { keep_alive: SECOND * 3, ..LIMITS };
        assert_eq!(seconds_to_end(idle, 1000).await, 110);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_http_2_that_was_idle_for_long_is_closed_soon() {
        assert_eq!(seconds_to_end(LIMITS, 150).await, 151);
        assert_eq!(seconds_to_end(LIMITS, 1000).await, 176);
    }
}
