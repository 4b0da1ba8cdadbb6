//! Streams bodies of any size in little memory, by WASI 0.3: `/down/BYTES`, `/up`, `/echo`, and `/trailers` both ways.
//! `/stalls` sends a piece and nothing more.

use plugind_test_guests::{Answered, CHUNK, answer, fine, number, path, pause, words};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Streams;

impl Guest for Streams {
    async fn handle(request: Request) -> Answered {
        let path = path(&request);
        Ok(match words(&path)[..] {
            ["down", bytes] => down(number(bytes)),
            ["up"] => {
                let (body, _trailers) = take(request);
                answer(count(body).await.to_string())
            }
            ["echo"] => echo(request),
            ["stalls"] => stalls(),
            ["trailers"] => trailers(request).await,
            ref words => answer(fine(words).await),
        })
    }
}

type Trailing = FutureReader<Result<Option<Trailers>, ErrorCode>>;

fn take(request: Request) -> (StreamReader<u8>, Trailing) {
    let (_, read) = wit_future::new(|| Ok(()));
    Request::consume_body(request, read)
}

fn give() -> (StreamWriter<u8>, Response) {
    let (body, body_reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers);
    (body, response)
}

/// Reads a piece into `buffer`, which comes back empty at the end of the stream.
async fn piece(body: &mut StreamReader<u8>, buffer: Vec<u8>) -> Vec<u8> {
    let mut buffer = buffer;
    loop {
        buffer.clear();
        let (result, read) = body.read(buffer).await;
        buffer = read;
        match result {
            StreamResult::Complete(0) => {}
            StreamResult::Complete(_) => return buffer,
            StreamResult::Dropped | StreamResult::Cancelled => return buffer,
        }
    }
}

async fn count(mut body: StreamReader<u8>) -> u64 {
    let mut total = 0;
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        buffer = piece(&mut body, buffer).await;
        if buffer.is_empty() {
            return total;
        }
        total += buffer.len() as u64;
    }
}

fn down(bytes: u64) -> Response {
    let (mut body, response) = give();
    spawn_local(async move {
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            if !body.write_all(vec![b'x'; length]).await.is_empty() {
                return; // the client has gone
            }
            left -= length as u64;
        }
    });
    response
}

fn stalls() -> Response {
    let (mut body, response) = give();
    spawn_local(async move {
        let _unread = body.write_all(b"begun".to_vec()).await;
        pause(3_600_000).await;
        drop(body);
    });
    response
}

fn echo(request: Request) -> Response {
    let (mut from, _trailers) = take(request);
    let (mut to, response) = give();
    spawn_local(async move {
        loop {
            let read = piece(&mut from, Vec::with_capacity(CHUNK)).await;
            if read.is_empty() || !to.write_all(read).await.is_empty() {
                return;
            }
        }
    });
    response
}

/// Answers the trailers of the request as text, and sends one: how many bytes were before them.
async fn trailers(request: Request) -> Response {
    let (body, trailers) = take(request);
    let total = count(body).await;
    let text = match trailers.await {
        Ok(Some(fields)) => fields
            .copy_all()
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)))
            .collect(),
        Ok(None) => "none\n".to_owned(),
        Err(error) => format!("error: {error:?}\n"),
    };

    let named =
        |name: &str, value: String| Fields::from_list(&[(name.to_owned(), value.into_bytes())]);
    // HTTP/1.1 sends only the trailers that a header announces.
    let headers =
        named("trailer", "x-count".to_owned()).expect("the header is well-formed and allowed");
    let (mut to, body_reader) = wit_stream::new();
    let (last, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body_reader), trailers);
    spawn_local(async move {
        let _unread = to.write_all(text.into_bytes()).await;
        drop(to);
        let trailer =
            named("x-count", total.to_string()).expect("the trailer is well-formed and allowed");
        let _sent = last.write(Ok(Some(trailer))).await;
    });
    response
}

wasip3::http::service::export!(Streams);
