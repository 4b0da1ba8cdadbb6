//! Makes ten resources of the host in each request, and drops them late, as a garbage collector does.

use plugind_test_guests::{fine, wasip3::http::types::Fields};
use std::cell::RefCell;

/// More than an instance may hold.
const UNTIL: usize = 20_000;

thread_local! {
    static GARBAGE: RefCell<Vec<Fields>> = const { RefCell::new(Vec::new()) };
}

async fn respond(words: &[&str]) -> String {
    GARBAGE.with_borrow_mut(|garbage| {
        garbage.extend((0..10).map(|_| Fields::new()));
        if garbage.len() >= UNTIL {
            garbage.clear();
        }
    });
    fine(words).await
}

plugind_test_guests::serve!(respond);
