//! The helpers that the guests of the tests share: a route's words, an answer, and the two exports of HTTP.
//!
//! A guest sees the path of a request below its route: `/sleep/20`. [`words`] leaves out the query, and a guest looks at
//! `["sleep", "20"]`; it need not know under which name it runs.

use std::io::Write;

use wasip2::http::types as http_02;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

pub use wasip2;
pub use wasip3;

/// Bytes that a streaming guest holds at a time.
pub const CHUNK: usize = 64 * 1024;

/// The segments of `path` below the route.
pub fn words(path: &str) -> Vec<&str> {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/').filter(|word| !word.is_empty()).collect()
}

/// Returns the path of a request, for [`words`].
pub fn path(request: &Request) -> String {
    request.get_path_with_query().unwrap_or_default()
}

/// A number in a path, or 0.
pub fn number(word: &str) -> u64 {
    word.parse().unwrap_or_default()
}

/// A response of `text` by WASI 0.3.
pub fn answer(text: String) -> Response {
    answer_with(Fields::new(), text)
}

/// A response of `text` with headers of its own, by WASI 0.3.
pub fn answer_with(headers: Fields, text: String) -> Response {
    let (mut body, body_reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body_reader), trailers);
    spawn_local(async move {
        let _unread = body.write_all(text.into_bytes()).await;
    });
    response
}

/// Waits `milliseconds` without keeping anything else in the instance from running.
pub async fn pause(milliseconds: u64) {
    wasip3::clocks::monotonic_clock::wait_for(milliseconds.saturating_mul(1_000_000)).await;
}

/// Never returns, and keeps nothing else from running.
pub async fn forever() -> ! {
    loop {
        pause(3_600_000).await;
    }
}

/// Never returns, and keeps everything else in the instance from running.
pub fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

/// Returns the answer of a guest when nothing else is asked of it.
pub async fn fine(_words: &[&str]) -> String {
    "fine".to_owned()
}

/// The result of [`serve!`] and of guests with a `handle` of their own.
pub type Answered = Result<Response, ErrorCode>;

/// Exports `wasi:http/handler@0.3`, answered by an `async fn(&[&str]) -> String`.
#[macro_export]
macro_rules! serve {
    ($answer:path) => {
        struct Handler;

        impl $crate::wasip3::exports::http::handler::Guest for Handler {
            async fn handle(request: $crate::wasip3::http::types::Request) -> $crate::Answered {
                let path = $crate::path(&request);
                Ok($crate::answer($answer(&$crate::words(&path)).await))
            }
        }

        $crate::wasip3::http::service::export!(Handler with_types_in $crate::wasip3);
    };
}

/// Exports `wasi:http/incoming-handler@0.2`, answered by a `fn(&[&str]) -> String`.
#[macro_export]
macro_rules! serve_02 {
    ($answer:path) => {
        struct Handler02;

        impl $crate::wasip2::exports::http::incoming_handler::Guest for Handler02 {
            fn handle(
                request: $crate::wasip2::http::types::IncomingRequest,
                outparam: $crate::wasip2::http::types::ResponseOutparam,
            ) {
                let path = request.path_with_query().unwrap_or_default();
                let text = $answer(&$crate::words(&path));
                $crate::respond_02(outparam, |stream| std::io::Write::write_all(stream, text.as_bytes()));
            }
        }

        $crate::wasip2::http::proxy::export!(Handler02 with_types_in $crate::wasip2);
    };
}

/// Responds by WASI 0.2 with a body that `write` writes; where it fails, the client has gone.
pub fn respond_02(
    outparam: http_02::ResponseOutparam,
    write: impl FnOnce(&mut wasip2::io::streams::OutputStream) -> std::io::Result<()>,
) {
    let response = http_02::OutgoingResponse::new(http_02::Fields::new());
    let body = response.body().expect("the body is taken once");
    http_02::ResponseOutparam::set(outparam, Ok(response));
    let mut stream = body.write().expect("the stream is taken once");
    let written = write(&mut stream).and_then(|()| Write::flush(&mut stream));
    drop(stream);
    if written.is_ok() {
        let _finished = http_02::OutgoingBody::finish(body, None);
    }
}
