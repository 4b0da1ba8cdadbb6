//! Greets everyone who asks over HTTP.

mod greeting;
mod lifecycle;

use greeting::greet;
use lifecycle::{Plugin, greeting};
use plugind_sdk::http::{Handler, Request, Response};
use plugind_sdk::journal;

impl Handler for Plugin {
    async fn handle(request: Request) -> Response {
        let path = request.uri().path();
        journal::debug("request", &[("path", path)]);
        Response::new(greet(greeting(), path).into())
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_http!(Plugin);
