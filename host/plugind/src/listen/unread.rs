//! The body of a response on a stream of HTTP/2, which is dropped if the client does not read it.
//!
//! A connection of HTTP/2 is alive while any of its streams is. A stream whose client does not read is not asked for its
//! next piece, so its body would keep its place in the plugin without end.

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// The time that the client may take for one piece, at least.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client read too little of a response.
#[derive(Debug, thiserror::Error)]
#[error("the client reads too slowly")]
pub(super) struct Unread;

/// The body of a response.
pub(super) struct StreamBody<B> {
    shared: Arc<Mutex<Piece<B>>>,
    rate_min: u64,
    watched: Option<AbortOnDropHandle<()>>,
}

/// The piece that was given to the connection last.
struct Piece<B> {
    /// None after it was dropped.
    body: Option<B>,
    /// When the client must have read the piece, unless the next one was asked for.
    due: Option<Instant>,
}

impl<B: Send + 'static> StreamBody<B> {
    /// One whose client must read this many bytes a second. With 0, it may take as long as it likes.
    pub(super) fn new(body: B, rate_min: u64) -> Self {
        let shared = Arc::new(Mutex::new(Piece { body: Some(body), due: None }));
        Self { shared, rate_min, watched: None }
    }

    fn piece(&self) -> MutexGuard<'_, Piece<B>> {
        lock(&self.shared)
    }

    /// A piece of this many bytes is on its way, and another one may follow.
    fn gave(&mut self, length: usize) {
        let due = due(length, self.rate_min, Instant::now());
        self.piece().due = due;
        // Most responses have one piece only, and are not watched.
        if due.is_some() && self.watched.is_none() {
            let watch = tokio::spawn(give_up(self.shared.clone()));
            self.watched = Some(AbortOnDropHandle::new(watch));
        }
    }
}

impl<B> Piece<B> {
    /// The body, if the client has not read a piece of it in time.
    fn take_late(&mut self, now: Instant) -> Option<B> {
        let is_late = self.due.is_some_and(|due| due <= now);
        if is_late { self.body.take() } else { None }
    }
}

/// The time by which a client must have read this many bytes that it gets now; none if there is no limit.
fn due(length: usize, rate_min: u64, now: Instant) -> Option<Instant> {
    let seconds = (length as u64).checked_div(rate_min)?;
    // A time may be infinite.
    now.checked_add(PIECE_TIMEOUT.max(Duration::from_secs(seconds)))
}

fn lock<B>(piece: &Mutex<Piece<B>>) -> MutexGuard<'_, Piece<B>> {
    piece.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops the body when a piece is not read in time.
async fn give_up<B>(piece: Arc<Mutex<Piece<B>>>) {
    loop {
        let due = lock(&piece).due.unwrap_or_else(|| Instant::now() + PIECE_TIMEOUT);
        sleep_until(due).await;
        // It is dropped outside of the lock.
        let given_up = lock(&piece).take_late(Instant::now());
        if given_up.is_some() {
            return;
        }
    }
}

impl<B> Body for StreamBody<B>
where
    B: Body<Data: Buf, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let (frame, is_last) = {
            let mut piece = self.piece();
            // The client has read what there was.
            piece.due = None;
            let Some(body) = &mut piece.body else {
                return Poll::Ready(Some(Err(Unread.into())));
            };
            let frame = ready!(Pin::new(&mut *body).poll_frame(context));
            (frame, body.is_end_stream())
        };
        if let Some(Ok(frame)) = &frame
            && !is_last
        {
            self.gave(frame.data_ref().map_or(0, Buf::remaining));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.piece().body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.piece().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt;
    use http_body_util::{BodyExt, Full, StreamBody as Pieces};
    use std::io;

    /// Pieces without end, and what goes when they are dropped.
    fn endless(place: Arc<()>) -> impl Body<Data = Bytes, Error = io::Error> + Unpin + Send {
        Pieces::new(futures::stream::repeat_with(move || {
            let _place = &place;
            Ok(Frame::data(Bytes::from_static(b"piece")))
        }))
    }

    fn is_late<B: Send + 'static>(body: &StreamBody<B>, time: Duration) -> bool {
        body.piece().take_late(Instant::now() + time).is_some()
    }

    #[tokio::test]
    async fn a_response_that_is_not_read_gives_its_place_back() {
        let place = Arc::new(());
        let mut body = StreamBody::new(endless(place.clone()), 1);
        assert!(!is_late(&body, PIECE_TIMEOUT * 2), "it has not begun");
        body.frame().await.unwrap().unwrap();
        assert!(!is_late(&body, PIECE_TIMEOUT / 2));
        body.frame().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&place), 2);
        assert!(is_late(&body, PIECE_TIMEOUT * 2));
        assert_eq!(Arc::strong_count(&place), 1);
        assert!(body.frame().await.unwrap().is_err(), "the client learns that it is incomplete");
    }

    #[tokio::test]
    async fn a_response_that_waits_for_its_plugin_or_has_no_rate_is_kept() {
        let mut body = StreamBody::new(endless(Arc::new(())), 0);
        body.frame().await.unwrap().unwrap();
        assert!(!is_late(&body, PIECE_TIMEOUT * 100));

        let piece = Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"piece")));
        let silent = futures::stream::iter([piece]).chain(futures::stream::pending());
        let mut body = StreamBody::new(Pieces::new(silent), 1);
        body.frame().await.unwrap().unwrap();
        assert!(futures::poll!(body.frame()).is_pending());
        assert!(!is_late(&body, PIECE_TIMEOUT * 100), "it is asked for more");

        let mut whole = StreamBody::new(Full::new(Bytes::from_static(b"all")), 1);
        whole.frame().await.unwrap().unwrap();
        assert!(whole.is_end_stream() && whole.watched.is_none());
    }

    #[test]
    fn a_large_piece_may_take_the_time_that_it_takes_at_the_least_rate() {
        let now = Instant::now();
        assert_eq!(due(1, 256, now), Some(now + PIECE_TIMEOUT));
        assert_eq!(due(64 << 10, 256, now), Some(now + Duration::from_secs(256)));
        assert_eq!(due(1, 0, now), None);
    }
}
