//! Aborts in `start`.

use plugind_sdk::{Lifecycle, StartError};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        std::process::abort()
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
