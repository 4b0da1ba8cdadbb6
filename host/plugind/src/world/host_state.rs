//! The state of one guest's store.

use crate::{
    base::{
        figures::PluginFigures,
        name::PluginName,
        quantity::{Bytes, Percent},
        request_identity::RequestIdentity,
    },
    journal::Journal,
    plugin::{core_dumps::CoreDumps, manifest::Manifest},
    runtime::file_threads::FileThreads,
    world::{
        calls::{self, RequestDispatch, RequestScope},
        client_connection::ClientConnection,
        client_websocket::ClientWebSocket,
        config, connections, credentials,
        granted::Granted,
        guest_message::GuestMessage,
        heartbeat::{Heartbeat, Watch},
        holdings::{Inspections, holdings},
        identity, journal, keyvalue, logging,
        memory::{self, Budget, Refused},
        messaging,
        movable_clock::MovableClock,
        network, notify,
        open_files::OpenFiles,
        open_sockets::{InstanceSockets, PluginSockets},
        outgoing,
        passed_requests::{PassedRequest, PassedRequests},
        profile, quota,
        request_tasks::RequestTasks,
        state_limit::StateLimit,
        subscriptions::SubscriptionFailures,
        wasi_context::{WasiContext, WasiSource},
        websockets,
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use wasmtime::{
    AsContextMut, Engine, Store, StoreContextMut, UpdateDeadline,
    component::{GuestTaskId, Resource, ResourceTable, ResourceTableError},
};
use wasmtime_wasi::{WasiCtxView, WasiView, sockets::WasiSocketsCtxView};
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::{WasiBody, WasiHttpCtxView, WasiHttpView};

/// The most resources (files, streams, headers) that a guest may hold at a time, unless it may have more connections.
const RESOURCES_MAX: usize = 10_000;
/// Limit of resources that a guest may hold for each connection: itself, its task, the objects that this waits for.
const RESOURCES_PER_CONNECTION: usize = 8;
/// The most bytes that a guest may hand over in one call.
const CALL_MAX: usize = 4 << 20;
/// Bytes by which the messages of a guest may grow before the table is looked through.
const MESSAGES_GROWTH: usize = 1 << 20;
/// Size of the runtime's data for a task, a stream or a future of 0.3.
const CONCURRENT: usize = 512;

/// The data that all instances of one generation of a plugin share. It is made once; a store has one reference to it.
pub struct Shared {
    /// Their identity.
    pub identity: identity::Shared,
    /// Their way to the journal.
    pub journal: Arc<journal::Shared>,
    /// Their figures.
    pub figures: Arc<PluginFigures>,
    /// Their status.
    pub notify: notify::Shared,
    /// Their subscriptions.
    pub subscriptions: SubscriptionFailures,
    /// The memory that they share.
    pub memory: Arc<memory::Shared>,
    /// `arguments`
    pub arguments: Vec<String>,
    /// `[config]`
    pub config: config::Shared,
    /// `[grants]`
    pub granted: Granted,
    /// To whom they may send requests.
    outgoing: Arc<outgoing::Shared>,
    /// Their share of the processor; none: as much as there is.
    pub quota: Option<Arc<quota::Shared>>,
    /// The files that they have open.
    files: Arc<OpenFiles>,
    /// The sockets that they have open.
    sockets: PluginSockets,
    /// Where their core dumps are written, if that is wanted.
    pub core_dumps: Option<Arc<CoreDumps>>,
    /// Their clocks, if these can be moved.
    clock: Option<MovableClock>,
    /// The threads on which their calls for files block, if they have files.
    pub file_threads: Option<FileThreads>,
    /// The profile that is being recorded of them.
    pub profile: Arc<profile::Shared>,
    /// The most resources that each of them may hold at a time.
    resources_max: usize,
}

/// The parts of the daemon that a plugin's instances use.
pub struct HostServices {
    /// Where their entries go.
    pub journal: Journal,
    /// The memory of all plugins.
    pub memory: Arc<Budget>,
    /// Where they are counted.
    pub figures: Arc<PluginFigures>,
    /// Brings their requests to other plugins.
    pub dispatch: Arc<dyn RequestDispatch>,
    /// Where their core dumps are written.
    pub core_dumps: Arc<CoreDumps>,
    /// Their clocks, if these can be moved.
    pub clock: Option<MovableClock>,
    /// The threads on which their calls for files block, if they have files.
    pub file_threads: Option<FileThreads>,
}

impl Shared {
    /// Makes the data that the instances of this `generation` of `plugin` share.
    #[must_use]
    pub fn new(
        plugin: &PluginName,
        generation: u64,
        manifest: &Manifest,
        granted: Granted,
        services: HostServices,
    ) -> Self {
        let HostServices { journal, memory, figures, dispatch, core_dumps, clock, file_threads } =
            services;
        let limits = &manifest.limits;
        let bytes = |Bytes(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (all, each) = (bytes(limits.memory_max), bytes(limits.instance_memory_max));
        let near_memory_limit = manifest.instances.recycle_memory.map_or(each / 4 * 3, bytes);
        let (plugin_name, rate) = (plugin.clone(), limits.log_rate);
        let journal = journal::Shared::new(plugin_name, generation, journal, rate, figures.clone());
        let connections = usize::try_from(limits.connections_max).unwrap_or(usize::MAX);
        let grants = &manifest.grants;
        let calls = grants.call.clone();
        let calls = calls::Shared::new(plugin.clone(), calls, dispatch, figures.clone());
        let sockets = PluginSockets::new();
        let outgoing = outgoing::Shared::new(grants.outgoing_http.clone(), calls, &sockets);
        let quota = |quota: Percent| Arc::new(quota::Shared::new(quota, Instant::now()));
        Self {
            identity: identity::Shared { plugin: plugin.clone(), generation },
            journal,
            figures,
            notify: notify::Shared::default(),
            subscriptions: SubscriptionFailures::of(&manifest.subscribe),
            memory: Arc::new(memory::Shared::new(all, each, near_memory_limit, memory)),
            arguments: manifest.arguments.clone(),
            config: config::Shared::new(&manifest.config),
            granted,
            outgoing: Arc::new(outgoing),
            quota: limits.cpu_quota.map(quota),
            files: Arc::new(OpenFiles::new()),
            sockets,
            core_dumps: Some(core_dumps).filter(|_| manifest.core_dump),
            clock,
            file_threads,
            profile: Arc::default(),
            resources_max: RESOURCES_MAX.max(connections.saturating_mul(RESOURCES_PER_CONNECTION)),
        }
    }

    fn wasi_source(&self) -> WasiSource<'_> {
        WasiSource {
            plugin: &self.identity.plugin,
            arguments: &self.arguments,
            granted: &self.granted,
            journal: &self.journal,
            sockets: &self.sockets,
            clock: self.clock.as_ref(),
        }
    }

    /// Why they are degraded: something that was granted cannot be used, or one of them says why.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        let subscriptions = || self.subscriptions.failure();
        self.granted.failure().or_else(subscriptions).or_else(|| self.notify.degraded())
    }
}

/// The data of one instance's store: the part that it shares with others, and a field for each interface that keeps
/// something for one instance.
pub struct HostState {
    shared: Arc<Shared>,
    worker: u32,
    memory: memory::Guest,
    wasi: WasiContext,
    http: outgoing::Guest,
    /// The request that the instance serves, if it serves no other call.
    request: Option<RequestIdentity>,
    tasks: RequestTasks,
    passed: PassedRequests,
    table: ResourceTable,
    inspections: Inspections,
    /// Bytes by which messages have grown since the table was looked through.
    messages_grown: usize,
    /// Tasks, streams and futures of 0.3, when they were counted last.
    concurrent: usize,
    /// The table of an instance for which the host keeps more than it may: each of its calls fails, and it with them.
    closed: Option<ResourceTable>,
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
    store.set_max_component_handles(shared.resources_max);
    if let Some(table) = store.concurrent_resource_table() {
        // A resource takes few entries of this table.
        table.set_max_capacity(shared.resources_max.saturating_mul(4));
    }
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        examine(store.as_context_mut());
        store.data().shared.profile.sample(&store);
        store.data_mut().watch.slice()?;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Raises the limit of bytes that a guest may hand over in one call, for now.
pub fn set_transfer_max(mut store: StoreContextMut<'_, HostState>, Bytes(max): Bytes) {
    store.set_hostcall_fuel(CALL_MAX.max(usize::try_from(max).unwrap_or(usize::MAX)));
}

/// Charges the instance with what the host keeps for it, and returns how many resources that are.
pub fn examine(mut store: StoreContextMut<'_, HostState>) -> usize {
    let concurrent = store.concurrent_resource_table().map_or(0, |table| table.iter_mut().count());
    let state = store.data_mut();
    state.concurrent = concurrent;
    state.charge_holdings().saturating_add(concurrent)
}

impl HostState {
    fn new(shared: &Arc<Shared>, worker: u32, heartbeat: Arc<Heartbeat>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(shared.resources_max);
        Self {
            worker,
            memory: memory::Guest::new(shared.memory.clone()),
            wasi: WasiContext::default(),
            http: outgoing::Guest::new(shared.outgoing.clone()),
            request: None,
            tasks: RequestTasks::default(),
            passed: PassedRequests::default(),
            table,
            inspections: Inspections::new(),
            messages_grown: 0,
            concurrent: 0,
            closed: None,
            watch: Watch::new(heartbeat),
            shared: shared.clone(),
        }
    }

    /// A request comes to the instance, and is served as long as the scope is kept. None if it can call nothing.
    pub fn enter_request(
        &mut self,
        request: &http::Request<WasiBody>,
    ) -> Option<Arc<RequestScope>> {
        self.http.enter(request)
    }

    /// Returns the limit that refused memory to the instance: if it fails then, that is the cause.
    #[must_use]
    pub fn memory_was_refused(&self) -> Option<Refused> {
        self.memory.refused()
    }

    /// Returns the memory that the instance uses, in bytes.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.memory.instance_used()
    }

    /// The request that the instance serves, if it serves no other call.
    #[must_use]
    pub fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    /// From now on, the instance serves this request and no other call; or it is not known for which call it works.
    pub fn set_request(&mut self, request: Option<RequestIdentity>) {
        if self.request != request {
            self.request = request;
            self.wasi.set_request(request);
            self.http.set_request(request);
        }
    }

    /// A task begins to handle a request, beside others.
    pub fn begin_task(&mut self, task: GuestTaskId, request: RequestIdentity) {
        self.tasks.begin(task, request);
    }

    /// A task begins to handle a request that it may pass on.
    pub fn begin_passing(&mut self, task: GuestTaskId, request: PassedRequest) {
        self.passed.begin(task, request);
    }

    /// The task has answered its request.
    pub fn end_task(&mut self, task: GuestTaskId) {
        self.tasks.end(task);
        self.passed.end(task);
    }

    pub(super) fn passed_requests(&self) -> &PassedRequests {
        &self.passed
    }

    /// From now on, a request that is sent is this one, passed on; or one of the guest's own.
    pub(super) fn set_passed(&mut self, passed: Option<PassedRequest>) {
        self.http.set_passed(passed);
    }

    /// Whether the host keeps more for the instance than it may use. All that it calls fails then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether the instance uses so much of what it may that it should be replaced before it reaches a limit: half of
    /// its `resources`, or as much memory as it is replaced at, if it had less `at_start`.
    #[must_use]
    pub fn is_near_memory_limit(&self, at_start: usize, resources: usize) -> bool {
        resources >= self.shared.resources_max / 2 || self.memory.is_near_memory_limit(at_start)
    }

    /// Gives the guest a connection.
    ///
    /// # Errors
    /// When it has as many resources as it may.
    pub fn give_connection(
        &mut self,
        connection: ClientConnection,
    ) -> Result<Resource<ClientConnection>, ResourceTableError> {
        self.table.push(connection)
    }

    pub(super) fn connections(&mut self) -> connections::Guest<'_> {
        connections::Guest { table: &mut self.table }
    }

    /// Gives the guest a WebSocket.
    ///
    /// # Errors
    /// When it has as many resources as it may.
    pub fn give_websocket(
        &mut self,
        websocket: ClientWebSocket,
    ) -> Result<Resource<ClientWebSocket>, ResourceTableError> {
        self.table.push(websocket)
    }

    /// Gives the guest a message.
    ///
    /// # Errors
    /// When it has as many resources as it may.
    pub fn give_message(
        &mut self,
        message: GuestMessage,
    ) -> Result<Resource<GuestMessage>, ResourceTableError> {
        self.table.push(message)
    }

    /// The limit of the plugin's state, if it has one.
    pub(super) fn state_limit(&self) -> Option<&StateLimit> {
        self.shared.granted.files.state_limit()
    }

    /// The files that all instances of the generation have open.
    pub(super) fn open_files(&self) -> Arc<OpenFiles> {
        self.shared.files.clone()
    }

    /// The sockets that the instance has open by `wasi:sockets`.
    pub(super) fn open_sockets(&mut self) -> &mut InstanceSockets {
        &mut self.wasi.get(&self.shared.wasi_source()).sockets
    }

    pub(super) fn websockets(&mut self) -> websockets::Guest<'_> {
        websockets::Guest { table: &mut self.table }
    }

    /// Charges the instance with what the host keeps for it, and returns how many resources are in its table.
    fn charge_holdings(&mut self) -> usize {
        let (count, bytes) = holdings(&mut self.table);
        self.inspections.done(count);
        let bytes = bytes.saturating_add(self.concurrent.saturating_mul(CONCURRENT));
        if self.closed.is_none() && !self.memory.hold(bytes) {
            let mut closed = ResourceTable::new();
            closed.set_max_capacity(0);
            self.closed = Some(closed);
        }
        count
    }

    /// The values of `wasi:config`.
    pub(super) fn config_values(&self) -> &BTreeMap<String, String> {
        self.shared.config.values()
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
        journal::Guest { shared: &self.shared.journal, request: self.request, tasks: &self.tasks }
    }

    pub(super) fn keyvalue(&mut self) -> keyvalue::Guest<'_> {
        keyvalue::Guest {
            shared: &self.shared.granted.keyvalue,
            figures: &self.shared.figures,
            table: self.closed.as_mut().unwrap_or(&mut self.table),
        }
    }

    pub(super) fn logging(&mut self) -> logging::Guest<'_> {
        logging::Guest(self.journal())
    }

    pub(super) fn lookup(&mut self) -> network::LookupView<'_> {
        let made = self.wasi.get(&self.shared.wasi_source());
        let sockets = WasiSocketsCtxView { ctx: made.wasi.sockets(), table: &mut self.table };
        network::LookupView { guest: &made.network, sockets }
    }

    pub(super) fn messaging(&mut self) -> messaging::Guest<'_> {
        if self.messages_grown > MESSAGES_GROWTH || self.inspections.is_due() {
            self.messages_grown = 0;
            self.charge_holdings();
        }
        messaging::Guest {
            shared: &self.shared.granted.messaging,
            figures: &self.shared.figures,
            table: self.closed.as_mut().unwrap_or(&mut self.table),
            grown: &mut self.messages_grown,
        }
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
        self.closed.as_mut().unwrap_or(&mut self.table)
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let table = self.closed.as_mut().unwrap_or(&mut self.table);
        WasiCtxView { ctx: &mut self.wasi.get(&self.shared.wasi_source()).wasi, table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if self.inspections.is_due() {
            self.charge_holdings();
        }
        self.http.view(self.closed.as_mut().unwrap_or(&mut self.table))
    }
}
