//! `wasi:config`: the strings of `[config]` in the manifest.

use std::collections::BTreeMap;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

/// The values that all instances of a generation read.
#[derive(Default)]
pub struct Shared(WasiConfigVariables);

impl Shared {
    /// The strings of a manifest.
    #[must_use]
    pub fn new(config: &BTreeMap<String, String>) -> Self {
        Self(config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// One instance's view of them.
    pub(super) fn guest(&self) -> WasiConfig<'_> {
        WasiConfig::from(&self.0)
    }
}
