//! Reads the plugin directories, and verifies each plugin in them that has changed.

use crate::{
    base::{file::FileVersion, limits::ComponentLimits, name::PluginName},
    config::{KnownDirectories, ListError, SearchPath, list_drop_ins},
    plugin::{
        scan::{Found, Ignored, Masked, Scanned, scan},
        validated::ValidatedComponents,
        verify::{Verified, verify_unless_known},
        verify_error::Rejected,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread::{self, available_parallelism},
};

/// A plugin that was found, verified or rejected.
pub type VerifyResult = Result<Verified, Box<Rejected>>;

/// The contents of the plugin directories.
pub struct ScanReport {
    /// The plugins, in the order of their names.
    pub plugins: Vec<VerifyResult>,
    /// Plugins that a link to `/dev/null` or an empty file masks.
    pub masked: Vec<Masked>,
    /// Files that belong to no plugin.
    pub ignored: Vec<Ignored>,
    /// The directory for plugins of the administrator, if it does not exist.
    pub missing_directory: Option<PathBuf>,
    /// Plugins whose files are not used, because another version of them is held.
    pub held: BTreeSet<PluginName>,
}

/// Results of the last reading of the directories. A result is used again as long as none of its files has changed.
#[derive(Default)]
pub struct VerifiedBefore {
    plugins: BTreeMap<PluginName, (FileVersions, Verified)>,
    validated: ValidatedComponents,
    directories: KnownDirectories,
    /// What one component may have.
    limits: ComponentLimits,
    /// The state directory that is still to be asked for what is valid.
    state: Option<PathBuf>,
}

impl VerifiedBefore {
    /// Nothing was read yet, but for what this program left in the state directory.
    #[must_use]
    pub fn new(state: PathBuf, limits: ComponentLimits) -> Self {
        Self { state: Some(state), limits, ..Self::default() }
    }

    /// Checks that the directories are those that others see.
    ///
    /// # Errors
    /// When one was replaced.
    pub fn check_mounts(&mut self, search_path: &SearchPath) -> Result<(), ListError> {
        self.directories.check_mounts(search_path)
    }
}

/// The files of a plugin, and which versions of them there are.
#[derive(PartialEq, Eq)]
struct FileVersions(Vec<(PathBuf, FileVersion)>);

impl FileVersions {
    /// None if one of them cannot be known again.
    fn of(found: &Found) -> Option<Self> {
        let drop_ins = list_drop_ins(&found.drop_ins).ok()?;
        let paths = [&found.component].into_iter().chain(&found.manifest).chain(&drop_ins);
        let version = |path: &PathBuf| Some((path.clone(), FileVersion::of(path)?));
        paths.map(version).collect::<Option<_>>().map(Self)
    }
}

/// Reads the plugin directories and verifies the plugins, whose components may have as much as these limits say. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read_plugins(
    search_path: &SearchPath,
    limits: ComponentLimits,
) -> Result<ScanReport, ListError> {
    read_changed_plugins(search_path, &mut VerifiedBefore { limits, ..VerifiedBefore::default() })
}

/// The same, where plugins whose files have not changed are not read again. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read_changed_plugins(
    search_path: &SearchPath,
    before: &mut VerifiedBefore,
) -> Result<ScanReport, ListError> {
    let Scanned { found, masked, ignored } = scan(search_path)?;
    let missing_directory = search_path.missing_directory();
    // Afterwards: a directory that is unmounted meanwhile is noticed, or its plugins were found.
    before.directories.check_devices(search_path)?;
    if let Some(state) = before.state.take() {
        before.validated = ValidatedComponents::open(&state);
    }
    let VerifiedBefore { plugins: known, validated, limits, .. } = &*before;
    let outcome = in_parallel(found, |found| {
        // Before they are read: what changes meanwhile has another version then.
        let files = FileVersions::of(&found);
        let last = known.get(&found.name).filter(|(then, _)| files.as_ref() == Some(then));
        let outcome = match last {
            Some((_, verified)) => Ok(verified.clone()),
            None => verify_unless_known(found, limits, validated),
        };
        (files, outcome)
    });
    let mut plugins = Vec::with_capacity(outcome.len());
    before.plugins.clear();
    let mut valid = BTreeSet::new();
    for (files, outcome) in outcome {
        if let Ok(verified) = &outcome {
            valid.insert(*verified.digest());
            if let Some(files) = files {
                before.plugins.insert(verified.name().clone(), (files, verified.clone()));
            }
        }
        plugins.push(outcome);
    }
    before.validated.keep(valid);
    Ok(ScanReport { plugins, masked, ignored, missing_directory, held: BTreeSet::new() })
}

/// Does `work` for each of `items`, on as many threads as there are cores; the order stays.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let count = items.len();
    let items = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    let run = || {
        loop {
            let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((nth, item)) = next else { return };
            let result = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((nth, result));
        }
    };
    let helpers = available_parallelism().map_or(1, usize::from).min(count).saturating_sub(1);
    thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread can be started, this one does it all.
            thread::Builder::new().spawn_scoped(scope, run).ok();
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The name of a plugin, whether it was verified or rejected.
#[must_use]
pub fn name_of(outcome: &VerifyResult) -> &PluginName {
    match outcome {
        Ok(verified) => verified.name(),
        Err(rejected) => &rejected.name,
    }
}

/// Whether a plugin starts with the daemon, whether it was verified or rejected.
#[must_use]
pub fn autostart_of(outcome: &VerifyResult) -> bool {
    match outcome {
        Ok(verified) => verified.manifest().service.autostart,
        Err(rejected) => rejected.autostart,
    }
}
