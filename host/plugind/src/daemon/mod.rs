//! Starts everything in the order of the layers, runs until the daemon must end, and stops it in the opposite order.

mod error;
mod idle_exit;
mod memory_pressure;
mod running;
mod signals;
mod starting;
mod status;
mod stopping;

pub use error::DaemonError;

use crate::{
    base::{budget::Budget, error_chain::ErrorChain, figures::Figures, quantity::Bytes},
    config::{
        SearchPath,
        settings::{self, NatsUrl, Protocol, ServerSetting, SettingsError},
    },
    control::{self, ControlContext, StateMeasurements},
    daemon::{
        idle_exit::{Ending, IdleExit},
        signals::Signals,
    },
    journal::{Journal, messages},
    listen::{
        connection, datagrams,
        draining::Draining,
        health::{self, HealthRoute},
        listeners::Listeners,
        plugin_calls::PluginCalls,
        socket_service::{Accepted, Server},
        sockets::{Listen, ListenError, ListenSockets},
        span_exporter::SpanExporter,
        spans::SpanSink,
        streams,
        subscriptions::Subscriptions,
        work_sources::WorkSources,
    },
    metrics::{self, snapshot::MetricSources, state_sizes::StateSizes},
    plugin::{compiler::Compiler, core_dumps::CoreDumps},
    pool::{commons::Commons, shares::InstancePool},
    remote::{error::RemoteError, nats::NatsConnection},
    route::{
        sockets::{SocketMistakes, SocketPlan},
        table::{self, TableReader},
    },
    runtime::{cache::Cache, executors::Executors, file_threads::AllFileThreads, heap},
    supervisor::{
        self, board, follow_degraded::follow_degraded, phase::DaemonPhase, prepare::Deps,
        published_plan::PublishedPlan, reloads::ReloadNotice, versions::Versions,
    },
    systemd::{
        certificates, cgroup,
        directories::TraceEnvironment,
        environment::{PressureVariables, Systemd},
        notify::{Notice, Notifier},
        storage::StorageDirectories,
        store::Store,
        watchdog::Watchdog,
    },
    world::{
        broker::Broker, buckets::StoreBackend, granted::GrantDirectories,
        host_runtime::PendingHostRuntime, movable_clock::MovableClock,
    },
};
use futures::FutureExt as _;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// Time within which operators and scrapers can read their answers when an idle daemon ends.
const CONTROL_DEADLINE: Duration = Duration::from_secs(3);

/// The events of reloads, for systemd.
type ReloadNotices = mpsc::UnboundedReceiver<ReloadNotice>;

/// Bytes that all plugins may use together. Without a setting it is three quarters of what the daemon may use, so
/// that the rest is left for connections, code and the daemon itself.
fn memory_max(setting: Option<Bytes>) -> usize {
    let by_default = || cgroup::memory_limit().map(|Bytes(limit)| Bytes(limit / 4 * 3));
    let max = setting.or_else(by_default);
    max.map_or(usize::MAX, |Bytes(max)| usize::try_from(max).unwrap_or(usize::MAX))
}

/// Time that subscriptions have to be established before the daemon is ready.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(2);

/// The options of the command line and the environment.
#[derive(Debug)]
pub struct DaemonConfig {
    /// Sockets to open.
    pub listen: Vec<Listen>,
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// Where compiled code is kept.
    pub cache: PathBuf,
    /// Where the compiled files of a service can be read.
    pub service_cache: Option<PathBuf>,
    /// The directories of what may be granted.
    pub places: GrantDirectories,
    /// The variables of the environment for traces.
    pub traces: TraceEnvironment,
    /// The compiler of components.
    pub compiler: Compiler,
    /// The clocks of the plugins, if these can be moved.
    pub clock: Option<MovableClock>,
    /// Whether versions that served are kept in the state directory.
    pub keep_versions: bool,
    /// The settings of `plugind.toml`.
    pub own: Result<settings::Settings, SettingsError>,
    /// The runtime of the plugins, if it is being made already.
    pub host: Option<PendingHostRuntime>,
}

/// Serves the connections of sockets that speak HTTP.
fn http_server(
    reader: TableReader,
    keep_alive: Duration,
    health: Option<Arc<HealthRoute>>,
    journal: Journal,
    spans: Option<SpanSink>,
) -> Server {
    let limits = connection::limits(keep_alive);
    Arc::new(move |accepted: Accepted| {
        let (reader, health) = (reader.clone(), health.clone());
        connection::serve(accepted, reader, health, limits, journal.clone(), spans.clone()).boxed()
    })
}

/// The NATS server, if `[messaging]` names one.
fn broker(
    setting: Option<&ServerSetting<NatsUrl>>,
    credentials: Option<&Path>,
    executors: &Executors,
) -> Result<Broker, RemoteError> {
    let Some(setting) = setting else { return Ok(Broker::default()) };
    let runtime = executors.background();
    NatsConnection::start("messaging", setting, credentials, "plugind", runtime).map(Broker::new)
}

