//! What one guest sees of the world: the state of its store, a field an interface.
//!
//! Everything that comes from a guest is data. It is bounded here, where it enters.

pub mod bindings;
pub mod credentials;
pub mod files;
pub mod identity;
pub mod journal;
pub mod memory;
pub mod network;
pub mod notify;
pub mod outgoing;
pub mod output;
pub mod heartbeat;
pub mod quota;
pub mod granted;
pub mod link;

use crate::base::quantity::Bytes;
use bindings::plugind::plugin as interfaces;
use granted::Granted;
use heartbeat::Heartbeat;
use memory::Refused;
use std::sync::Arc;
use wasmtime::{
    Engine, Store, StoreContextMut, UpdateDeadline,
    component::{HasSelf, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2, p3, sockets::WasiSocketsCtxView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// The most resources (files, streams, headers) that a guest may hold at a time.
const RESOURCES_MAX: usize = 10_000;
/// The most bytes that a guest may hand over in one call.
const CALL_MAX: usize = 4 << 20;
/// The most random bytes that a guest may ask for at once.
const RANDOM_MAX: u64 = 1 << 20;

/// What all instances of one generation of a plugin have in common.
pub struct Shared {
    /// Who they are.
    pub identity: Arc<identity::Shared>,
    /// What they say.
    pub journal: Arc<journal::Shared>,
    /// Their status.
    pub notify: Arc<notify::Shared>,
    /// What they may use together.
    pub memory: Arc<memory::Shared>,
    /// `[config]`
    pub config: Arc<WasiConfigVariables>,
    /// `[grants]`
    pub granted: Granted,
    /// Their share of the processor; none: as much as there is.
    pub quota: Option<Arc<quota::Shared>>,
}

/// What the store of one instance holds.
pub struct HostState {
    identity: identity::Guest,
    journal: journal::Guest,
    notify: notify::Guest,
    memory: memory::Guest,
    credentials: credentials::Guest,
    config: Arc<WasiConfigVariables>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: outgoing::Guest,
    network: network::Guest,
    table: ResourceTable,
    pulse: Arc<Heartbeat>,
    /// The turns of the event loop when it was looked at last, and how often they were the same since.
    seen: u64,
    stuck: u32,
}

/// Why a guest was interrupted: it used its processor time without its event loop turning.
#[derive(Debug, thiserror::Error)]
#[error("it used {0} slices of processor time without letting anything else run")]
pub struct Hung(u32);

/// A store for one instance, with its limits.
#[must_use]
pub fn store(
    engine: &Engine,
    shared: &Shared,
    worker: u32,
    pulse: Arc<Heartbeat>,
) -> Store<HostState> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let granted = &shared.granted;
    let network = network::Guest::new(granted.network.clone());
    let mut wasi = WasiCtx::builder();
    network.allow(&mut wasi);
    let mut wasi = wasi
        .stdout(output::GuestOutput::new(&shared.journal, output::Stream::Stdout))
        .stderr(output::GuestOutput::new(&shared.journal, output::Stream::Stderr))
        // WASI says what a guest is called by its first argument.
        .arg(shared.identity.plugin.as_str())
        .envs(&granted.environment)
        .max_random_size(RANDOM_MAX)
        .build();
    granted.files.give_to(&mut wasi);
    let identity = shared.identity.clone();
    let state = HostState {
        notify: notify::Guest {
            shared: shared.notify.clone(),
            identity: identity.clone(),
            worker,
            pulse: pulse.clone(),
        },
        identity: identity::Guest { shared: identity, worker },
        journal: journal::Guest { shared: shared.journal.clone() },
        memory: memory::Guest::new(shared.memory.clone()),
        credentials: credentials::Guest { shared: granted.credentials.clone() },
        config: shared.config.clone(),
        wasi,
        http: WasiHttpCtx::new(),
        outgoing: outgoing::Guest { shared: granted.outgoing.clone() },
        network,
        table,
        pulse,
        seen: 0,
        stuck: 0,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(CALL_MAX);
    store.set_max_component_handles(RESOURCES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        let state = store.data_mut();
        let turns = state.pulse.turns();
        if turns == state.seen {
            state.stuck += 1;
        } else {
            (state.seen, state.stuck) = (turns, 0);
        }
        if state.stuck >= state.pulse.slices_max() {
            return Err(Hung(state.stuck).into());
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Lets a guest hand over so much in one call, for now, if that is more than it may in any.
pub(crate) fn let_hand_over(mut store: StoreContextMut<'_, HostState>, Bytes(most): Bytes) {
    store.set_hostcall_fuel(CALL_MAX.max(usize::try_from(most).unwrap_or(usize::MAX)));
}

impl HostState {
    /// Whose limit kept the instance from getting memory that it asked for: when it then fails, that is why.
    #[must_use]
    pub fn memory_was_refused(&self) -> Option<Refused> {
        self.memory.refused()
    }

    /// How much memory the instance uses, in bytes.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.memory.instance_used()
    }

    /// Whether the instance uses so much of what it may that it should be replaced before it reaches a limit: half of
    /// its resources, of which the runtime itself has `others`, or three quarters of its memory, if it had less
    /// `at_start`.
    #[must_use]
    pub fn is_worn(&mut self, at_start: usize, others: usize) -> bool {
        let resources = self.table.iter_mut().count().saturating_add(others);
        resources >= RESOURCES_MAX / 2 || self.memory.is_worn(at_start)
    }

    fn lookup(&mut self) -> network::LookupView<'_> {
        let sockets = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        network::LookupView { guest: &self.network, sockets }
    }
}

/// A linker with everything that a guest may import. What needs a grant refuses what was not granted.
///
/// # Errors
/// When two interfaces have the same name, which would be a mistake of ours.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    // Where connections are granted, not every name may be looked up: a name is a message, too.
    linker.allow_shadowing(true);
    p2::bindings::sockets::ip_name_lookup::add_to_linker::<_, network::Lookup>(
        &mut linker,
        HostState::lookup,
    )?;
    p3::bindings::sockets::ip_name_lookup::add_to_linker::<_, network::Lookup>(
        &mut linker,
        HostState::lookup,
    )?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        WasiConfig::from(&*state.config)
    })?;
    let linked = &mut linker;
    interfaces::types::add_to_linker::<_, HasSelf<HostState>>(linked, |state| state)?;
    interfaces::identity::add_to_linker::<_, HasSelf<identity::Guest>>(
        linked,
        |state: &mut HostState| &mut state.identity,
    )?;
    interfaces::notify::add_to_linker::<_, HasSelf<notify::Guest>>(
        linked,
        |state: &mut HostState| &mut state.notify,
    )?;
    interfaces::journal::add_to_linker::<_, HasSelf<journal::Guest>>(
        linked,
        |state: &mut HostState| &mut state.journal,
    )?;
    interfaces::credentials::add_to_linker::<_, HasSelf<credentials::Guest>>(
        linked,
        |state: &mut HostState| &mut state.credentials,
    )?;
    Ok(linker)
}

