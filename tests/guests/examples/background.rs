//! Works in the background as its configuration says, by the tasks of the SDK, and answers how often it has.

use plugind_sdk::{Lifecycle, StartError, StopReason, config, info, notice, tasks};
use serde::Deserialize;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Settings {
    interval_ms: u64,
    #[serde(default)]
    names: Vec<String>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();
static ROUNDS: AtomicU64 = AtomicU64::new(0);

struct Guest;

impl Lifecycle for Guest {
    async fn start() -> Result<(), StartError> {
        let settings: Settings = config::read()?;
        let interval = Duration::from_millis(settings.interval_ms);
        SETTINGS.get_or_init(|| settings);
        tasks::spawn(async move {
            while tasks::until_stop(tasks::sleep(interval)).await.is_some() {
                ROUNDS.fetch_add(1, Relaxed);
            }
            // What a task still does takes turns, too.
            tasks::sleep(Duration::from_millis(20)).await;
            info!("work finished");
        });
        tasks::spawn(async {
            tasks::stopping().await;
            let never = tasks::timeout(Duration::from_millis(1), std::future::pending::<()>());
            notice!(done = never.await.is_some(), "work given up");
        });
        Ok(())
    }

    async fn stop(reason: StopReason) {
        info!(?reason, "stopped");
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["names"] => SETTINGS.get().map(|settings| settings.names.join("+")).unwrap_or_default(),
        _ => ROUNDS.load(Relaxed).to_string(),
    }
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
