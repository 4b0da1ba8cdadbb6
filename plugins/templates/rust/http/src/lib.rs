//! Greets everyone who asks over HTTP.

mod greeting;
mod lifecycle;

use greeting::greet;
use lifecycle::{Plugin, greeting};
use plugind_sdk::debug;
use plugind_sdk::http::{Handler, Request, Response};

impl Handler for Plugin {
    async fn handle(request: Request) -> Response {
        let path = request.uri().path();
        debug!(path, "request");
        Response::new(greet(greeting(), path).into())
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_http!(Plugin);
