//! The lifecycle of an instance: it reads the configuration before it serves.

use plugind_sdk::{Lifecycle, StartError, StopReason, config, info};
use serde::Deserialize;
use std::sync::OnceLock;

/// `[config]` of the manifest. A misspelled key is a mistake, which the log names.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Settings {
    #[serde(default = "hello")]
    greeting: String,
}

/// They do not change while the instance exists.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// The plugin. Its handler is in `lib.rs`.
pub struct Plugin;

impl Lifecycle for Plugin {
    async fn start() -> Result<(), StartError> {
        let settings: Settings = config::read()?;
        if settings.greeting.trim().is_empty() {
            return Err(StartError::Configuration("[config] greeting is empty".to_owned()));
        }
        info!(greeting = settings.greeting, "greeting loaded");
        SETTINGS.get_or_init(|| settings);
        Ok(())
    }

    async fn stop(reason: StopReason) {
        info!(reason, "stopping");
    }
}

/// The greeting that `start` has read.
pub fn greeting() -> &'static str {
    SETTINGS.get().map_or("Hello", |settings| &settings.greeting)
}

fn hello() -> String {
    "Hello".to_owned()
}
