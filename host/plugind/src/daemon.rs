//! Builds the house from the ground up, keeps it, and closes it from the top down.

use crate::{
    engine,
    journal::Journal,
    keeper::Keeper,
    listener::Listener,
    name::SocketName,
    plugin::{cache::Cache, compile::Compiler, scan::SearchPath},
    prepare::Means,
    summary::{Failed, Summary},
    supervisor, table,
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

/// The socket on which HTTP is served.
const HTTP: &str = "http";
/// How long the required plugins may take to become ready.
const START_DEADLINE: Duration = Duration::from_secs(300);
/// How long plugins may take to finish when the daemon stops before it was ready.
const UNREADY_STOP_DEADLINE: Duration = Duration::from_millis(900);
/// How long of that connections may take to finish, so that plugins have the rest.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// How long connections and plugins may take to finish when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// What the daemon is told when it is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sockets to open, by their names.
    pub listen: Vec<(SocketName, SocketAddr)>,
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// Where compiled code is kept.
    pub cache: PathBuf,
    /// What compiles components.
    pub compiler: Compiler,
}

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A signal could not be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// A socket could not be opened.
    #[error("cannot listen on {address} for the socket {name}")]
    Listen {
        /// The socket.
        name: SocketName,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A socket was opened for which there is no use.
    #[error("there is no use for a socket with the name {0}; the one that is served is \"{HTTP}\"")]
    UnknownSocket(SocketName),
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
    #[error("{}", told(.0))]
    Required(Vec<Failed>),
    /// The supervisor ended, and with it everything that keeps plugins.
    #[error(
        "the supervisor of the plugins ended, which is a mistake of plugind's own; please report it"
    )]
    Supervisor,
    /// Required plugins did not become ready in time.
    #[error("plugins did not become ready in time: {0}")]
    Deadline(String),
}

fn told(failed: &[Failed]) -> String {
    let told: Vec<_> = failed
        .iter()
        .map(|failed| {
            format!("plugin {} failed at {}: {}", failed.plugin, failed.stage, failed.error)
        })
        .collect();
    told.join("; ")
}

impl DaemonError {
    /// Whether something has to be changed before another start can do better.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::UnknownSocket(_) | Self::Directories(_) => true,
            Self::Required(failed) => failed.iter().any(|failed| failed.configuration),
            _ => false,
        }
    }
}

/// What ended the wait.
enum Turn {
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

    async fn turn(&mut self, summary: &mut watch::Receiver<Summary>) -> Turn {
        tokio::select! {
            _ = self.terminate.recv() => Turn::Terminate,
            _ = self.interrupt.recv() => Turn::Terminate,
            _ = self.hang_up.recv() => Turn::Rescan,
            changed = summary.changed() => changed.map_or(Turn::Lost, |()| Turn::Changed),
        }
    }
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// When it cannot start, or a required plugin cannot.
pub async fn run(settings: Settings, journal: Journal) -> Result<(), DaemonError> {
    let mut signals = Signals::catch().map_err(DaemonError::Signals)?;
    let sockets = bind(&settings.listen)?;
    let compiler = settings.compiler;
    let (publisher, reader) = table::channel();
    let means = Means {
        search_path: settings.search_path,
        engine: engine::start()?,
        cache: Cache::new(settings.cache),
        compiler: compiler.clone(),
        journal,
    };
    let keeper = supervisor::start(means, publisher)
        .map_err(|error| DaemonError::Linker(format!("{error:#}")))?;

    match become_ready(&keeper, &mut signals).await {
        Ok(true) => (),
        unready => {
            // What is ready already is told to stop, but nobody waits long for it.
            let stopped = tokio::time::timeout(UNREADY_STOP_DEADLINE, keeper.stop()).await;
            compiler.end();
            if stopped.is_err() {
                warn!("stopped before everything was finished");
            }
            info!("stopped");
            return unready.map(drop);
        }
    }
    let mut doors = Vec::new();
    for (name, address, socket) in sockets {
        let listen = |source| DaemonError::Listen { name, address, source };
        doors.push(Listener::open(socket, reader.clone()).map_err(listen)?);
    }
    keep(&keeper, &mut signals).await?;

    info!("stopping");
    let close = async {
        // The way in closes first, then what lies behind it.
        let draining = doors.into_iter().map(|door| door.drain(DRAIN_DEADLINE));
        futures::future::join_all(draining).await;
        keeper.stop().await;
    };
    tokio::select! {
        () = close => (),
        () = tokio::time::sleep(STOP_DEADLINE) => warn!("stopped before everything was finished"),
        // Asked twice means now.
        _ = signals.interrupt.recv() => warn!("stopped at once"),
    }
    compiler.end();
    info!("stopped");
    Ok(())
}

fn bind(
    listen: &[(SocketName, SocketAddr)],
) -> Result<Vec<(SocketName, SocketAddr, TcpListener)>, DaemonError> {
    let mut sockets = Vec::new();
    for (name, address) in listen {
        if name.as_str() != HTTP {
            return Err(DaemonError::UnknownSocket(name.clone()));
        }
        let wrong = |source| DaemonError::Listen { name: name.clone(), address: *address, source };
        let socket = TcpListener::bind(address).map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        info!(socket = %name, %address, "listening");
        sockets.push((name.clone(), address, socket));
    }
    if sockets.is_empty() {
        warn!("no socket was given, so nothing can be reached; try --listen http=127.0.0.1:8080");
    }
    Ok(sockets)
}

/// Waits until every required plugin is ready. False when told to end meanwhile.
async fn become_ready(keeper: &Keeper, signals: &mut Signals) -> Result<bool, DaemonError> {
    let mut summary = keeper.summary();
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
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
            info!(plugins = now.plugins, "ready");
            return Ok(true);
        }
        match tokio::time::timeout_at(deadline, signals.turn(&mut summary)).await {
            Ok(Turn::Terminate) => return Ok(false),
            Ok(Turn::Rescan) => keeper.rescan(),
            Ok(Turn::Changed) => (),
            Ok(Turn::Lost) => return Err(DaemonError::Supervisor),
            Err(_) => {
                let names: Vec<_> = now.awaited.iter().map(ToString::to_string).collect();
                return Err(DaemonError::Deadline(names.join(", ")));
            }
        }
    }
}

/// Does what signals ask for, until one asks to end.
async fn keep(keeper: &Keeper, signals: &mut Signals) -> Result<(), DaemonError> {
    let mut summary = keeper.summary();
    loop {
        match signals.turn(&mut summary).await {
            Turn::Terminate => return Ok(()),
            Turn::Rescan => keeper.rescan(),
            Turn::Changed => (),
            Turn::Lost => return Err(DaemonError::Supervisor),
        }
    }
}
