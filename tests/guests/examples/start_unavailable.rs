//! Says in `start` that its database is not there yet.

use plugind_sdk::{Lifecycle, StartError};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        Err(StartError::Unavailable("database".to_owned()))
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