/// Runs the daemon until it is asked to stop, or has been idle for long enough.
///
/// # Errors
/// When it cannot start, a required plugin cannot, or a plugin has failed without which it must not continue.
pub async fn run(
    settings: DaemonConfig,
    systemd: Systemd,
    journal: Journal,
    executors: Executors,
) -> Result<(), DaemonError> {
    // First of all: systemd refuses to reload a service that does not catch its `ReloadSignal=`.
    let signals = Signals::catch().map_err(DaemonError::Signals)?;
    let (socket, directory) = (systemd.notify_socket.clone(), settings.places.state.clone());
    let store = Store::start(socket, directory, systemd.stored).map_err(DaemonError::Store)?;
    let notifier = Notifier::connect(systemd.notify_socket);
    let sockets = systemd.sockets.map_err(ListenError::from);
    let sockets = sockets.and_then(|passed| ListenSockets::collect(passed, &settings.listen));
    let figures = Figures::new(executors.cores());
    let ended = match sockets {
        Ok(sockets) => {
            let watchdog = systemd.watchdog.map(|time| {
                Watchdog::new(notifier.clone(), time, executors.all(), figures.clone())
            });
            let daemon = Daemon {
                signals,
                store,
                notifier: notifier.clone(),
                phase: watch::Sender::new(DaemonPhase::Starting),
                figures,
                pressure: systemd.pressure,
            };
            daemon.run(settings, sockets, watchdog, journal, executors).await
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &ended {
        let status = ErrorChain(error).to_string();
        notifier.notify(Notice::Failed { status: &status, errno: error.errno() });
    }
    notifier.flush().await;
    ended
}

struct Daemon {
    signals: Signals,
    store: Store,
    notifier: Notifier,
    phase: watch::Sender<DaemonPhase>,
    figures: Figures,
    pressure: PressureVariables,
}

impl Daemon {
    async fn run(
        mut self,
        mut settings: DaemonConfig,
        sockets: ListenSockets,
        watchdog: Option<Watchdog>,
        journal: Journal,
        executors: Executors,
    ) -> Result<(), DaemonError> {
        let own = settings.own?;
        let (start_deadline, kind) = (own.start_deadline, own.engine);
        let host = match settings.host {
            Some(host) => host,
            None => PendingHostRuntime::start(kind, own.pool, settings.clock.clone())
                .map_err(Arc::new)?,
        };
        let (kinds, passed) = (sockets.kinds(), sockets.passed().clone());
        let plan = SocketPlan::new(&kinds, &own.sockets);
        let mut plan = plan.map_err(|mistakes: SocketMistakes| ListenError::from(mistakes))?;
        plan.tls = certificates::load(&own.sockets, settings.places.credentials.as_deref())?;
        let credentials = settings.places.credentials.as_deref();
        let stores = StoreBackend::start(&own.keyvalue, credentials, executors.background())?;
        settings.places.stores = Arc::new(stores);
        let messaging = own.messaging.as_ref();
        settings.places.broker = broker(messaging, credentials, &executors)?;
        let listeners = Arc::new(Listeners::new(sockets, executors.clone()));
        listeners.follow(&plan)?;
        let is_own =
            |name| matches!(plan.protocols.get(name), Some(Protocol::Control | Protocol::Metrics));
        let exit_on_idle = idle_exit::usable(own.exit_on_idle, !passed.iter().all(is_own));
        if plan.kinds.keys().all(is_own) {
            let remedy = if passed.is_empty() {
                "--listen http=127.0.0.1:8080"
            } else {
                "`systemctl status plugind-http.socket` says why it was not passed"
            };
            warn!(remedy, "no socket for plugins");
        }
        let unreachable = own.health.as_ref().and_then(|it| health::why_unreachable(it, &plan));
        if let Some(error) = unreachable {
            warn!(%error, "no socket for health checks");
        }
        let followers = Arc::downgrade(&listeners);
        let plan = PublishedPlan::new(plan, move |plan| {
            if let Some(listeners) = followers.upgrade()
                && let Err(error) = listeners.follow(plan)
            {
                error!(error = %ErrorChain(&error), "cannot use socket");
            }
        });
        tokio::spawn(heap::keep_trimmed());
        tokio::spawn(board::keep_sampling(self.figures.clone()));
        let compiler = settings.compiler;
        let storage = StorageDirectories {
            state: settings.places.state.clone(),
            cache: settings.cache.clone(),
        };
        let state_sizes =
            StateSizes::new(settings.places.state.clone(), own.keyvalue.server().is_none());
        let (publisher, reader) = table::channel();
        let changes = publisher.changes();
        let connection = settings.places.broker.connection().cloned();
        let message_executors = executors.clone();
        let stores = settings.places.stores.clone();
        let versions = match settings.keep_versions {
            true => Versions::open(&settings.places.state).unwrap_or_else(|error| {
                let directory = settings.places.state.display();
                warn!(%directory, %error, "versions not kept");
                Versions::none()
            }),
            false => Versions::none(),
        };
        let cache = match compiler.program() {
            Some(_) => Cache::new(settings.cache, kind),
            None => Cache::of_service(settings.service_cache, kind),
        };
        let deps = Deps {
            search_path: settings.search_path,
            host: host.clone(),
            cache,
            compiler: compiler.clone(),
            reload_concurrency: own.reload_concurrency,
            component_limits: own.pool.component,
            commons: Commons {
                executors,
                journal: journal.clone(),
                memory: Arc::new(Budget::new(memory_max(own.memory_max))),
                places: InstancePool::new(own.pool),
                figures: self.figures.clone(),
                dispatch: Arc::new(PluginCalls::new(reader.clone())),
                core_dumps: Arc::new(CoreDumps::new(&settings.places.state)),
                clock: settings.clock.clone(),
                file_threads: AllFileThreads::default(),
            },
            places: settings.places,
            store: self.store.clone(),
            versions: versions.clone(),
            serve_previous: own.serve_previous,
            sockets: kinds,
            plan,
        };
        let (supervisor, mut reloads) = supervisor::start(deps, publisher, watchdog);
        tokio::spawn(follow_degraded(supervisor.board().clone(), stores));
        let (pressure, figures) = (std::mem::take(&mut self.pressure), self.figures.clone());
        tokio::spawn(memory_pressure::react_to_pressure(
            pressure,
            supervisor.board().clone(),
            figures,
        ));
        let exporter = SpanExporter::configured(own.traces.endpoint, settings.traces);
        let spans = exporter.as_ref().map(|exporter| exporter.sink().clone());
        let sources = MetricSources {
            spans: spans.clone(),
            state_sizes,
            host: host.clone(),
            supervisor: supervisor.clone(),
            listeners: Arc::downgrade(&listeners),
            journal: journal.clone(),
        };
        let access_log = journal.clone();
        let stop_delay = own.health.as_ref().map(|health| health.stop_delay).unwrap_or_default();
        let context = ControlContext {
            supervisor: supervisor.clone(),
            journal,
            phase: self.phase.subscribe(),
            draining: Draining::new(self.phase.clone(), &listeners, stop_delay),
            limits: listeners.limits_reached(),
            metrics: sources.clone(),
            storage,
            key_value_server: own.keyvalue.server(),
            measurements: StateMeasurements::default(),
            clock: settings.clock,
        };
        listeners.serve(Protocol::Control, control::server(context))?;
        listeners.serve(Protocol::Metrics, metrics::server::server(sources))?;

        host.ready().await?;
        match self.become_ready(&supervisor, &mut reloads, start_deadline).await {
            Ok(true) => (),
            unready => {
                self.stop_unready(&supervisor, &compiler, unready.is_ok()).await;
                return unready.map(drop);
            }
        }
        let (board, phase) = (supervisor.board().clone(), self.phase.subscribe());
        let health = own.health.map(|setting| Arc::new(HealthRoute::new(setting, board, phase)));
        let server = http_server(reader.clone(), own.http.keep_alive, health, access_log, spans);
        listeners.serve(Protocol::Http, server)?;
        listeners
            .serve_plugins(streams::server(reader.clone()), datagrams::server(reader.clone()))?;
        let subscriptions = Subscriptions::start(reader, changes, connection, message_executors);
        subscriptions.established(SUBSCRIBE_WITHIN).await;
        self.phase.send_replace(DaemonPhase::Running);
        let reported = self.line(&supervisor);
        self.notifier.notify(Notice::Ready { status: &reported });
        self.store.remove_files();
        let (plugins, failed, retried) = {
            let summary = supervisor.summary().borrow().clone();
            (summary.ready, summary.failed.len(), summary.retried.len())
        };
        info!(message_id = messages::READY, plugins, failed, retried, "ready");
        let idle = IdleExit::new(exit_on_idle, supervisor.clone(), listeners.clone());
        let ended = self.keep_running(&supervisor, &mut reloads, idle, reported).await;
        let is_idle = matches!(ended, Ok(Ending::Idle));
        if is_idle {
            info!(message_id = messages::EXITING_ON_IDLE, "exiting on idle");
            self.store.keep_in_files();
        }
        // No load balancer has to learn that an idle daemon ends, since its sockets start it again.
        let stop_delay = if is_idle { Duration::ZERO } else { stop_delay };
        let sources = WorkSources { listeners: &listeners, subscriptions: &subscriptions };
        self.stop(&supervisor, sources, &versions, stop_delay).await;
        if is_idle {
            // Clients that come from now on wait for the next daemon.
            let drain = |protocol| listeners.drain(protocol, CONTROL_DEADLINE);
            tokio::join!(drain(Protocol::Control), drain(Protocol::Metrics));
        }
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        compiler.end();
        info!("stopped");
        ended.map(drop)
    }
}
