//! A plugin's way from files to something that instances are made of, in one go: the part that takes long, and may.

use crate::{
    base::error_chain::ErrorChain,
    config::{
        ListError, SearchPath,
        settings::{self, SettingsError},
    },
    journal::Journal,
    plugin::{compile::compile, compiler::Compiler, directories::read_plugins, verify::Verified},
    route::sockets::{SocketKinds, SocketMistakes, SocketPlan},
    runtime::{cache::Cache, executors::Executors},
    supervisor::summary::FailedStage,
    systemd::store::Store,
    world::{
        self,
        granted::GrantDirectories,
        link::{Linked, link},
    },
};
use tokio::sync::watch;
use wasmtime::{Engine, component::Linker};

pub use crate::plugin::directories::{ScanReport, VerifyResult};

/// What plugins are made with.
#[derive(Clone)]
pub struct Deps {
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// What runs them.
    pub engine: Engine,
    /// What runs its guests.
    pub executors: Executors,
    /// Where compiled code is.
    pub cache: Cache,
    /// What makes it.
    pub compiler: Compiler,
    /// How many plugins may have a new version in work at a time, once the daemon is ready.
    pub reload_concurrency: usize,
    /// Where plugins speak.
    pub journal: Journal,
    /// Where is what they may be granted.
    pub places: GrantDirectories,
    /// Where what they keep is while there is no daemon.
    pub store: Store,
    /// The sockets that there are.
    pub sockets: SocketKinds,
    /// What is served on them, which follows the settings.
    pub plan: watch::Sender<SocketPlan>,
}

/// Why nothing is known of what is in the directories, so that everything should stay as it is.
#[derive(Debug, thiserror::Error)]
pub enum DirectoriesError {
    /// A directory could not be read.
    #[error(transparent)]
    Directory(#[from] ListError),
    /// The host made a mistake of its own.
    #[error("the host failed while it read the directories: {0}")]
    Host(String),
    /// The daemon's own settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings do not fit the sockets that there are.
    #[error(transparent)]
    Sockets(#[from] SocketMistakes),
}

/// Reads the directories, verifies what is in them, and plans what is served on which socket. Blocks.
///
/// # Errors
/// When a directory cannot be read, or `plugind.toml` is wrong.
pub fn read(
    search_path: &SearchPath,
    sockets: &SocketKinds,
) -> Result<(ScanReport, SocketPlan), DirectoriesError> {
    // Most of them count at the next start only: a mistake in them is reported before.
    let settings = settings::read(search_path)?;
    let plan = SocketPlan::new(sockets, &settings.sockets)?;
    Ok((read_plugins(search_path)?, plan))
}

/// Why a plugin could not be prepared.
#[derive(Debug)]
pub struct PrepareError {
    /// What was being done.
    pub stage: FailedStage,
    /// What went wrong.
    pub error: String,
    /// The plugin is at fault: trying again helps only after it was changed.
    pub configuration: bool,
}

/// Compiles and links a plugin. Blocks.
///
/// # Errors
/// When one of the two fails: which, and why.
pub fn prepare(
    verified: Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
    places: &GrantDirectories,
    linker: &Linker<world::HostState>,
) -> Result<Linked, PrepareError> {
    let path = verified.path().display().to_string();
    let compiled = compile(verified, engine, cache, compiler).map_err(|error| {
        let configuration = error.is_configuration();
        let error = format!("{path}: {}", ErrorChain(&error));
        PrepareError { stage: FailedStage::Compile, error, configuration }
    })?;
    link(compiled, linker, places).map_err(|error| {
        let error = format!("{path} {}", ErrorChain(&error));
        PrepareError { stage: FailedStage::Link, error, configuration: true }
    })
}
