//! The strings of `[config]` in the plugin's manifest, read through `wasi:config/store`.
//!
//! They do not change while the instance exists. [`get`] returns `Ok(None)` for a key that the manifest does not have.
#![cfg_attr(
    feature = "serde",
    doc = r#"
With the feature `serde`, [`read`] makes a value of a type with names and types:

```no_run
use plugind_sdk::{Lifecycle, StartError, config};
use serde::Deserialize;
use std::sync::OnceLock;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Settings {
    greeting: String,
    #[serde(default = "ten")]
    per_second: f64,
    /// `origins = "https://a.example, https://b.example"`
    #[serde(default)]
    origins: Vec<String>,
}

fn ten() -> f64 {
    10.0
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl Lifecycle for Plugin {
    async fn start() -> Result<(), StartError> {
        let settings = config::read()?;
        SETTINGS.get_or_init(|| settings);
        Ok(())
    }
}

plugind_sdk::export!(Plugin);
# fn main() {}
```
"#
)]

#[cfg(feature = "serde")]
mod typed;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/config",
        world: "wasi:config/imports",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub use bindings::wasi::config::store::{Error, get, get_all};
#[cfg(feature = "serde")]
pub use typed::{ConfigError, parse, read};
