//! Starts everything in the order of the layers, runs until the daemon must end, and stops it in the opposite order.

use crate::{
    base::error_chain::ErrorChain,
    config::{
        SearchPath,
        settings::{self, Protocol, SettingsError},
    },
    control::{self, ControlContext},
    journal::{Journal, messages},
    listen::{
        connection,
        http::HttpEndpoint,
        listeners::{Accepted, Listeners, Server},
        sockets::{Listen, ListenError, ListenSockets},
    },
    plugin::compiler::Compiler,
    route::{
        sockets::{SocketMistakes, SocketPlan},
        table::{self, TableReader},
    },
    runtime::{cache::Cache, engine, executors::Executors},
    supervisor::{
        self,
        handle::SupervisorHandle,
        phase::DaemonPhase,
        prepare::Deps,
        summary::{Failed, Summary},
    },
    systemd::{
        environment::Systemd,
        notify::{Notice, Notifier},
        store::Store,
        watchdog::Watchdog,
    },
    world::granted::GrantDirectories,
};
use futures::FutureExt as _;
use rustix::io::Errno;
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};
use tracing::{info, warn};

/// How long plugins may take to finish when the daemon stops before it was ready.
const UNREADY_STOP_DEADLINE: Duration = Duration::from_millis(900);
/// How long of that connections may take to finish, so that plugins have the rest.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// How long connections and plugins may take to finish when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often systemd is asked for more time while plugins start or are replaced, and for how much: enough for a
/// daemon that is held up for a moment, too little for one that is gone to go unnoticed.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(30);

/// What the daemon is told when it is started.
#[derive(Debug)]
pub struct DaemonConfig {
    /// Sockets to open.
    pub listen: Vec<Listen>,
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// Where compiled code is kept.
    pub cache: PathBuf,
    /// Where is what plugins may be granted.
    pub places: GrantDirectories,
    /// What compiles components.
    pub compiler: Compiler,
    /// What `plugind.toml` says.
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
    /// The thread cannot be started that leaves with systemd what plugins keep.
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
    /// Plugins failed that the daemon is not to go on without.
    #[error("{}", reported(.0))]
    Failed(Vec<Failed>),
    /// The supervisor ended, and with it everything that keeps plugins.
    #[error(
        "the supervisor of the plugins ended, which is a mistake of plugind's own; please report it"
    )]
    Supervisor,
    /// Required plugins did not become ready in time.
    #[error("plugins did not become ready in time: {}{}", .awaited.join(", "), and_failures(.failed))]
    Deadline {
        /// Which.
        awaited: Vec<String>,
        /// Those that failed, and why those that were tried again and again did.
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
    /// Whether something has to be changed before another start can do better.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen(error) => error.is_configuration(),
            Self::Settings(_) | Self::Directories(_) => true,
            Self::Required(failed) | Self::Deadline { failed, .. } => {
                failed.iter().any(|failed| failed.configuration)
            }
            _ => false,
        }
    }

    /// The nearest error of errno(3), for whoever asks systemd.
    fn errno(&self) -> u32 {
        let errno = match self {
            _ if self.is_configuration() => Errno::INVAL,
            Self::Deadline { .. } => Errno::TIMEDOUT,
            _ => Errno::IO,
        };
        errno.raw_os_error().unsigned_abs()
    }
}

/// What serves the connections of sockets that speak HTTP.
fn http_server(reader: TableReader, keep_alive: Duration) -> Server {
    let limits = connection::limits(keep_alive);
    Arc::new(move |Accepted { stream, peer, socket, closing }| {
        let endpoint = Arc::new(HttpEndpoint { socket, reader: reader.clone() });
        connection::serve(stream, peer, endpoint, limits, closing).boxed()
    })
}

