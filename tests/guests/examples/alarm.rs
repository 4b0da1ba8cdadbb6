//! Reports in its log when an hour has passed since its start, and answers with the time of day, in seconds since 1970.

use plugind_sdk::{Lifecycle, StartError, info, tasks};
use plugind_test_guests::wasip3::clocks::{monotonic_clock, system_clock};

const HOUR: u64 = 3_600_000_000_000;

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        let due = monotonic_clock::now() + HOUR;
        tasks::spawn(async move {
            info!("alarm set");
            monotonic_clock::wait_until(due).await;
            info!("alarm rang");
        });
        Ok(())
    }
}

async fn respond(_words: &[&str]) -> String {
    system_clock::now().seconds.to_string()
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
