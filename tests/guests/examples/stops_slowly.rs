//! Takes a second to stop, then says why it was asked to.

use plugind_sdk::{Lifecycle, StopReason, journal};
use plugind_test_guests::{fine, pause};

struct Guest;

impl Lifecycle for Guest {
    async fn stop(reason: StopReason) {
        pause(1000).await;
        journal::info(&format!("stopped: {reason:?}"), &[]);
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(fine);
