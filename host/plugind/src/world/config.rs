//! `wasi:config`: the strings of `[config]` in the manifest.

use crate::{plugin::interfaces::CONFIG_DRAFT, world::host_state::HostState};
use std::collections::BTreeMap;
use wasmtime::{
    Result, StoreContextMut,
    component::{ComponentType, Linker, Lower},
};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

/// The values that all instances of a generation read.
#[derive(Default)]
pub struct Shared {
    /// For the library, which serves the release candidate.
    library: WasiConfigVariables,
    /// For the draft, which has the same functions.
    values: BTreeMap<String, String>,
}

/// The error of the draft, which no call returns.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "both are part of the type")]
enum DraftError {
    /// Another program, from which values come.
    #[component(name = "upstream")]
    Upstream(String),
    /// A file.
    #[component(name = "io")]
    Io(String),
}

/// Adds the interface in both versions.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    wasmtime_wasi_config::add_to_linker(to, HostState::config)?;
    let mut draft = to.instance(&format!("wasi:config/store@{CONFIG_DRAFT}"))?;
    draft.func_wrap("get", |store: StoreContextMut<'_, HostState>, (key,): (String,)| {
        let value = store.data().config_values().get(&key).cloned();
        Ok((Ok::<_, DraftError>(value),))
    })?;
    draft.func_wrap("get-all", |store: StoreContextMut<'_, HostState>, (): ()| {
        let all = store.data().config_values().iter();
        let all: Vec<_> = all.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok((Ok::<_, DraftError>(all),))
    })
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
