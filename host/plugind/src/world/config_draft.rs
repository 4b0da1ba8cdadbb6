//! `wasi:config` in the version of a draft, which has the functions and the types of the one that the library has.

use crate::{plugin::interfaces::CONFIG_DRAFT, world::host_state::HostState};
use wasmtime::{
    Result, StoreContextMut,
    component::{ComponentType, Linker, Lower},
};

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

/// Adds the interface in this version.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
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
