//! Says in `start` how far it is, step by step.

use plugind_sdk::{Lifecycle, StartError, notify};
use plugind_test_guests::pause;

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        for step in 1..=3 {
            notify::status(&format!("step {step} of 3"));
            pause(50).await;
        }
        notify::status("");
        notify::status("at your service");
        Ok(())
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
