//! After a request to `/hang`, `health` does not return any more, while requests are still answered.

use std::sync::atomic::{AtomicBool, Ordering};

use plugind_sdk::{Condition, Lifecycle};
use plugind_test_guests::{fine, forever};

static HANGS: AtomicBool = AtomicBool::new(false);

struct Guest;

impl Lifecycle for Guest {
    async fn health() -> Condition {
        if HANGS.load(Ordering::Relaxed) {
            forever().await
        }
        Condition::Healthy
    }
}

async fn respond(words: &[&str]) -> String {
    if words == ["hang"] {
        HANGS.store(true, Ordering::Relaxed);
    }
    fine(words).await
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
