//! The state of one guest's store.

mod views;

use crate::{
    base::{quantity::Bytes, request_identity::RequestIdentity},
    world::{
        calls::RequestScope,
        client_connection::ClientConnection,
        client_websocket::ClientWebSocket,
        guest_message::GuestMessage,
        heartbeat::{Heartbeat, Watch},
        holdings::{Inspections, holdings},
        memory::{self, Refused},
        open_files::OpenFiles,
        open_sockets::InstanceSockets,
        outgoing,
        passed_requests::{PassedRequest, PassedRequests},
        request_tasks::RequestTasks,
        shared::Shared,
        socket_denials::SocketDenials,
        state_limit::StateLimit,
        wasi_context::WasiContext,
    },
};
use std::sync::Arc;
use wasmtime::{
    AsContextMut, Engine, Store, StoreContextMut, UpdateDeadline,
    component::{GuestTaskId, Resource, ResourceTable, ResourceTableError},
};
use wasmtime_wasi_http::WasiBody;

/// The most bytes that a guest may hand over in one call.
const CALL_MAX: usize = 4 << 20;
/// Size of the runtime's data for a task, a stream or a future of 0.3.
const CONCURRENT: usize = 512;

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

/// Charges the instance with what the host keeps for it, and returns the number of its resources.
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
    pub fn is_near_limit(&self, at_start: usize, resources: usize) -> bool {
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

    /// The sockets that were refused to all instances of the generation.
    pub(super) fn socket_denials(&self) -> &SocketDenials {
        &self.shared.socket_denials
    }

    /// Whether the instance may connect to anything by `wasi:sockets`.
    pub(super) fn may_connect(&self) -> bool {
        self.shared.granted.network.may_connect()
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

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        self.closed.as_mut().unwrap_or(&mut self.table)
    }
}
