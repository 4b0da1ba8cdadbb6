//! Says at once why it was asked to stop. A request to `/forever` is never answered, and does not end with its client.

use plugind_sdk::{Lifecycle, StopReason, journal};
use plugind_test_guests::{fine, forever};

struct Guest;

impl Lifecycle for Guest {
    async fn stop(reason: StopReason) {
        journal::info(&format!("stopped: {reason:?}"), &[]);
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["forever"] => {
            journal::info("request begun", &[]);
            forever().await
        }
        _ => fine(words).await,
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
