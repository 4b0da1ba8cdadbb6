//! Waits in a request to `/block/MILLISECONDS` as WASI 0.2 does, which holds up all tasks of its instance; any other is answered at once.

use std::thread::sleep;
use std::time::Duration;

use plugind_test_guests::{fine, number};

async fn respond(words: &[&str]) -> String {
    match words {
        ["block", milliseconds] => {
            sleep(Duration::from_millis(number(milliseconds)));
            "blocked".to_owned()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
