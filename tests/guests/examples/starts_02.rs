//! Says when it starts, and answers by WASI 0.2; waits in a request to `/sleep/MILLISECONDS`.

use plugind_sdk::{Lifecycle, StartError, journal};
use std::{thread::sleep, time::Duration};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        journal::info("started", &[]);
        Ok(())
    }
}

fn respond(words: &[&str]) -> String {
    match words {
        ["sleep", milliseconds] => {
            journal::info("sleeping", &[]);
            sleep(Duration::from_millis(plugind_test_guests::number(milliseconds)));
            "slept".to_owned()
        }
        _ => "fine".to_owned(),
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve_02!(respond);
