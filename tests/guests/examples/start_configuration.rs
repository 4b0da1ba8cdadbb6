//! Says in `start` that its configuration lacks a key.

use plugind_sdk::{Lifecycle, StartError};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        Err(StartError::Configuration("no key \"token\"".to_owned()))
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
