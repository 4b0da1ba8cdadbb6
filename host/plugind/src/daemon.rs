//! Starts everything in the order of the layers, runs until the daemon must end, and stops it in the opposite order.

use crate::{
    base::{error_chain::ErrorChain, figures::Figures, quantity::Bytes},
    config::{
        SearchPath,
        settings::{self, Protocol, SettingsError},
    },
    control::{self, ControlContext},
    journal::{Journal, messages},
    listen::{
        connection, datagrams,
        health::{self, HealthRoute},
        listeners::{Accepted, Listeners, Server},
        plugin_calls::PluginCalls,
        sockets::{Listen, ListenError, ListenSockets},
        span_exporter::SpanExporter,
        spans::SpanSink,
        streams,
    },
    metrics::{self, snapshot::MetricSources, state_sizes::StateSizes},
    plugin::{compiler::Compiler, core_dumps::CoreDumps},
    pool::{instances::Commons, shares::InstancePool},
    route::{
        sockets::{SocketMistakes, SocketPlan, SocketUse},
        table::{self, TableReader},
    },
    runtime::{cache::Cache, engine, executors::Executors, heap},
    supervisor::{
        self, board,
        handle::SupervisorHandle,
        phase::DaemonPhase,
        prepare::Deps,
        published_plan::PublishedPlan,
        reloads::ReloadNotice,
        summary::{Failed, Summary},
        versions::Versions,
    },
    systemd::{
        certificates::{self, CertificatesError},
        cgroup,
        directories::TraceEnvironment,
        environment::Systemd,
        notify::{Notice, Notifier},
        storage::StorageDirectories,
        store::Store,
        watchdog::Watchdog,
    },
    world::{granted::GrantDirectories, memory::Budget},
};
use futures::FutureExt as _;
use rustix::{io::Errno, process::Signal as ProcessSignal};
use std::{io, path::PathBuf, pin::pin, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tracing::{error, info, warn};

/// Time that plugins have to finish when the daemon stops before it was ready.
const UNREADY_STOP_DEADLINE: Duration = Duration::from_millis(900);
/// Part of that time for connections to finish; plugins have the rest.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// Time that closed connections have to deliver what plugins wrote last.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
/// Time that connections and plugins have to finish when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Time that a stop waits for requests on their way to idle connections: longer than those linger.
const LAST_REQUESTS: Duration = Duration::from_millis(1500);
/// Interval and amount of the extra time asked of systemd while plugins start or are replaced: enough for a
/// daemon that is held up for a moment, too little for one that is gone to go unnoticed.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(30);
/// Shortest interval between two STATUS= messages: while a thousand plugins start it changes as often.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// The events of reloads, for systemd.
type ReloadNotices = mpsc::UnboundedReceiver<ReloadNotice>;

/// Bytes that all plugins may use together. Without a setting it is three quarters of what the daemon may use, so
/// that the rest is left for connections, code and the daemon itself.
fn memory_max(setting: Option<Bytes>) -> usize {
    let by_default = || cgroup::memory_limit().map(|Bytes(limit)| Bytes(limit / 4 * 3));
    let max = setting.or_else(by_default);
    max.map_or(usize::MAX, |Bytes(max)| usize::try_from(max).unwrap_or(usize::MAX))
}

/// The options of the command line and the environment.
#[derive(Debug)]
pub struct DaemonConfig {
    /// Sockets to open.
    pub listen: Vec<Listen>,
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// Where compiled code is kept.
    pub cache: PathBuf,
    /// The directories of what may be granted.
    pub places: GrantDirectories,
    /// The variables of the environment for traces.
    pub traces: TraceEnvironment,
    /// The compiler of components.
    pub compiler: Compiler,
    /// Whether versions that served are kept in the state directory.
    pub keep_versions: bool,
    /// The settings of `plugind.toml`.
    pub own: Result<settings::Settings, SettingsError>,
}

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A signal could not be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// The settings of `plugind.toml` are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A socket cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The thread that stores plugins' states with systemd cannot be started.
    #[error("cannot start a thread")]
    Store(#[source] io::Error),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The engine does not take the host's interfaces.
    #[error("cannot link the host's own interfaces: {0}")]
    Linker(String),
    /// The plugin directories could not be read.
    #[error("{0}")]
    Directories(String),
    /// Required plugins cannot start.
    #[error("{}", reported(.0))]
    Required(Vec<Failed>),
    /// Plugins failed without which the daemon must not continue.
    #[error("{}", reported(.0))]
    Failed(Vec<Failed>),
    /// The supervisor ended unexpectedly.
    #[error(
        "the supervisor of the plugins ended unexpectedly; this is a bug in plugind, please report it"
    )]
    Supervisor {
        /// Whether the daemon was ready.
        was_ready: bool,
    },
    /// Required plugins did not become ready in time.
    #[error("plugins did not become ready in time: {}{}", .awaited.join(", "), and_failures(.failed))]
    Deadline {
        /// Which.
        awaited: Vec<String>,
        /// The plugins that failed, and those that are tried again, each with the cause.
        failed: Vec<Failed>,
    },
}

