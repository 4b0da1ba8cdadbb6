//! The activity of a connection, and its time limits.

use futures::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// Time limits of a connection without progress.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Between two requests.
    pub keep_alive: Duration,
    /// From the first byte of a request until its header is complete; on a connection without a request, from its
    /// beginning.
    pub header: Duration,
    /// Between two pieces of a response to a client that sends no more, and so may have gone.
    pub half_closed: Duration,
    /// Bytes a second that a client must send or read while it is waited for.
    pub rate_min: u64,
}

#[cfg(test)]
impl ConnectionLimits {
    /// Limits for tests.
    pub(super) const OF_TESTS: Self = Self {
        keep_alive: Duration::from_secs(75),
        header: Duration::from_secs(30),
        half_closed: Duration::from_secs(5),
        rate_min: 0,
    };
}

/// The activity of one connection. Only the connection's own task changes it, but the rest of a request's body may
/// end elsewhere, and other tasks read it to find idle connections.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Requests and responses in progress.
    exchanges: AtomicU32,
    /// There was a request.
    requested: AtomicBool,
    /// A part of a request's header has come.
    header: AtomicBool,
    /// The kernel takes no more for now.
    write_blocked: AtomicBool,
    /// The client sends no more.
    half_closed: AtomicBool,
    /// Nothing is there to be read for now.
    read_blocked: AtomicBool,
    /// Bodies of requests that are still to come.
    uploads: AtomicU32,
    /// Bytes read and written.
    moved: AtomicU64,
    /// A response has begun.
    responding: AtomicBool,
    /// No more requests are wanted.
    closing: AtomicBool,
    /// The connection reports when it is idle.
    watched: AtomicBool,
    /// Time at which the last of these states that has a limit began, in ms from the start.
    since: AtomicU64,
    /// The connection's task, which has to know when the last exchange ends in another one.
    task: AtomicWaker,
}

/// A request or response in progress.
#[derive(Debug)]
pub struct ExchangeGuard(Arc<Activity>);

impl Activity {
    /// That of a connection that was accepted now.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            exchanges: AtomicU32::new(0),
            requested: AtomicBool::new(false),
            header: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            read_blocked: AtomicBool::new(false),
            uploads: AtomicU32::new(0),
            moved: AtomicU64::new(0),
            responding: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            since: AtomicU64::new(0),
            task: AtomicWaker::new(),
        }
    }

    /// From now on it says when the connection is idle, so that it may be closed for another one.
    pub fn watch(&self) {
        self.watched.store(true, Relaxed);
    }

    /// Since when the connection has been idle, if it is.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.watched.load(Relaxed) && self.is_idle();
        is_idle.then(|| self.start + Duration::from_millis(self.since.load(Relaxed)))
    }

    /// Wakes `task` when the last exchange ends, which may be in another task.
    pub fn wake_at_end(&self, task: &Waker) {
        if self.exchanges.load(SeqCst) > 0 {
            self.task.register(task);
            if self.exchanges.load(SeqCst) == 0 {
                // It ended meanwhile.
                task.wake_by_ref();
            }
        }
    }

    fn now(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(since, Relaxed);
    }

    /// Nothing is there to be read.
    pub fn block_read(&self) {
        self.read_blocked.store(true, Relaxed);
    }

    /// This many bytes have come, for a request's header unless one is in progress.
    pub fn read(&self, length: usize) {
        self.read_frames(length);
        if self.exchanges.load(Relaxed) == 0 && !self.header.swap(true, Relaxed) {
            self.now();
        }
    }

    /// This many bytes have come, for any of several requests.
    pub fn read_frames(&self, length: usize) {
        self.read_blocked.store(false, Relaxed);
        self.add_moved(length);
    }

    /// The kernel took this many bytes; none if it takes no more for now.
    pub fn wrote(&self, length: Option<usize>) {
        let blocked = length.is_none();
        self.write_blocked.store(blocked, Relaxed);
        self.add_moved(length.unwrap_or_default());
        if !blocked && self.half_closed.load(Relaxed) {
            self.now();
        }
    }

    /// Whether the kernel takes no more for now.
    #[must_use]
    pub fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    fn add_moved(&self, length: usize) {
        // Only the connection's own task changes it.
        let moved = self.moved.load(Relaxed).wrapping_add(length as u64);
        self.moved.store(moved, Relaxed);
    }

    /// Bytes read and written.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Whether the client is waited for: it has to send the rest of a request's body, or to read.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        let uploads = self.read_blocked.load(Relaxed) && self.uploads.load(Relaxed) > 0;
        uploads || self.write_blocked.load(Relaxed)
    }

    /// The header of a request is complete.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> ExchangeGuard {
        self.requested.store(true, Relaxed);
        self.header.store(false, Relaxed);
        self.responding.store(false, Relaxed);
        self.exchanges.fetch_add(1, Relaxed);
        ExchangeGuard(self.clone())
    }

    /// The response has begun.
    pub fn respond(&self) {
        self.responding.store(true, Relaxed);
        if self.half_closed.load(Relaxed) {
            self.now();
        }
    }

    /// The client sends no more.
    pub fn half_close(&self) {
        self.half_closed.store(true, Relaxed);
        self.now();
    }

    /// No more requests are wanted.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Whether no more requests are wanted.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Whether the connection can be closed without a loss: no request is being answered or its response written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.exchanges.load(Relaxed) == 0 && !self.write_blocked.load(Relaxed)
    }

    /// Returns the deadline of the client; none while it waits for the host, and while it is slow to read, which
    /// has a limit of its own.
    #[must_use]
    pub fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        let limit = if self.is_idle() {
            match self.header.load(Relaxed) || !self.requested.load(Relaxed) {
                true => limits.header,
                false => limits.keep_alive,
            }
        } else {
            let may_be_gone = self.half_closed.load(Relaxed) && self.responding.load(Relaxed);
            may_be_gone.then_some(limits.half_closed)?
        };
        // A limit may be infinite.
        self.start.checked_add(Duration::from_millis(self.since.load(Relaxed)))?.checked_add(limit)
    }
}

