//! Fails, by WASI 0.2, in the way that its path asks for: `/nothing` has no response, `/error` an error for one, the body
//! of `/short` is shorter than its length, and that of `/aborts` ends with the instance.

use plugind_test_guests::{
    wasip2::{exports::http::incoming_handler::Guest, http::types as http},
    words,
};
use std::io::Write;

struct Fails;

impl Guest for Fails {
    fn handle(request: http::IncomingRequest, outparam: http::ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match words(&path)[..] {
            ["nothing"] => (),
            ["error"] => {
                let error = http::ErrorCode::InternalError(Some("secret detail".to_owned()));
                http::ResponseOutparam::set(outparam, Err(error));
            }
            ["short"] => begin(outparam, Some("100"), 5),
            ["aborts"] => {
                // More than waits for a client, so the response has begun.
                begin(outparam, None, 1 << 20);
                std::process::abort();
            }
            _ => plugind_test_guests::respond_02(outparam, |stream| stream.write_all(b"fine")),
        }
    }
}

/// Begins a response, and its body with so many bytes.
fn begin(outparam: http::ResponseOutparam, length: Option<&str>, bytes: usize) {
    let fields = http::Fields::new();
    if let Some(length) = length {
        fields.append("content-length", length.as_bytes()).expect("the field is allowed");
    }
    let response = http::OutgoingResponse::new(fields);
    let body = response.body().expect("the body is taken once");
    http::ResponseOutparam::set(outparam, Ok(response));
    let mut stream = body.write().expect("the stream is taken once");
    stream.write_all(&vec![b'x'; bytes]).and_then(|()| Write::flush(&mut stream)).ok();
}

plugind_test_guests::wasip2::http::proxy::export!(Fails with_types_in plugind_test_guests::wasip2);
