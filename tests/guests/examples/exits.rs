//! Exits with code 0 in a request to `/exit`, or in `start` where `exit` of its configuration is `start`.
#![expect(clippy::exit, reason = "that is what it is for")]

use plugind_sdk::{Lifecycle, StartError, config};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        match config::get("exit").ok().flatten().as_deref() {
            Some("start") => std::process::exit(0),
            _ => Ok(()),
        }
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["exit"] => std::process::exit(0),
        _ => plugind_test_guests::fine(words).await,
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