fn and_failures(failed: &[Failed]) -> String {
    if failed.is_empty() { String::new() } else { format!("; {}", reported(failed)) }
}

fn reported(failed: &[Failed]) -> String {
    let reported: Vec<_> = failed
        .iter()
        .map(|failed| {
            format!("plugin {} failed at {}: {}", failed.plugin, failed.stage, failed.error)
        })
        .collect();
    reported.join("; ")
}

impl DaemonError {
    /// Whether another start can succeed only after something was changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen(error) => error.is_configuration(),
            Self::Settings(_) | Self::Directories(_) | Self::Certificates(_) => true,
            Self::Required(failed) | Self::Deadline { failed, .. } => {
                failed.iter().any(|failed| failed.configuration)
            }
            _ => false,
        }
    }

    /// Whether the daemon was ready before this error.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Supervisor { was_ready: true })
    }

    /// The closest error number of errno(3), which systemd shows.
    fn errno(&self) -> u32 {
        let errno = match self {
            _ if self.is_configuration() => Errno::INVAL,
            Self::Deadline { .. } => Errno::TIMEDOUT,
            _ => Errno::IO,
        };
        errno.raw_os_error().unsigned_abs()
    }
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

/// The event that ended the wait.
enum DaemonEvent {
    Terminate,
    Rescan,
    /// systemd waits for the end of the reload that `ExecReload=` has requested.
    ReloadRequested,
    Changed,
    Lost,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reload: Signal,
    /// Caught, so that a write beyond `LimitFSIZE=` is an error and does not end the daemon.
    _file_size: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: signal(SignalKind::user_defined1())?,
            _file_size: signal(SignalKind::from_raw(ProcessSignal::XFSZ.as_raw()))?,
        })
    }

    async fn event(&mut self, summary: &mut watch::Receiver<Summary>) -> DaemonEvent {
        tokio::select! {
            _ = self.terminate.recv() => DaemonEvent::Terminate,
            _ = self.interrupt.recv() => DaemonEvent::Terminate,
            _ = self.hang_up.recv() => DaemonEvent::Rescan,
            _ = self.reload.recv() => DaemonEvent::ReloadRequested,
            changed = summary.changed() => changed.map_or(DaemonEvent::Lost, |()| DaemonEvent::Changed),
        }
    }
}

/// Runs the daemon until it is asked to stop.
///
/// # Errors
/// When it cannot start, or a required plugin cannot.
pub async fn run(
    settings: DaemonConfig,
    systemd: Systemd,
    journal: Journal,
    executors: Executors,
) -> Result<(), DaemonError> {
    // First of all: systemd takes a service that does not catch SIGHUP for one that cannot reload.
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
}

