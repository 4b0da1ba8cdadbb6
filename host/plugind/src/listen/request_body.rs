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
    /// The client waits to be asked for it (100-continue): until then there is nothing to discard.
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
        // Now the client is asked for it.
        self.waits = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::activity::Activity;
    use http::{Request, Response, StatusCode};
    use http_body_util::Empty;
    use hyper::{server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    /// The responses to two requests that wait to be asked for their bodies, of which this many pieces are read.
    async fn refused_after(pieces: usize) -> String {
        let (mut client, server) = duplex(1 << 20);
        let activity = Arc::new(Activity::new(Instant::now()));
        let service = service_fn(move |request: Request<Incoming>| {
            let exchange = activity.begin();
            async move {
                let mut body = RequestBody::new(request.into_body(), true, exchange);
                for _ in 0..pieces {
                    body.frame().await.unwrap().unwrap();
                }
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                Ok::<_, Infallible>(response)
            }
        });
        for length in [200_000, 1] {
            let header = format!("Host: a\r\nExpect: 100-continue\r\nContent-Length: {length}");
            let request = format!("POST / HTTP/1.1\r\n{header}\r\n\r\n{}", "x".repeat(length));
            client.write_all(request.as_bytes()).await.unwrap();
        }
        client.shutdown().await.unwrap();
        let mut connection = http1::Builder::new();
        connection.half_close(true).serve_connection(TokioIo::new(server), service).await.unwrap();
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.unwrap();
        responses
    }

    #[tokio::test]
    async fn the_rest_of_a_body_that_the_client_was_asked_for_is_discarded() {
        let responses = refused_after(1).await;
        assert_eq!(responses.matches("HTTP/1.1 413 ").count(), 2, "{responses}");
        assert!(responses.starts_with("HTTP/1.1 100 "), "{responses}");
    }

    #[tokio::test]
    async fn a_body_that_the_client_was_not_asked_for_ends_the_connection() {
        let responses = refused_after(0).await;
        assert_eq!(responses.matches("HTTP/1.1 413 ").count(), 1, "{responses}");
        assert!(!responses.contains("HTTP/1.1 100 "), "{responses}");
    }
}
