//! Answers every request below its route with a greeting.

use std::sync::OnceLock;

use plugind_sdk::{Lifecycle, StartError, config, identity, info};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

/// The answer to every request. `start` sets it, because it never changes while the instance exists.
static ANSWER: OnceLock<String> = OnceLock::new();

struct Hello;

impl Lifecycle for Hello {
    async fn start() -> Result<(), StartError> {
        let greeting = config::get("greeting")
            .map_err(|error| StartError::Unavailable(error.to_string()))?
            .unwrap_or_else(|| "Hello".to_owned());
        if greeting.trim().is_empty() {
            return Err(StartError::Configuration("the greeting is empty".to_owned()));
        }
        info!(greeting, "greeting loaded");
        ANSWER.get_or_init(|| format!("{greeting} from {}\n", identity::name()));
        Ok(())
    }
}

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let answer = ANSWER.get().expect("start comes before any request").as_bytes();
        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), answer.len().to_string().into_bytes()),
        ])
        .expect("both headers are well-formed and allowed");

        let (mut body, body_reader) = wit_stream::new();
        // The sender is dropped at once: there are no trailers.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_reader), trailers);
        // The body is read once the response has been returned, so writing it must not be waited for here.
        spawn_local(async move {
            // The rest was not read: the client has disconnected, or has sent a HEAD request.
            let _unread = body.write_all(answer.to_vec()).await;
        });
        Ok(response)
    }
}

plugind_sdk::export!(Hello);
wasip3::http::service::export!(Hello);
