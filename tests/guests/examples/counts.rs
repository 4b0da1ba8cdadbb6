//! Counts its requests in memory and answers which instance it is.

use std::sync::atomic::{AtomicU64, Ordering};

use plugind_sdk::identity;

static COUNT: AtomicU64 = AtomicU64::new(0);

async fn respond(_words: &[&str]) -> String {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    format!("worker={} generation={} count={count}", identity::worker(), identity::generation())
}

plugind_test_guests::serve!(respond);
