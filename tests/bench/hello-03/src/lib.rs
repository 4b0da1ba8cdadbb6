//! Answers every request as the plugin `hello` does, without its lifecycle and its configuration.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

const ANSWER: &[u8] = b"Hello from a wasi:http 0.3 component\n";

struct Hello;

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), ANSWER.len().to_string().into_bytes()),
        ])
        .expect("both headers are well-formed and allowed");

        let (mut body, body_reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_reader), trailers);
        // The body is read once the response has been returned, so writing it must not be waited for here.
        spawn_local(async move {
            let _unread = body.write_all(ANSWER.to_vec()).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Hello);