/// What ended the wait.
enum DaemonEvent {
    Terminate,
    Rescan,
    Changed,
    Lost,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn turn(&mut self, summary: &mut watch::Receiver<Summary>) -> DaemonEvent {
        tokio::select! {
            _ = self.terminate.recv() => DaemonEvent::Terminate,
            _ = self.interrupt.recv() => DaemonEvent::Terminate,
            _ = self.hang_up.recv() => DaemonEvent::Rescan,
            changed = summary.changed() => changed.map_or(DaemonEvent::Lost, |()| DaemonEvent::Changed),
        }
    }
}

/// Runs the daemon until it is told to end.
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
    let ended = match sockets {
        Ok(sockets) => {
            let watchdog =
                systemd.watchdog.map(|time| Watchdog::new(notifier.clone(), time, executors.all()));
            let daemon = Daemon {
                signals,
                store,
                notifier: notifier.clone(),
                phase: watch::Sender::new(DaemonPhase::Starting),
            };
            daemon.run(settings, sockets, watchdog, journal, executors).await
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &ended {
        let status = ErrorChain(error).to_string();
        notifier.notify(Notice::Failed { status: &status, errno: error.errno() }).await;
    }
    ended
}

struct Daemon {
    signals: Signals,
    store: Store,
    notifier: Notifier,
    phase: watch::Sender<DaemonPhase>,
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
        let plan = plan.map_err(|mistakes: SocketMistakes| ListenError::from(mistakes))?;
        let listeners = Arc::new(Listeners::new(sockets, executors.clone()));
        listeners.follow(&plan)?;
        if !plan.serves(Protocol::Http) {
            warn!(
                "no socket for HTTP was given, so no plugin can be reached; try --listen http=127.0.0.1:8080"
            );
        }
        let (plan, plans) = watch::channel(plan);
        tokio::spawn(Listeners::follow_all(Arc::downgrade(&listeners), plans));
        let compiler = settings.compiler;
        let (publisher, reader) = table::channel();
        let deps = Deps {
            search_path: settings.search_path,
            engine: engine::start(kind)?,
            executors,
            cache: Cache::new(settings.cache, kind),
            compiler: compiler.clone(),
            reload_concurrency: own.reload_concurrency,
            journal: journal.clone(),
            places: settings.places,
            store: self.store.clone(),
            sockets: kinds,
            plan,
        };
        let supervisor = supervisor::start(deps, publisher, watchdog)
            .map_err(|error| DaemonError::Linker(format!("{error:#}")))?;
        let context = ControlContext {
            supervisor: supervisor.clone(),
            journal,
            phase: self.phase.subscribe(),
        };
        listeners.serve(Protocol::Control, control::server(context))?;

        match self.become_ready(&supervisor, start_deadline).await {
            Ok(true) => (),
            unready => {
                if unready.is_ok() {
                    self.phase.send_replace(DaemonPhase::Stopping);
                    self.notifier
                        .notify(Notice::Stopping { status: &self.line(&supervisor) })
                        .await;
                }
                // What is ready already is told to stop, but nobody waits long for it.
                let stopped = timeout(UNREADY_STOP_DEADLINE, supervisor.stop()).await;
                compiler.end();
                if stopped.is_err() {
                    warn!("stopped before everything was finished");
                }
                info!("stopped");
                return unready.map(drop);
            }
        }
        listeners.serve(Protocol::Http, http_server(reader, own.http.keep_alive))?;
        self.phase.send_replace(DaemonPhase::Running);
        self.notifier.notify(Notice::Ready { status: &self.line(&supervisor) }).await;
        info!(message_id = messages::READY, plugins = supervisor.summary().borrow().ready, "ready");
        let ended = self.keep_running(&supervisor).await;

        self.phase.send_replace(DaemonPhase::Stopping);
        self.notifier.notify(Notice::Stopping { status: &self.line(&supervisor) }).await;
        info!("stopping");
        let close = async {
            // The way in closes first, then what lies behind it.
            if !listeners.drain(Protocol::Http, DRAIN_DEADLINE).await {
                warn!("connections cut off that did not end in time");
            }
            supervisor.stop().await;
            self.store.settled().await;
        };
        tokio::select! {
            () = close => (),
            () = sleep(STOP_DEADLINE) => warn!("stopped before everything was finished"),
            // Asked twice means now.
            _ = self.signals.interrupt.recv() => warn!("stopped at once"),
        }
        compiler.end();
        info!("stopped");
        ended
    }

    /// How the daemon is, in one line.
    fn line(&self, supervisor: &SupervisorHandle) -> String {
        self.phase.borrow().line(&supervisor.summary().borrow())
    }

    /// Waits until every required plugin is ready. False when told to end meanwhile.
    async fn become_ready(
        &mut self,
        supervisor: &SupervisorHandle,
        deadline: Duration,
    ) -> Result<bool, DaemonError> {
        let mut summary = supervisor.summary();
        let deadline = Instant::now() + deadline;
        let mut extend = interval(EXTEND_EVERY);
        let mut reported = String::new();
        loop {
            let now = summary.borrow_and_update().clone();
            if let Some(why) = now.unreadable {
                return Err(DaemonError::Directories(why));
            }
            let failed: Vec<_> = now.required_failed().cloned().collect();
            if !failed.is_empty() && now.is_settled() {
                return Err(DaemonError::Required(failed));
            }
            if now.is_settled() {
                return Ok(true);
            }
            self.notify(DaemonPhase::Starting.line(&now), &mut reported).await;
            tokio::select! {
                turn = self.signals.turn(&mut summary) => match turn {
                    DaemonEvent::Terminate => return Ok(false),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    DaemonEvent::Changed => (),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor),
                },
                _ = extend.tick() => {
                    // A little longer than the deadline, so that it is the daemon that says what it waited for.
                    let left = deadline.saturating_duration_since(Instant::now()) + EXTEND_EVERY;
                    self.notifier.notify(Notice::ExtendTimeout(left.min(EXTEND_BY))).await;
                }
                () = tokio::time::sleep_until(deadline) => {
                    return Err(DaemonError::Deadline {
                        awaited: now.awaited.iter().map(ToString::to_string).collect(),
                        failed: failed.into_iter().chain(now.retried).collect(),
                    });
                }
            }
        }
    }

    /// Does what signals ask for, until one asks to end or a plugin fails that the daemon is not to go on without, and
    /// tells systemd how all plugins are.
    async fn keep_running(&mut self, supervisor: &SupervisorHandle) -> Result<(), DaemonError> {
        let mut summary = supervisor.summary();
        let mut extend = interval(EXTEND_EVERY);
        let mut reported = self.line(supervisor);
        // systemd knows of those that were asked for before it was told that the daemon is ready.
        let (mut begun, mut over) =
            (summary.borrow().reloads_begun, summary.borrow().reloads_ended);
        loop {
            let now = summary.borrow_and_update().clone();
            let fatal: Vec<_> = now.failed.iter().filter(|failed| failed.exit).cloned().collect();
            if !fatal.is_empty() {
                return Err(DaemonError::Failed(fatal));
            }
            let line = DaemonPhase::Running.line(&now);
            if begun < now.reloads_begun {
                // Each is told with its moment: systemd waits for one that is later than what it asked for.
                self.notifier.notify(Notice::Reloading).await;
                begun = now.reloads_begun;
            }
            if over < now.reloads_ended {
                over = now.reloads_ended;
                if over == begun {
                    self.notifier.notify(Notice::Ready { status: &line }).await;
                    reported.clone_from(&line);
                }
            }
            self.notify(line, &mut reported).await;
            tokio::select! {
                turn = self.signals.turn(&mut summary) => match turn {
                    DaemonEvent::Terminate => return Ok(()),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    DaemonEvent::Changed => (),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor),
                },
                _ = extend.tick(), if over < begun => {
                    self.notifier.notify(Notice::ExtendTimeout(EXTEND_BY)).await;
                }
            }
        }
    }

    /// Tells systemd how the daemon is, unless that was told last.
    async fn notify(&self, line: String, reported: &mut String) {
        if line != *reported {
            self.notifier.notify(Notice::Status(&line)).await;
            *reported = line;
        }
    }
}
