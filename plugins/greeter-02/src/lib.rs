//! Answers HTTP requests by WASI 0.2 and knows nothing of plugind.

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

const ANSWER: &[u8] = b"Hello from a wasi:http 0.2 component\n";

struct Greeter;

impl Guest for Greeter {
    fn handle(_request: IncomingRequest, outparam: ResponseOutparam) {
        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), ANSWER.len().to_string().into_bytes()),
        ])
        .expect("both headers are well-formed and allowed");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(outparam, Ok(response));

        let mut stream = body.write().expect("the stream is taken once");
        // An error means that the body is not read any more: the client has disconnected, or has sent a HEAD request.
        if stream.write_all(ANSWER).is_ok() {
            drop(stream);
            let _finished = OutgoingBody::finish(body, None);
        }
    }
}

wasip2::http::proxy::export!(Greeter);
