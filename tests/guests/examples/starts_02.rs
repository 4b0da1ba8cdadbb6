//! Says when it starts, and answers by WASI 0.2.

use plugind_sdk::{Lifecycle, StartError, journal};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        journal::info("started", &[]);
        Ok(())
    }
}

fn respond(_words: &[&str]) -> String {
    "fine".to_owned()
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve_02!(respond);