impl Daemon {
    async fn run(
        mut self,
        settings: DaemonConfig,
        sockets: ListenSockets,
        watchdog: Option<Watchdog>,
        journal: Journal,
        executors: Executors,
    ) -> Result<(), DaemonError> {
        let own = settings.own?;
        let (start_deadline, kind) = (own.start_deadline, own.engine);
        let kinds = sockets.kinds();
        let plan = SocketPlan::new(&kinds, &own.sockets);
        let mut plan = plan.map_err(|mistakes: SocketMistakes| ListenError::from(mistakes))?;
        plan.tls = certificates::load(&own.sockets, settings.places.credentials.as_deref())?;
        let listeners = Arc::new(Listeners::new(sockets, executors.clone()));
        listeners.follow(&plan)?;
        let is_own =
            |name| matches!(plan.protocols.get(name), Some(Protocol::Control | Protocol::Metrics));
        if plan.kinds.keys().all(is_own) {
            warn!(remedy = "--listen http=127.0.0.1:8080", "no socket for plugins");
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
                error!(%error, "cannot use socket");
            }
        });
        tokio::spawn(heap::keep_trimmed());
        tokio::spawn(board::keep_sampling(self.figures.clone()));
        let compiler = settings.compiler;
        let storage = StorageDirectories {
            state: settings.places.state.clone(),
            cache: settings.cache.clone(),
        };
        let state_sizes = StateSizes::new(settings.places.state.clone());
        let (publisher, reader) = table::channel();
        let versions = match settings.keep_versions {
            true => Versions::open(&settings.places.state).unwrap_or_else(|error| {
                let directory = settings.places.state.display();
                warn!(%directory, %error, "versions not kept");
                Versions::none()
            }),
            false => Versions::none(),
        };
        let deps = Deps {
            search_path: settings.search_path,
            engine: engine::start(kind, &own.pool)?,
            cache: Cache::new(settings.cache, kind),
            compiler: compiler.clone(),
            reload_concurrency: own.reload_concurrency,
            commons: Commons {
                executors,
                journal: journal.clone(),
                memory: Arc::new(Budget::new(memory_max(own.memory_max))),
                places: InstancePool::new(own.pool),
                figures: self.figures.clone(),
                dispatch: Arc::new(PluginCalls::new(reader.clone())),
                core_dumps: Arc::new(CoreDumps::new(&settings.places.state)),
            },
            places: settings.places,
            store: self.store.clone(),
            versions: versions.clone(),
            serve_previous: own.serve_previous,
            sockets: kinds,
            plan,
        };
        let (supervisor, mut reloads) = supervisor::start(deps, publisher, watchdog)
            .map_err(|error| DaemonError::Linker(format!("{error:#}")))?;
        let exporter = SpanExporter::configured(own.traces.endpoint, settings.traces);
        let spans = exporter.as_ref().map(|exporter| exporter.sink().clone());
        let sources = MetricSources {
            spans: spans.clone(),
            state_sizes,
            supervisor: supervisor.clone(),
            listeners: Arc::downgrade(&listeners),
            journal: journal.clone(),
        };
        let access_log = journal.clone();
        let context = ControlContext {
            supervisor: supervisor.clone(),
            journal,
            phase: self.phase.subscribe(),
            limits: listeners.limits_reached(),
            metrics: sources.clone(),
            storage,
        };
        listeners.serve(Protocol::Control, control::server(context))?;
        listeners.serve(Protocol::Metrics, metrics::server::server(sources))?;

        match self.become_ready(&supervisor, &mut reloads, start_deadline).await {
            Ok(true) => (),
            unready => {
                if unready.is_ok() {
                    self.phase.send_replace(DaemonPhase::Stopping);
                    self.notifier.notify(Notice::Stopping { status: &self.line(&supervisor) });
                }
                // Plugins that are already ready receive `stop`, and have little time for it.
                let stopped = timeout(UNREADY_STOP_DEADLINE, supervisor.stop()).await;
                compiler.end();
                if stopped.is_err() {
                    warn!("stop timeout exceeded");
                }
                info!("stopped");
                return unready.map(drop);
            }
        }
        let (board, phase) = (supervisor.board().clone(), self.phase.subscribe());
        let leave_for = own.health.as_ref().map(|health| health.stop_delay).unwrap_or_default();
        let health = own.health.map(|setting| Arc::new(HealthRoute::new(setting, board, phase)));
        let server = http_server(reader.clone(), own.http.keep_alive, health, access_log, spans);
        listeners.serve(Protocol::Http, server)?;
        listeners.serve_plugins(streams::server(reader.clone()), datagrams::server(reader))?;
        self.phase.send_replace(DaemonPhase::Running);
        self.notifier.notify(Notice::Ready { status: &self.line(&supervisor) });
        let (plugins, failed) = {
            let summary = supervisor.summary().borrow().clone();
            (summary.ready, summary.failed.len())
        };
        info!(message_id = messages::READY, plugins, failed, "ready");
        let ended = self.keep_running(&supervisor, &mut reloads).await;

        self.phase.send_replace(DaemonPhase::Stopping);
        self.notifier.notify(Notice::Stopping { status: &self.line(&supervisor) });
        info!("stopping");
        let close = async {
            // Load balancers learn of it before the sockets close.
            sleep(leave_for).await;
            // Listeners close first, then the layers behind. A plugin's own time to stop begins when no more requests
            // come, and not when all of them are answered: one that never answers has no more time than that.
            let closed = listeners.close(SocketUse::Plugin);
            let mut drain = pin!(listeners.drain(Protocol::Http, DRAIN_DEADLINE));
            let drained = timeout(LAST_REQUESTS, &mut drain).await.ok();
            let drained = async {
                match drained {
                    Some(drained) => drained,
                    None => drain.await,
                }
            };
            let (drained, ()) = tokio::join!(drained, supervisor.stop());
            if !drained {
                warn!("connections closed after timeout");
            }
            // Their plugins have ended; their last output is in transit.
            closed.drained(CLOSE_DEADLINE).await;
            tokio::join!(self.store.settled(), versions.settled());
        };
        tokio::select! {
            () = close => (),
            () = sleep(STOP_DEADLINE) => warn!("stop timeout exceeded"),
            // A second request stops without waiting.
            _ = self.signals.interrupt.recv() => warn!("stopped without waiting"),
        }
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        compiler.end();
        info!("stopped");
        ended
    }

    /// The status of the daemon in one line.
    fn line(&self, supervisor: &SupervisorHandle) -> String {
        self.phase.borrow().line(&supervisor.summary().borrow())
    }

    /// Waits until every required plugin is ready. False when asked to end meanwhile.
    async fn become_ready(
        &mut self,
        supervisor: &SupervisorHandle,
        reloads: &mut ReloadNotices,
        deadline: Duration,
    ) -> Result<bool, DaemonError> {
        let mut summary = supervisor.summary();
        let deadline = Instant::now() + deadline;
        let mut extend = interval(EXTEND_EVERY);
        let mut status = StatusReport::default();
        status.changed();
        loop {
            if let Some(outcome) = start_outcome(&summary.borrow()) {
                return outcome.map(|()| true);
            }
            tokio::select! {
                event = self.signals.event(&mut summary) => match event {
                    DaemonEvent::Terminate => return Ok(false),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    // systemd learns of its end by READY=1.
                    DaemonEvent::ReloadRequested => (),
                    DaemonEvent::Changed => status.changed(),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor { was_ready: false }),
                },
                // systemd learns of them by READY=1.
                _ = reloads.recv() => (),
                () = status.due() => {
                    let line = DaemonPhase::Starting.line(&summary.borrow());
                    self.report(line, &mut status);
                }
                _ = extend.tick() => {
                    // A little longer than the deadline, so that it is the daemon that says what it waited for.
                    let left = deadline.saturating_duration_since(Instant::now()) + EXTEND_EVERY;
                    self.notifier.notify(Notice::ExtendTimeout(left.min(EXTEND_BY)));
                }
                () = sleep_until(deadline) => {
                    let now = summary.borrow();
                    return Err(DaemonError::Deadline {
                        awaited: now.awaited.iter().map(ToString::to_string).collect(),
                        failed: now.required_failed().chain(&now.retried).cloned().collect(),
                    });
                }
            }
        }
    }

    /// Obeys signals until one of them, or the failure of a plugin, ends the daemon, and reports to
    /// systemd how all plugins are.
    async fn keep_running(
        &mut self,
        supervisor: &SupervisorHandle,
        reloads: &mut ReloadNotices,
    ) -> Result<(), DaemonError> {
        let mut summary = supervisor.summary();
        let mut extend = interval(EXTEND_EVERY);
        let mut status =
            StatusReport { reported: self.line(supervisor), ..StatusReport::default() };
        loop {
            let is_reloading = {
                let now = summary.borrow();
                let fatal: Vec<_> =
                    now.failed.iter().filter(|failed| failed.exit).cloned().collect();
                if !fatal.is_empty() {
                    return Err(DaemonError::Failed(fatal));
                }
                now.reloading
            };
            tokio::select! {
                event = self.signals.event(&mut summary) => match event {
                    DaemonEvent::Terminate => return Ok(()),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    DaemonEvent::ReloadRequested => {
                        self.notifier.notify(Notice::Reloading);
                        // The end of one that is in progress is the end of this one, too.
                        if !is_reloading {
                            let line = self.line(supervisor);
                            self.notifier.notify(Notice::Ready { status: &line });
                            status.reported = line;
                        }
                    }
                    DaemonEvent::Changed => status.changed(),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor { was_ready: true }),
                },
                Some(event) = reloads.recv() => match event {
                    // Each with its moment: systemd waits for one that is later than what it asked for.
                    ReloadNotice::Begun => self.notifier.notify(Notice::Reloading),
                    ReloadNotice::Ended => {
                        let line = self.line(supervisor);
                        self.notifier.notify(Notice::Ready { status: &line });
                        status.reported = line;
                    }
                },
                () = status.due() => {
                    let line = self.line(supervisor);
                    self.report(line, &mut status);
                }
                _ = extend.tick(), if is_reloading => {
                    self.notifier.notify(Notice::ExtendTimeout(EXTEND_BY));
                }
            }
        }
    }

    /// Reports to systemd how the daemon is, unless that was reported last.
    fn report(&self, line: String, status: &mut StatusReport) {
        status.due = None;
        if line != status.reported {
            self.notifier.notify(Notice::Status(&line));
            status.reported = line;
            status.next = Some(Instant::now() + STATUS_EVERY);
        }
    }
}

/// The result of the daemon's start, once it has ended.
fn start_outcome(summary: &Summary) -> Option<Result<(), DaemonError>> {
    if let Some(why) = &summary.unreadable {
        return Some(Err(DaemonError::Directories(why.clone())));
    }
    if !summary.is_settled() {
        return None;
    }
    let failed: Vec<_> = summary.required_failed().cloned().collect();
    Some(if failed.is_empty() { Ok(()) } else { Err(DaemonError::Required(failed)) })
}

/// When STATUS= is sent next: at once after a change, and no more often than somebody can read it.
#[derive(Default)]
struct StatusReport {
    reported: String,
    /// There is something to report, at this moment.
    due: Option<Instant>,
    /// The earliest moment for it.
    next: Option<Instant>,
}

impl StatusReport {
    fn changed(&mut self) {
        let now = Instant::now();
        self.due.get_or_insert(self.next.map_or(now, |next| next.max(now)));
    }

    async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}
