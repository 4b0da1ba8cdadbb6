//! Answers with the version in its configuration: `/echo` when the whole body has come, `/down/BYTES`, slowly `/drip/BYTES`.
//!
//! The version is in a header, and in every byte of what streams. With `start = "trap"` it aborts in `start`.

use std::sync::OnceLock;

use plugind_sdk::{Lifecycle, StartError, config};
use plugind_test_guests::{Answered, CHUNK, answer_with, number, path, pause, words};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

/// The size of each piece, and the milliseconds between two pieces.
const DROP: (usize, u64) = (1024, 12);

static VERSION: OnceLock<u32> = OnceLock::new();

struct Versions;

impl Lifecycle for Versions {
    async fn start() -> Result<(), StartError> {
        let get = |key| config::get(key).ok().flatten();
        if get("start").is_some_and(|how| how == "trap") {
            std::process::abort()
        }
        let version = get("version").and_then(|version| version.parse().ok());
        let version = version.ok_or(StartError::Configuration("no \"version\"".to_owned()))?;
        VERSION.get_or_init(|| version);
        Ok(())
    }
}

impl Guest for Versions {
    async fn handle(request: Request) -> Answered {
        let path = path(&request);
        Ok(match words(&path)[..] {
            ["echo"] => echo(request).await?,
            ["down", bytes] => stream(number(bytes), CHUNK, 0),
            ["drip", bytes] => stream(number(bytes), DROP.0, DROP.1),
            _ => answer_with(headers(), format!("version {}\n", version())),
        })
    }
}

fn version() -> u32 {
    *VERSION.get().expect("start comes before any request")
}

fn headers() -> Fields {
    let version = version().to_string().into_bytes();
    Fields::from_list(&[("version".to_owned(), version)]).expect("the header is allowed")
}

async fn echo(request: Request) -> Answered {
    let (_, read) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, read);
    let body = body.collect().await;
    trailers.await?;
    Ok(answer_with(headers(), String::from_utf8(body).unwrap_or_default()))
}

/// A body in which no byte is where another version has it.
fn stream(bytes: u64, chunk: usize, rest: u64) -> Response {
    let (mut body, body_reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers(), Some(body_reader), trailers);
    spawn_local(async move {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let byte = |place: u32| {
            let [first, ..] = place.wrapping_mul(2_654_435_761).to_be_bytes();
            first.wrapping_add(version().to_le_bytes()[0])
        };
        let all: Vec<u8> = (0..bytes).map(byte).collect();
        for piece in all.chunks(chunk) {
            if !body.write_all(piece.to_vec()).await.is_empty() {
                return; // the client has gone
            }
            if rest > 0 {
                pause(rest).await;
            }
        }
    });
    response
}

wasip3::http::service::export!(Versions);
plugind_sdk::export!(Versions);
