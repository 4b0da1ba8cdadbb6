//! A plugin's way from files to something that instances are made of, in one go: the part that takes long, and may.

use crate::{
    base::error_chain::ErrorChain,
    config::{
        ListError, SearchPath,
        settings::{self, SettingsError},
    },
    journal::Journal,
    plugin::{
        compile::compile,
        compiler::Compiler,
        scan::{Ignored, Masked, Scanned, scan},
        verify::{Rejected, Verified, verify},
    },
    runtime::cache::Cache,
    supervisor::summary::FailedStage,
    systemd::store::Store,
    world::{
        self,
        granted::GrantDirectories,
        link::{Linked, link},
    },
};
use wasmtime::{Engine, component::Linker};

/// What plugins are made with.
#[derive(Clone)]
pub struct Deps {
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// What runs them.
    pub engine: Engine,
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
}

/// A plugin as it was judged.
pub type JudgedPlugin = Result<Verified, Box<Rejected>>;

/// What was found in the directories.
pub struct ScanReport {
    /// The plugins in the order of their names, each as it was judged.
    pub plugins: Vec<JudgedPlugin>,
    /// Those that are not to be there.
    pub masked: Vec<Masked>,
    /// What only looks like a plugin.
    pub strays: Vec<Ignored>,
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
}

/// Reads the directories and judges what is in them. Blocks.
///
/// # Errors
/// When a directory cannot be read, or `plugind.toml` is wrong.
pub fn read(search_path: &SearchPath) -> Result<ScanReport, DirectoriesError> {
    // They counted at the start and count at the next one: whoever breaks them should hear of it before.
    settings::read(search_path)?;
    Ok(read_plugins(search_path)?)
}

/// Reads the directories of plugins and judges what is in them. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read_plugins(search_path: &SearchPath) -> Result<ScanReport, ListError> {
    let Scanned { found, masked, ignored: strays } = scan(search_path)?;
    Ok(ScanReport { plugins: found.into_iter().map(verify).collect(), masked, strays })
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