/// The body of a request that is still to come.
#[derive(Debug)]
pub struct UploadGuard(Arc<Activity>);

impl ExchangeGuard {
    /// The body of the request is still to come.
    #[must_use]
    pub fn upload(&self) -> UploadGuard {
        self.0.uploads.fetch_add(1, Relaxed);
        UploadGuard(self.0.clone())
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Relaxed);
    }
}

/// The speed of a client while it is waited for, as a pure value.
#[derive(Debug, Default)]
pub struct ClientRate {
    /// Since when it has been waited for, and what was moved until then.
    since: Option<(Instant, u64)>,
}

/// Time over which a client must keep the least rate.
const RATE_WINDOW: Duration = Duration::from_secs(30);

impl ClientRate {
    /// Examines a connection. Returns the client's deadline for the rest, if it is waited for.
    ///
    /// # Errors
    /// When it was too slow.
    pub fn look(
        &mut self,
        activity: &Activity,
        rate_min: u64,
        now: impl FnOnce() -> Instant,
    ) -> Result<Option<Instant>, TooSlow> {
        if rate_min == 0 || !activity.waits_for_client() {
            self.since = None;
            return Ok(None);
        }
        let (now, moved) = (now(), activity.moved());
        let (since, before) = *self.since.get_or_insert((now, moved));
        if now.saturating_duration_since(since) < RATE_WINDOW {
            return Ok(since.checked_add(RATE_WINDOW));
        }
        if moved.wrapping_sub(before) < rate_min.saturating_mul(RATE_WINDOW.as_secs()) {
            return Err(TooSlow);
        }
        self.since = Some((now, moved));
        Ok(now.checked_add(RATE_WINDOW))
    }
}

/// A client sends or reads less than it must.
#[derive(Debug, PartialEq, Eq)]
pub struct TooSlow;

