//! Waits in a request to `/sleep/MILLISECONDS` while the other tasks of its instance continue; any other
//! is answered at once.

use plugind_test_guests::{fine, number, pause};

async fn respond(words: &[&str]) -> String {
    match words {
        ["sleep", milliseconds] => {
            pause(number(milliseconds)).await;
            "slept".to_owned()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
