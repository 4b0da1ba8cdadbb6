//! The preparation of a plugin, from its files to a linked component, in one step: the part that may take long.

use crate::{
    api::FailedStage,
    base::{error_chain::ErrorChain, limits::ComponentLimits},
    config::{
        ListError, SearchPath,
        settings::{self, SettingsError},
    },
    plugin::{
        compile::{CompileError, Compiled, cached, compile},
        compiler::Compiler,
        directories::{ScanReport, VerifiedBefore, read_changed_plugins},
        verify::Verified,
    },
    pool::commons::Commons,
    route::sockets::{SocketKinds, SocketMistakes, SocketPlan},
    runtime::cache::Cache,
    supervisor::{held::HeldVersions, published_plan::PublishedPlan, versions::Versions},
    systemd::{
        certificates::{self, CertificatesError},
        store::Store,
    },
    world::{
        granted::GrantDirectories,
        host_runtime::{HostRuntime, PendingHostRuntime},
        link::{Linked, link},
    },
};
use std::{path::Path, sync::Arc};

/// The means to make plugins.
#[derive(Clone)]
pub struct Deps {
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// The runtime on which they run.
    pub host: PendingHostRuntime,
    /// Where compiled code is.
    pub cache: Cache,
    /// The compiler that makes it.
    pub compiler: Compiler,
    /// Number of plugins whose new version may be prepared at the same time, once the daemon is ready.
    pub reload_concurrency: usize,
    /// What one component may have.
    pub component_limits: ComponentLimits,
    /// The resources that all plugins share.
    pub commons: Commons,
    /// The directories of what may be granted.
    pub places: GrantDirectories,
    /// The store of their states while there is no daemon.
    pub store: Store,
    /// The versions that served.
    pub versions: Versions,
    /// Whether a start serves the version that served last if the newest one fails.
    pub serve_previous: bool,
    /// The sockets that there are.
    pub sockets: SocketKinds,
    /// The use of the sockets, which follows the settings.
    pub plan: PublishedPlan,
}

/// The reason that the contents of the directories are unknown, so that nothing may change.
#[derive(Debug, thiserror::Error)]
pub enum DirectoriesError {
    /// A directory could not be read.
    #[error(transparent)]
    Directory(#[from] ListError),
    /// The thread that reads them cannot be started, panicked, or did not end in time.
    #[error("cannot read the directories: {0}")]
    Host(String),
    /// An earlier reading was given up and has not ended.
    #[error(
        "an earlier attempt to read the directories has not ended; the file system of a plugin, a setting or a \
         credential does not answer"
    )]
    Unfinished,
    /// The daemon's own settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings do not fit the sockets that there are.
    #[error(transparent)]
    Sockets(#[from] SocketMistakes),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
}

/// Reads the directories, verifies what has changed in them, and plans what is served on which socket. Blocks.
///
/// # Errors
/// When a directory cannot be read, `plugind.toml` is wrong, or a certificate or key cannot be used.
pub fn read(
    search_path: &SearchPath,
    sockets: &SocketKinds,
    credentials: Option<&Path>,
    held: &HeldVersions,
    before: &mut VerifiedBefore,
) -> Result<(ScanReport, SocketPlan), DirectoriesError> {
    before.check_mounts(search_path)?;
    // Most of them count at the next start only: a mistake in them is reported before.
    let settings = settings::read(search_path)?;
    let mut plan = SocketPlan::new(sockets, &settings.sockets)?;
    plan.tls = certificates::load(&settings.sockets, credentials)?;
    let mut report = read_changed_plugins(search_path, before)?;
    report.held = held.hold(&mut report.plugins);
    for verified in report.plugins.iter_mut().flatten() {
        *verified = verified.with_credentials(credentials);
    }
    Ok((report, plan))
}

/// Why a plugin could not be prepared.
#[derive(Debug)]
pub struct PrepareError {
    /// The stage that failed.
    pub stage: FailedStage,
    /// The error.
    pub error: String,
    /// The plugin is at fault: trying again helps only after it was changed.
    pub configuration: bool,
}

/// Compiles and links a plugin. Blocks.
///
/// # Errors
/// When one of the two fails: which, and why.
pub fn prepare(
    verified: &Verified,
    host: &HostRuntime,
    cache: &Cache,
    compiler: &Compiler,
    places: &GrantDirectories,
) -> Result<Arc<Linked>, PrepareError> {
    let compiled = compile(verified, &host.engine, cache, compiler);
    link_compiled(compiled.map_err(|error| not_compiled(verified, &error))?, host, places)
}

/// Links a plugin that was compiled before; none, if it was not. Blocks, but never for the compiler.
///
/// # Errors
/// When it cannot be run or linked: which, and why.
pub fn prepare_cached(
    verified: &Verified,
    host: &HostRuntime,
    cache: &Cache,
    compiler: &Compiler,
    places: &GrantDirectories,
) -> Result<Option<Arc<Linked>>, PrepareError> {
    let compiled = cached(verified, &host.engine, cache, compiler);
    let compiled = compiled.map_err(|error| not_compiled(verified, &error))?;
    compiled.map(|compiled| link_compiled(compiled, host, places)).transpose()
}

fn not_compiled(verified: &Verified, error: &CompileError) -> PrepareError {
    let configuration = error.is_configuration();
    let error = format!("{}: {}", verified.path().display(), ErrorChain(error));
    PrepareError { stage: FailedStage::Compile, error, configuration }
}

fn link_compiled(
    compiled: Compiled,
    host: &HostRuntime,
    places: &GrantDirectories,
) -> Result<Arc<Linked>, PrepareError> {
    let release = compiled.release.clone();
    link(compiled, &host.linker, places).map(Arc::new).map_err(|error| {
        let error = format!("{} {}", release.path.display(), ErrorChain(&error));
        PrepareError { stage: FailedStage::Link, error, configuration: true }
    })
}
