//! Requests that middleware has passed on. While a request waits for the plugins behind, and while their response is
//! read, it occupies no place in the middleware: otherwise plugins that call each other through the same middleware, or
//! name two in opposite order, could wait for each other.

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
};
use wasmtime_wasi_http::{Error, WasiBody};

/// The largest number of requests of one instance that occupy no place because they were passed on. Further ones occupy
/// a place.
pub const PASSED_MAX: usize = 256;

/// The requests that an instance has passed on.
#[derive(Debug, Default)]
pub struct PassedCounts {
    in_flight: AtomicUsize,
    at_work: AtomicUsize,
}

/// One request of an instance, which may be passed on.
pub struct Passage {
    counts: Arc<PassedCounts>,
    /// Wakes the worker of the instance, which can take another request.
    worker: Waker,
    state: Mutex<PassageState>,
}

/// The facts about a passage.
struct PassageState {
    /// Number of times that the request was passed on and is not answered.
    forwards: usize,
    /// It is in flight in the worker.
    in_flight: bool,
    /// The guest is at work on it.
    at_work: bool,
}

/// A request is passed on, until this is dropped.
pub(super) struct PassedOn(Arc<Passage>);

impl PassedCounts {
    /// Returns the number of requests in flight that occupy no place because they were passed on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst).min(PASSED_MAX)
    }

    /// Returns the number of requests that the guest works on and that occupy no place because they were passed on.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.at_work.load(SeqCst).min(PASSED_MAX)
    }
}

impl PassageState {
    /// Whether it counts as in flight, and as at work.
    fn counts(&self) -> [bool; 2] {
        [self.in_flight, self.at_work].map(|is| is && self.forwards > 0)
    }
}

impl Passage {
    /// A request that the guest has begun to work on.
    #[must_use]
    pub fn new(counts: Arc<PassedCounts>, worker: Waker) -> Arc<Self> {
        let state = PassageState { forwards: 0, in_flight: true, at_work: true };
        Arc::new(Self { counts, worker, state: Mutex::new(state) })
    }

    /// The request is passed on.
    pub(super) fn begin(self: &Arc<Self>) -> PassedOn {
        self.change(|state| state.forwards += 1);
        PassedOn(self.clone())
    }

    /// The request is no longer in flight.
    pub fn leave(&self) {
        self.change(|state| state.in_flight = false);
    }

    /// The guest is done with the request.
    pub fn end_work(&self) {
        self.change(|state| state.at_work = false);
    }

    fn change(&self, change: impl FnOnce(&mut PassageState)) {
        let mut state = self.lock();
        let before = state.counts();
        change(&mut state);
        let after = state.counts();
        let counts = [&self.counts.in_flight, &self.counts.at_work];
        for (nth, count) in counts.into_iter().enumerate() {
            match (before[nth], after[nth]) {
                (false, true) => drop(count.fetch_add(1, SeqCst)),
                (true, false) => drop(count.fetch_sub(1, SeqCst)),
                _ => (),
            }
        }
        drop(state);
        if before == [false; 2] && after != before {
            self.worker.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PassageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PassedOn {
    /// The same response. The request counts as passed on until its body has ended.
    pub(super) fn until_end_of(self, response: Response<WasiBody>) -> Response<WasiBody> {
        response.map(|body| PassedBody { body, passed: Some(self) }.boxed_unsync())
    }
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        self.0.change(|state| state.forwards -= 1);
    }
}

/// The body of a response to a request that was passed on.
struct PassedBody {
    body: WasiBody,
    passed: Option<PassedOn>,
}

impl Body for PassedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.passed = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn passage() -> (Arc<PassedCounts>, Arc<Passage>) {
        let counts = Arc::<PassedCounts>::default();
        (counts.clone(), Passage::new(counts, Waker::noop().clone()))
    }

    fn numbers(counts: &PassedCounts) -> (usize, usize) {
        (counts.in_flight(), counts.at_work())
    }

    #[test]
    fn a_request_counts_once_however_often_it_is_passed_on() {
        let (counts, passage) = passage();
        assert_eq!(numbers(&counts), (0, 0));
        let (first, second) = (passage.begin(), passage.begin());
        assert_eq!(numbers(&counts), (1, 1));
        drop(first);
        assert_eq!(numbers(&counts), (1, 1));
        drop(second);
        assert_eq!(numbers(&counts), (0, 0));
    }

    #[test]
    fn a_request_counts_only_while_the_worker_has_it() {
        let (counts, passage) = passage();
        let passed = passage.begin();
        passage.end_work();
        assert_eq!(numbers(&counts), (1, 0));
        passage.leave();
        assert_eq!(numbers(&counts), (0, 0));
        drop((passed, passage.begin()));
        assert_eq!(numbers(&counts), (0, 0));
    }

    #[tokio::test]
    async fn a_request_counts_until_the_response_of_those_behind_was_read() {
        let (counts, passage) = passage();
        let body = Full::new(Bytes::from("text")).map_err(|never| match never {}).boxed_unsync();
        let response = passage.begin().until_end_of(Response::new(body));
        assert_eq!(numbers(&counts), (1, 1));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "text");
        assert_eq!(numbers(&counts), (0, 0));
    }

    #[test]
    fn passed_requests_beyond_the_maximum_occupy_a_place() {
        let counts = Arc::<PassedCounts>::default();
        let passages = (0..PASSED_MAX + 1)
            .map(|_| Passage::new(counts.clone(), Waker::noop().clone()).begin());
        let passed: Vec<_> = passages.collect();
        assert_eq!(numbers(&counts), (PASSED_MAX, PASSED_MAX));
        drop(passed);
        assert_eq!(numbers(&counts), (0, 0));
    }
}
