//! The lifecycle of an instance: it reads the configuration before it serves.

use plugind_sdk::{Lifecycle, StartError, StopReason, config, journal};
use std::sync::OnceLock;

/// From `[config]` of the manifest. It does not change while the instance exists.
static GREETING: OnceLock<String> = OnceLock::new();

/// The plugin. Its handler is in `lib.rs`.
pub struct Plugin;

impl Lifecycle for Plugin {
    async fn start() -> Result<(), StartError> {
        let greeting = config::get("greeting")
            .map_err(|error| StartError::Unavailable(error.to_string()))?
            .unwrap_or_else(|| "Hello".to_owned());
        if greeting.trim().is_empty() {
            return Err(StartError::Configuration("[config] greeting is empty".to_owned()));
        }
        journal::info("greeting loaded", &[("greeting", &greeting)]);
        GREETING.get_or_init(|| greeting);
        Ok(())
    }

    async fn stop(reason: StopReason) {
        journal::info("stopping", &[("reason", &format!("{reason:?}"))]);
    }
}

/// The greeting that `start` has read.
pub fn greeting() -> &'static str {
    GREETING.get().map_or("Hello", String::as_str)
}
