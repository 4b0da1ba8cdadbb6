//! Computes for some hundred milliseconds in each request, without a call to the host, and answers with the result.

use std::hint::black_box;

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

/// Each step needs the result of the step before.
const STEPS: u64 = 100_000_000;

struct Computes;

impl Guest for Computes {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let result = (0..STEPS).fold(1, |state: u64, step| black_box(state.rotate_left(5) ^ step));

        let (mut body, body_reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers);
        // The body is read once the response has been returned, so writing it must not be awaited here.
        spawn_local(async move {
            let _unread = body.write_all(format!("{result}\n").into_bytes()).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Computes);
