//! Greets everyone who asks.

use std::sync::OnceLock;

use plugind_sdk::http::{Handler, Request, Response};
use plugind_sdk::{Lifecycle, StartError, StopReason, config, journal};

/// From `[config]` of the manifest. It does not change while the instance exists.
static GREETING: OnceLock<String> = OnceLock::new();

struct Plugin;

impl Lifecycle for Plugin {
    async fn start() -> Result<(), StartError> {
        let greeting = config::get("greeting")
            .map_err(|error| StartError::Unavailable(error.to_string()))?
            .unwrap_or_else(|| "Hello".to_owned());
        if greeting.trim().is_empty() {
            return Err(StartError::Configuration("[config] greeting is empty".to_owned()));
        }
        journal::info("greeting loaded", &[("greeting", &greeting)]);
        GREETING.get_or_init(|| greeting);
        Ok(())
    }

    async fn stop(reason: StopReason) {
        journal::info("stopping", &[("reason", &format!("{reason:?}"))]);
    }
}

impl Handler for Plugin {
    async fn handle(request: Request) -> Response {
        let path = request.uri().path();
        journal::debug("request", &[("path", path)]);
        let greeting = GREETING.get().map_or("Hello", String::as_str);
        Response::new(greet(greeting, path).into())
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_http!(Plugin);

/// The answer to a request for `path`, which begins below the plugin's route.
fn greet(greeting: &str, path: &str) -> String {
    let who = match path.trim_matches('/') {
        "" => "world",
        who => who,
    };
    format!("{greeting}, {who}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_who_is_greeted() {
        assert_eq!(greet("Hello", "/"), "Hello, world\n");
        assert_eq!(greet("Good morning", "/Ada/"), "Good morning, Ada\n");
    }
}
