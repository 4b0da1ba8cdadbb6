//! Computes in `start` for three seconds.

use plugind_sdk::{Lifecycle, StartError};
use std::time::{Duration, Instant};

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            std::hint::black_box(0);
        }
        Ok(())
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