// It has no functions: it is the types that the others speak of.
impl interfaces::types::Host for HostState {}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::imports::{KNOWN, missing},
        runtime::engine,
    };

    #[test]
    fn what_may_be_imported_is_what_the_linker_has() {
        let mut linker = linker(&engine::plain(engine::EngineKind::Native).unwrap()).unwrap();
        let mut has = |name: String| linker.root().func_wrap(&name, |_, (): ()| Ok(())).is_err();
        let patch = |version: &str| match version {
            "0.2" => "0.2.12".to_owned(),
            version if version.contains('-') => version.to_owned(),
            version => format!("{version}.0"),
        };
        for (version, interfaces) in KNOWN {
            for interface in interfaces {
                let name = format!("{interface}@{}", patch(version));
                assert!(has(name.clone()), "the linker does not have {name}");
                assert_eq!(missing(&name), None);
            }
        }
        for name in ["wasi:clocks/timezone@0.2.12", "wasi:clocks/timezone@0.3.0"] {
            assert!(!has(name.to_owned()) && missing(name).is_some(), "{name}");
        }
        let world = include_str!("../../../../wit/world.wit");
        let ours = world.split("world plugin {").nth(1).unwrap().split('}').next().unwrap();
        for import in ours.lines().filter_map(|line| line.trim().strip_prefix("import ")) {
            let name = format!("plugind:plugin/{}@0.1.0", import.trim_end_matches(';'));
            assert_eq!(missing(&name), None, "the world has it");
        }
    }
}
