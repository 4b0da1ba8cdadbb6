//! Reports a status in `start`, waits, and never returns from it.

use plugind_sdk::{Lifecycle, StartError, notify};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        notify::status("waits for ever");
        plugind_test_guests::forever().await
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
