//! The state of one guest's store.

use crate::{
    base::{
        name::PluginName,
        quantity::{Bytes, Percent},
    },
    journal::Journal,
    plugin::manifest::Manifest,
    world::{
        config, credentials,
        granted::Granted,
        heartbeat::{Heartbeat, Watch},
        identity, journal, logging,
        memory::{self, Refused},
        network, notify, outgoing, output, quota,
    },
};
use std::{sync::Arc, time::Instant};
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, sockets::WasiSocketsCtxView};
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

/// The most resources (files, streams, headers) that a guest may hold at a time.
const RESOURCES_MAX: usize = 10_000;
/// The most bytes that a guest may hand over in one call.
const CALL_MAX: usize = 4 << 20;
/// The most random bytes that a guest may ask for at once.
const RANDOM_MAX: u64 = 1 << 20;

/// What all instances of one generation of a plugin have in common. It is made once; a store has one reference to it.
pub struct Shared {
    /// Who they are.
    pub identity: identity::Shared,
    /// What they say.
    pub journal: Arc<journal::Shared>,
    /// Their status.
    pub notify: notify::Shared,
    /// What they may use together.
    pub memory: Arc<memory::Shared>,
    /// `[config]`
    pub config: config::Shared,
    /// `[grants]`
    pub granted: Granted,
    /// Their share of the processor; none: as much as there is.
    pub quota: Option<Arc<quota::Shared>>,
}

impl Shared {
    /// What the instances of this `generation` of `plugin` have in common.
    #[must_use]
    pub fn new(
        plugin: &PluginName,
        generation: u64,
        manifest: &Manifest,
        granted: Granted,
        journal: Journal,
    ) -> Self {
        let limits = &manifest.limits;
        let bytes = |Bytes(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (all, each) = (bytes(limits.memory_max), bytes(limits.instance_memory_max));
        let journal = journal::Shared::new(plugin.clone(), generation, journal, limits.log_rate);
        let quota = |quota: Percent| Arc::new(quota::Shared::new(quota, Instant::now()));
        Self {
            identity: identity::Shared { plugin: plugin.clone(), generation },
            journal: Arc::new(journal),
            notify: notify::Shared::default(),
            memory: Arc::new(memory::Shared::new(all, each)),
            config: config::Shared::new(&manifest.config),
            granted,
            quota: limits.cpu_quota.map(quota),
        }
    }
}

/// What the store of one instance holds: what it has in common with others, and a field for each interface that keeps
/// something for one instance.
pub struct HostState {
    shared: Arc<Shared>,
    worker: u32,
    memory: memory::Guest,
    wasi: WasiCtx,
    http: outgoing::Guest,
    network: network::Guest,
    table: ResourceTable,
    watch: Watch,
}

/// A store for one instance, with its limits.
#[must_use]
pub fn store(
    engine: &Engine,
    shared: &Arc<Shared>,
    worker: u32,
    heartbeat: Arc<Heartbeat>,
) -> Store<HostState> {
    let mut store = Store::new(engine, HostState::new(shared, worker, heartbeat));
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(CALL_MAX);
    store.set_max_component_handles(RESOURCES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        store.data_mut().watch.slice()?;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Lets a guest hand over so much in one call, for now, if that is more than it may in any.
pub fn set_transfer_max(mut store: StoreContextMut<'_, HostState>, Bytes(max): Bytes) {
    store.set_hostcall_fuel(CALL_MAX.max(usize::try_from(max).unwrap_or(usize::MAX)));
}

impl HostState {
    fn new(shared: &Arc<Shared>, worker: u32, heartbeat: Arc<Heartbeat>) -> Self {
        let granted = &shared.granted;
        let network = network::Guest::new(&granted.network);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            worker,
            memory: memory::Guest::new(shared.memory.clone()),
            wasi: wasi(shared, &network),
            http: outgoing::Guest::new(granted.outgoing.clone()),
            network,
            table,
            watch: Watch::new(heartbeat),
            shared: shared.clone(),
        }
    }

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
    pub fn is_near_memory_limit(&mut self, at_start: usize, others: usize) -> bool {
        let resources = self.table.iter_mut().count().saturating_add(others);
        resources >= RESOURCES_MAX / 2 || self.memory.is_near_memory_limit(at_start)
    }

    pub(super) fn config(&mut self) -> WasiConfig<'_> {
        self.shared.config.guest()
    }

    pub(super) fn credentials(&mut self) -> credentials::Guest<'_> {
        credentials::Guest { shared: &self.shared.granted.credentials }
    }

    pub(super) fn identity(&mut self) -> identity::Guest<'_> {
        identity::Guest { shared: &self.shared.identity, worker: self.worker }
    }

    pub(super) fn journal(&mut self) -> journal::Guest<'_> {
        journal::Guest { shared: &self.shared.journal }
    }

    pub(super) fn logging(&mut self) -> logging::Guest<'_> {
        logging::Guest { journal: &self.shared.journal }
    }

    pub(super) fn lookup(&mut self) -> network::LookupView<'_> {
        let sockets = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        network::LookupView { guest: &self.network, sockets }
    }

    pub(super) fn notify(&mut self) -> notify::Guest<'_> {
        notify::Guest {
            shared: &self.shared.notify,
            identity: &self.shared.identity,
            worker: self.worker,
            heartbeat: &self.watch.heartbeat,
        }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

/// The library's part of the state, which cannot be cloned.
fn wasi(shared: &Shared, network: &network::Guest) -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    network.allow(&mut wasi);
    let mut wasi = wasi
        .stdout(output::GuestOutput::new(&shared.journal, output::StandardStream::Stdout))
        .stderr(output::GuestOutput::new(&shared.journal, output::StandardStream::Stderr))
        // WASI says what a guest is called by its first argument.
        .arg(shared.identity.plugin.as_str())
        .envs(&shared.granted.environment)
        .max_random_size(RANDOM_MAX)
        .build();
    shared.granted.files.give_to(&mut wasi);
    wasi
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}
