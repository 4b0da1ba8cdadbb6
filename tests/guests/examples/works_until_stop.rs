//! Works besides its requests from its start on, until `stop` ends that.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use plugind_sdk::{Lifecycle, StartError, StopReason, journal};
use plugind_test_guests::{fine, pause, wasip3::spawn_local};

static STOPPED: AtomicBool = AtomicBool::new(false);

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        spawn_local(async {
            while !STOPPED.load(Relaxed) {
                pause(10).await;
            }
            journal::info("its work has ended", &[]);
        });
        Ok(())
    }

    async fn stop(reason: StopReason) {
        journal::info(&format!("stopped: {reason:?}"), &[]);
        STOPPED.store(true, Relaxed);
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(fine);
