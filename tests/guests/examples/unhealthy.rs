//! Is unhealthy after a request to `/sicken`, and degraded after one to `/weaken`.

use std::sync::atomic::{AtomicBool, Ordering};

use plugind_sdk::{Condition, Lifecycle};
use plugind_test_guests::fine;

static SICK: AtomicBool = AtomicBool::new(false);
static WEAK: AtomicBool = AtomicBool::new(false);

struct Guest;

impl Lifecycle for Guest {
    async fn health() -> Condition {
        if SICK.load(Ordering::Relaxed) {
            Condition::Unhealthy("sick".to_owned())
        } else if WEAK.load(Ordering::Relaxed) {
            Condition::Degraded("weak".to_owned())
        } else {
            Condition::Healthy
        }
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["sicken"] => SICK.store(true, Ordering::Relaxed),
        ["weaken"] => WEAK.store(true, Ordering::Relaxed),
        _ => {}
    }
    fine(words).await
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
