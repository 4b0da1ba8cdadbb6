//! Streams bodies of any size in little memory, by WASI 0.2: `/down/BYTES`, `/up`, `/echo`.

use std::io::{self, Read, Write};

use plugind_test_guests::{CHUNK, number, respond_02, words};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Streams;

impl Guest for Streams {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match words(&path)[..] {
            ["down", bytes] => respond_02(outparam, |to| {
                let mut from = io::repeat(b'x').take(number(bytes));
                copy(&mut from, to).map(drop)
            }),
            ["up"] => {
                let total = with_body(&request, |from| copy(from, &mut io::sink()));
                respond_02(outparam, |to| match total {
                    Ok(total) => write!(to, "{total}"),
                    Err(error) => write!(to, "error: {error}"),
                });
            }
            ["echo"] => {
                respond_02(outparam, |to| with_body(&request, |from| copy(from, to)).map(drop))
            }
            _ => respond_02(outparam, |to| to.write_all(b"fine")),
        }
    }
}

/// The stream must be gone before the body, and the body before the request: children first.
fn with_body<T>(
    request: &IncomingRequest,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let body = request.consume().expect("the body is taken once");
    let mut stream = body.stream().expect("the stream is taken once");
    read(&mut stream)
}

/// `io::copy` with pieces of the size that the streams like.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut piece = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(total);
        }
        to.write_all(&piece[..length])?;
        total += length as u64;
    }
}

wasip2::http::proxy::export!(Streams);
