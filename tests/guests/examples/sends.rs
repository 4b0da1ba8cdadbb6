//! Sends the body of a request to the URI in its header `to`, by the SDK's client, and answers what comes back. A request
//! without this header is answered with its own body. The log has the length of each request's body.

use plugind_sdk::{
    http::{Handler, Request, Response, http, send},
    info,
    tasks::timeout,
};
use std::time::Duration;

/// Longer than any answer of the tests takes.
const ANSWER_MAX: Duration = Duration::from_secs(60);

struct Sends;

impl Handler for Sends {
    async fn handle(request: Request) -> Response {
        info!(length = request.body().len(), "request handled");
        let Some(to) = request.headers().get("to").cloned() else {
            return Response::new(request.into_body());
        };
        let to = to.to_str().unwrap_or_default();
        let built = http::Request::post(to).header("x-sent-by", "sends").body(request.into_body());
        let text = match built {
            Err(error) => error.to_string(),
            Ok(built) => match timeout(ANSWER_MAX, send(built)).await {
                Some(Ok(response)) => {
                    let status = response.status().as_u16();
                    format!("{status} {}", String::from_utf8_lossy(response.body()))
                }
                Some(Err(error)) => error.to_string(),
                None => "no answer in time".to_owned(),
            },
        };
        Response::new(text.into_bytes())
    }
}

plugind_sdk::export_http!(Sends);
