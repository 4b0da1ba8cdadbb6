//! Writes N journal entries at once in a request to `/flood/N`, then answers.

use plugind_sdk::journal;
use plugind_test_guests::{fine, number};

async fn respond(words: &[&str]) -> String {
    if let ["flood", entries] = words {
        for entry in 0..number(entries) {
            journal::info("flood", &[("entry", &entry.to_string())]);
        }
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);
