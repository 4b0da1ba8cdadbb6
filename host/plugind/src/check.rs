//! What the daemon would do with its configuration, up to linking, without doing any of it.

use crate::{
    base::name::PluginName,
    config::{ListError, SearchPath},
    plugin::{
        compiler::Compiler,
        inspection::Inspection,
        manifest::Manifest,
        scan::{Found, Masked},
        verify::{Verified, verify},
    },
    route::owners::RouteRequest,
    runtime::{
        cache::Cache,
        engine::{self, EngineError, EngineKind},
    },
    supervisor::{
        compare::{Change, compare},
        prepare::{JudgedPlugin, ScanReport, prepare, read_plugins},
        reload::ReloadOptions,
        summary::FailedStage,
    },
    world::{self, credentials::file_of, granted::GrantDirectories},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread::available_parallelism,
};
use wasmtime::{Engine, component::Linker};

/// What was found, each plugin judged for itself.
pub struct Report {
    /// The plugins in the order of their names.
    pub plugins: Vec<Checked>,
    /// Those that are not to be there.
    pub masked: Vec<Masked>,
    /// What only looks like a plugin, told with a remedy.
    pub strays: Vec<String>,
}

/// One plugin as it was judged.
pub struct Checked {
    /// Its name.
    pub name: PluginName,
    /// Its component.
    pub component: PathBuf,
    /// The component's SHA-256 digest, its manifest and what it has to offer, if it got that far.
    pub verified: Option<([u8; 32], Manifest, Inspection)>,
    /// The routes that it asks for, and gets.
    pub wishes: Vec<RouteRequest>,
    /// Where it failed, and everything that is wrong there.
    pub failed: Option<(FailedStage, Vec<String>)>,
}

/// What compiles and links for a check.
pub struct CheckContext {
    engine: Engine,
    linker: Linker<world::HostState>,
    cache: Cache,
    compiler: Compiler,
    places: GrantDirectories,
    /// Where credentials are made up, since nobody but the daemon's unit has the real ones.
    made_up: Option<PathBuf>,
}

/// There is nothing to compile and link with.
#[derive(Debug, thiserror::Error)]
pub enum CheckContextError {
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine does not take the host's interfaces.
    #[error("cannot link the host's own interfaces: {0}")]
    Linker(String),
}

impl CheckContext {
    /// One that has components compiled by `compiler` for engines of this kind, and leaves what comes of it in `directory`: what was compiled,
    /// and the directories of plugins' own. Without `credentials` they are taken to be there.
    ///
    /// # Errors
    /// When there is no engine.
    pub fn new(
        directory: &Path,
        compiler: Compiler,
        kind: EngineKind,
        credentials: Option<PathBuf>,
    ) -> Result<Self, CheckContextError> {
        let engine = engine::for_checks(kind)?;
        let linker = world::linker(&engine)
            .map_err(|error| CheckContextError::Linker(format!("{error:#}")))?;
        let made_up = credentials.is_none().then(|| directory.to_owned());
        let places = GrantDirectories {
            state: directory.join("state"),
            credentials: credentials.or_else(|| made_up.clone()),
        };
        let cache = Cache::new(directory.join("cache"), kind);
        Ok(Self { engine, linker, cache, compiler, places, made_up })
    }
}

/// Judges the plugins of the search path: without a workshop only what needs no compiling.
///
/// # Errors
/// When a directory cannot be read.
pub fn check(
    search_path: &SearchPath,
    workshop: Option<&CheckContext>,
) -> Result<Report, ListError> {
    let ScanReport { plugins, masked, strays } = read_plugins(search_path)?;
    let strays = strays.iter().map(ToString::to_string).collect();
    Ok(Report { plugins: judge(plugins, workshop), masked, strays })
}

/// Judges one plugin as if there were no other.
#[must_use]
pub fn check_one(found: Found, workshop: Option<&CheckContext>) -> Option<Checked> {
    judge(vec![verify(found)], workshop).pop()
}

fn judge(plugins: Vec<JudgedPlugin>, workshop: Option<&CheckContext>) -> Vec<Checked> {
    let mut checked: BTreeMap<_, _> = plugins.iter().map(known).collect();
    let mut ready = Vec::new();
    for (name, verdict) in compare(
        plugins,
        &BTreeMap::new(),
        ReloadOptions { again: true, ..ReloadOptions::default() },
    ) {
        let Some(checked) = checked.get_mut(&name) else { continue };
        match verdict {
            Change::Changed { verified, wishes } => {
                checked.wishes = wishes;
                ready.push((name, *verified));
            }
            // What is wrong with its files has been said already, mistake by mistake.
            Change::Bad(problem) if checked.failed.is_none() => {
                checked.failed = Some((problem.stage, vec![problem.error]));
            }
            Change::Bad(_)
            | Change::KnownToFail(_)
            | Change::Same
            | Change::OnItsOwnWay
            | Change::OnItsWay => (),
        }
    }
    if let Some(workshop) = workshop {
        for (name, failed) in make(ready, workshop) {
            if let Some(checked) = checked.get_mut(&name) {
                checked.failed = Some(failed);
            }
        }
    }
    checked.into_values().collect()
}

fn known(judged: &JudgedPlugin) -> (PluginName, Checked) {
    let (name, component, verified, failed) = match judged {
        Ok(verified) => {
            let known =
                (*verified.digest(), verified.manifest().clone(), verified.offers().clone());
            (verified.name(), verified.path(), Some(known), None)
        }
        Err(rejected) => {
            let failed = (FailedStage::Verify, rejected.lines());
            (&rejected.name, rejected.component.as_path(), None, Some(failed))
        }
    };
    let (name, component) = (name.clone(), component.to_owned());
    (name.clone(), Checked { name, component, verified, wishes: Vec::new(), failed })
}

/// Compiles and links plugins side by side, and returns those that failed.
fn make(
    plugins: Vec<(PluginName, Verified)>,
    workshop: &CheckContext,
) -> Vec<(PluginName, (FailedStage, Vec<String>))> {
    let (queue, failed) = (Mutex::new(plugins), Mutex::new(Vec::new()));
    let next = || queue.lock().ok()?.pop();
    let work = || {
        while let Some((name, verified)) = next() {
            let CheckContext { engine, linker, cache, compiler, places, made_up } = workshop;
            for key in &verified.manifest().grants.credentials {
                // Where that fails, linking says what is missing.
                let file = made_up.as_ref().map(|made_up| made_up.join(file_of(&name, key)));
                file.map(|file| fs::write(file, ""));
            }
            if let Err(error) = prepare(verified, engine, cache, compiler, places, linker)
                && let Ok(mut failed) = failed.lock()
            {
                failed.push((name, (error.stage, vec![error.error])));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_default()
}
