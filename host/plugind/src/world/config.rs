//! `wasi:config`: the strings of `[config]` in the manifest.

use std::collections::BTreeMap;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

/// The values that all instances of a generation read.
#[derive(Default)]
pub struct Shared {
    /// For the library, which serves the release candidate.
    library: WasiConfigVariables,
    /// For the draft, which has the same functions.
    values: BTreeMap<String, String>,
}

impl Shared {
    /// The strings of a manifest.
    #[must_use]
    pub fn new(config: &BTreeMap<String, String>) -> Self {
        let library = config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { library, values: config.clone() }
    }

    /// One instance's view of them.
    pub(super) fn guest(&self) -> WasiConfig<'_> {
        WasiConfig::from(&self.library)
    }

    /// The values.
    pub(super) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }
}
