//! The data that all instances of one generation share.

use crate::{
    base::{
        budget::Budget,
        figures::PluginFigures,
        name::PluginName,
        quantity::{Bytes, Percent},
    },
    journal::Journal,
    plugin::{core_dumps::CoreDumps, manifest::Manifest},
    runtime::file_threads::FileThreads,
    world::{
        calls::{self, RequestDispatch},
        config,
        granted::Granted,
        identity,
        journal::{self, LogLimits},
        memory,
        movable_clock::MovableClock,
        notify,
        open_files::OpenFiles,
        open_sockets::PluginSockets,
        outgoing, profile, quota,
        socket_denials::SocketDenials,
        subscriptions::SubscriptionFailures,
        wasi_context::WasiSource,
    },
};
use std::{sync::Arc, time::Instant};

/// The most resources (files, streams, headers) that a guest may hold at a time, unless it may have more connections.
const RESOURCES_MAX: usize = 10_000;
/// Limit of resources that a guest may hold for each connection: itself, its task, the objects that this waits for.
const RESOURCES_PER_CONNECTION: usize = 8;

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
    pub(super) outgoing: Arc<outgoing::Shared>,
    /// Their share of the processor; none: as much as there is.
    pub quota: Option<Arc<quota::Shared>>,
    /// The files that they have open.
    pub(super) files: Arc<OpenFiles>,
    /// The sockets that they have open.
    sockets: PluginSockets,
    /// The sockets that were refused to them.
    pub(super) socket_denials: Arc<SocketDenials>,
    /// Where their core dumps are written, if that is wanted.
    pub core_dumps: Option<Arc<CoreDumps>>,
    /// Their clocks, if these can be moved.
    clock: Option<MovableClock>,
    /// The threads on which their calls for files block, if they have files.
    pub file_threads: Option<FileThreads>,
    /// The profile that is being recorded of them.
    pub profile: Arc<profile::Shared>,
    /// The most resources that each of them may hold at a time.
    pub(super) resources_max: usize,
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
        let memory = Arc::new(memory::Shared::new(all, each, near_memory_limit, memory));
        let log = LogLimits { rate, memory: memory.clone() };
        let journal = journal::Shared::new(plugin_name, generation, journal, log, figures.clone());
        let connections = usize::try_from(limits.connections_max).unwrap_or(usize::MAX);
        let grants = &manifest.grants;
        let calls = grants.call.clone();
        let calls = calls::Shared::new(plugin.clone(), calls, dispatch, figures.clone());
        let sockets = PluginSockets::new();
        let outgoing =
            outgoing::Shared::new(grants.outgoing_http.clone(), calls, &sockets, memory.clone());
        let quota = |quota: Percent| Arc::new(quota::Shared::new(quota, Instant::now()));
        Self {
            identity: identity::Shared { plugin: plugin.clone(), generation },
            journal,
            figures,
            notify: notify::Shared::default(),
            subscriptions: SubscriptionFailures::of(&manifest.subscribe),
            memory,
            arguments: manifest.arguments.clone(),
            config: config::Shared::new(&manifest.config),
            granted,
            outgoing: Arc::new(outgoing),
            quota: limits.cpu_quota.map(quota),
            files: Arc::new(OpenFiles::new()),
            sockets,
            socket_denials: Arc::new(SocketDenials::new(plugin.clone())),
            core_dumps: Some(core_dumps).filter(|_| manifest.core_dump),
            clock,
            file_threads,
            profile: Arc::default(),
            resources_max: RESOURCES_MAX.max(connections.saturating_mul(RESOURCES_PER_CONNECTION)),
        }
    }

    pub(super) fn wasi_source(&self) -> WasiSource<'_> {
        WasiSource {
            plugin: &self.identity.plugin,
            arguments: &self.arguments,
            granted: &self.granted,
            journal: &self.journal,
            sockets: &self.sockets,
            socket_denials: &self.socket_denials,
            clock: self.clock.as_ref(),
        }
    }

    /// Looks whether stores that failed some time ago can be used again. To be called within a runtime.
    pub fn try_failed_stores(&self) {
        self.granted.keyvalue.try_failed();
    }

    /// Why they are degraded: something that was granted cannot be used, a subscription is not
    /// established, or one of them says why.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        let subscriptions = || self.subscriptions.failure();
        self.granted.failure().or_else(subscriptions).or_else(|| self.notify.degraded())
    }
}