impl Clone for ExchangeGuard {
    fn clone(&self) -> Self {
        self.0.exchanges.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        // Before the count changes, so that a connection never seems to have been idle for long.
        let is_last = self.0.exchanges.load(Relaxed) == 1;
        if is_last {
            self.0.now();
        }
        if self.0.exchanges.fetch_sub(1, SeqCst) == 1 {
            if !is_last {
                self.0.now();
            }
            self.0.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits::OF_TESTS;

    /// The limit that counts now, in seconds.
    fn limit(activity: &Activity) -> Option<u64> {
        let since = activity.start + Duration::from_millis(activity.since.load(Relaxed));
        activity.deadline(&LIMITS).map(|deadline| deadline.duration_since(since).as_secs())
    }

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Instant::now()))
    }

    #[test]
    fn a_request_has_its_time_and_the_pause_between_two_another() {
        let activity = activity();
        assert_eq!(limit(&activity), Some(30), "nothing has come");
        activity.read(1);
        assert_eq!(limit(&activity), Some(30), "half a header");
        let exchange = activity.begin();
        assert_eq!(limit(&activity), None, "the client waits");
        activity.read(1);
        activity.respond();
        activity.wrote(Some(1));
        drop(exchange);
        assert_eq!(limit(&activity), Some(75), "between two requests");
        activity.read(1);
        assert_eq!(limit(&activity), Some(30), "the next one has begun");
    }

    #[test]
    fn a_client_that_is_waited_for_must_keep_to_the_least_rate() {
        let activity = activity();
        let at = |seconds| activity.start + Duration::from_secs(seconds);
        let mut rate = ClientRate::default();
        let mut look = |seconds| rate.look(&activity, 10, || at(seconds));
        let exchange = activity.begin();
        activity.block_read();
        assert_eq!(look(0), Ok(None), "nothing is to come");
        let upload = exchange.upload();
        assert_eq!(look(5), Ok(Some(at(35))));
        activity.read(300);
        activity.block_read();
        assert_eq!(look(34), Ok(Some(at(35))));
        assert_eq!(look(35), Ok(Some(at(65))), "it was fast enough");
        activity.read(299);
        assert_eq!(look(60), Ok(None), "the plugin is at it");
        activity.block_read();
        assert_eq!(look(64), Ok(Some(at(94))));
        drop(upload);
        assert_eq!(look(95), Ok(None));
        activity.wrote(None);
        assert_eq!(look(100), Ok(Some(at(130))));
        activity.wrote(Some(299));
        activity.wrote(None);
        assert_eq!(look(130), Err(TooSlow));
    }

    #[test]
    fn a_response_that_the_kernel_does_not_take_keeps_the_connection() {
        let activity = activity();
        let exchange = activity.begin();
        activity.wrote(None);
        drop(exchange);
        assert!(!activity.is_idle());
        assert_eq!(limit(&activity), None);
        activity.wrote(Some(1));
        assert!(activity.is_idle());
        assert_eq!(limit(&activity), Some(75));
    }

    #[test]
    fn a_request_whose_body_still_comes_is_in_progress() {
        let activity = activity();
        let response = activity.begin();
        let body = response.clone();
        drop(response);
        assert!(!activity.is_idle());
        drop(body);
        assert!(activity.is_idle());
    }

    #[test]
    fn the_connection_is_woken_when_its_last_request_ends_elsewhere() {
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let activity = activity();
        activity.wake_at_end(&waker);
        let response = activity.begin();
        let body = response.clone();
        activity.wake_at_end(&waker);
        drop(response);
        assert!(!woken.0.load(SeqCst));
        drop(body);
        assert!(woken.0.load(SeqCst));
    }

    #[test]
    fn a_client_that_sends_no_more_may_wait_for_a_response_and_not_for_its_rest() {
        let activity = activity();
        let exchange = activity.begin();
        activity.half_close();
        assert_eq!(limit(&activity), None, "it gets its response");
        activity.respond();
        assert_eq!(limit(&activity), Some(5));
        drop(exchange);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn each_piece_of_a_response_gives_time_for_the_next() {
        let activity = Activity::new(Instant::now() - Duration::from_secs(100));
        let activity = Arc::new(activity);
        let exchange = activity.begin();
        activity.half_close();
        activity.respond();
        activity.since.store(0, Relaxed);
        assert!(activity.deadline(&LIMITS).unwrap() < Instant::now());
        activity.wrote(Some(1));
        assert!(activity.deadline(&LIMITS).unwrap() > Instant::now());
        drop(exchange);
    }
}
