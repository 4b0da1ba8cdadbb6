//! Waits in a request to `/sleep/MILLISECONDS`, by WASI 0.2; any other is answered at once.

use std::thread::sleep;
use std::time::Duration;

fn respond(words: &[&str]) -> String {
    match words {
        ["sleep", milliseconds] => {
            sleep(Duration::from_millis(plugind_test_guests::number(milliseconds)));
            "slept".to_owned()
        }
        _ => "fine".to_owned(),
    }
}

plugind_test_guests::serve_02!(respond);
