//! Waits in a request to `/sleep/MILLISECONDS` while the other tasks of its instance continue. Computes for that time in
//! a request to `/compute/MILLISECONDS`, and yields now and then. Any other request is answered at once.

use plugind_test_guests::{fine, number, pause};
use std::time::{Duration, Instant};

/// The time between two yields.
const PIECE: Duration = Duration::from_millis(20);

fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::black_box(0);
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["sleep", milliseconds] => {
            pause(number(milliseconds)).await;
            "slept".to_owned()
        }
        ["compute", milliseconds] => {
            for _ in 0..number(milliseconds) / 20 {
                compute(PIECE);
                pause(1).await;
            }
            "computed".to_owned()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
