//! A request's body, which is read to its end even if the plugin does not read it.
//!
//! A connection whose client is still sending when it is closed is reset, and with it the response that may be on its
//! way is lost. So the rest that the plugin does not read is discarded, up to a limit.

use crate::{
    base::figures::CoreFigures,
    listen::activity::{ExchangeGuard, UploadGuard},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::timeout;

/// Limits of bytes and time for reading and discarding. If the client sends more, the connection is closed.
const LEFT_MAX: usize = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A request's body.
pub struct RequestBody {
    /// None when it has ended.
    body: Option<Incoming>,
    /// The client waits to be asked for it (100-continue): nothing of it is discarded if the plugin does not read it.
    waits: bool,
    /// As long as more may come, the connection is not idle.
    exchange: Option<ExchangeGuard>,
    /// As long as the plugin has not read all of it.
    upload: Option<UploadGuard>,
    /// The counter of its bytes.
    figures: Option<Arc<CoreFigures>>,
}

impl RequestBody {
    /// One whose client sends it unasked, or `waits` (RFC 9110, 10.1.1).
    #[must_use]
    pub fn new(body: Incoming, waits: bool, exchange: ExchangeGuard) -> Self {
        let upload = (!body.is_end_stream()).then(|| exchange.upload());
        Self { body: Some(body), waits, exchange: Some(exchange), upload, figures: None }
    }

    /// Has its bytes counted here.
    pub fn count_in(&mut self, figures: Arc<CoreFigures>) {
        self.figures = Some(figures);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let (Some(figures), Some(Ok(frame))) = (&self.figures, &frame) {
            figures.received.add(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
            self.upload = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let exchange = self.exchange.take();
        let left = self.body.take().filter(|body| !self.waits && !body.is_end_stream());
        // Where there is no runtime any more there is no connection either.
        if let (Some(left), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) {
            // The connection itself notices whether the body is complete.
            runtime.spawn(async {
                drop(timeout(WAIT_MAX, discard_body(left)).await);
                drop(exchange);
            });
        }
    }
}

async fn discard_body(mut body: Incoming) {
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > LEFT_MAX {
            return;
        }
    }
}
