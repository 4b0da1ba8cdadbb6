//! Request bodies as a sign of progress: an instance that reads the body of a request is at work, even if it does not
//! return to its event loop for a long time.

use crate::world::heartbeat::Heartbeat;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use wasmtime_wasi_http::WasiBody;

type BodyError = <WasiBody as Body>::Error;

/// The body of a request, each piece of which is a heartbeat of the instance that reads it.
struct ProgressBody {
    body: WasiBody,
    heartbeat: Arc<Heartbeat>,
}

/// Has each piece of the request's body be a heartbeat.
pub(super) fn with_progress(
    request: http::Request<WasiBody>,
    heartbeat: &Arc<Heartbeat>,
) -> http::Request<WasiBody> {
    if request.body().is_end_stream() {
        return request;
    }
    request.map(|body| ProgressBody { body, heartbeat: heartbeat.clone() }.boxed_unsync())
}

impl Body for ProgressBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.heartbeat.beat();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
