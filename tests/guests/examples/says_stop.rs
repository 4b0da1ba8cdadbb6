//! Says at once why it was asked to stop.

use plugind_sdk::{Lifecycle, StopReason, journal};

struct Guest;

impl Lifecycle for Guest {
    async fn stop(reason: StopReason) {
        journal::info(&format!("stopped: {reason:?}"), &[]);
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
