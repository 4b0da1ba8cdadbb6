//! `plugind --check`: compiles and links plugins without running them, for `pluginctl check`.

use crate::{
    base::{interrupt::Interrupt, limits::ComponentLimits},
    check::{Checked, LinkFailure, check, check_one, component_limits, find_component},
    config::{ListError, SearchPath},
    plugin::{compiler::Compiler, grants::credential_file, verify::Verified},
    runtime::{cache::Cache, engine::EngineKind},
    supervisor::prepare::prepare,
    world::{
        broker::Broker,
        granted::GrantDirectories,
        host_runtime::{HostRuntime, HostRuntimeError},
        state_limit::StateUsages,
    },
};
use plugind_artifact::entry::Key;
use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::available_parallelism,
};
use tempfile::NamedTempFile;

/// The plugins to check, and the means to check them.
#[derive(Debug)]
pub struct LinkCheck {
    /// The directories of the plugins.
    pub search_path: SearchPath,
    /// Only this component, if there is one.
    pub component: Option<PathBuf>,
    /// The compiler.
    pub compiler: Compiler,
    /// The way in which compiled code will be run.
    pub engine: EngineKind,
    /// Where the daemon's compiled files are, if they are those of this machine.
    pub cache: Option<PathBuf>,
    /// Where the compiled files are kept, instead of a directory that is removed.
    pub keep: Option<PathBuf>,
    /// Where credentials are. Without it every credential is assumed to exist.
    pub credentials: Option<PathBuf>,
    /// Whether `[messaging]` of the daemon names a NATS server.
    pub has_broker: bool,
}

/// Nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum LinkCheckError {
    /// The compiler does not exist.
    #[error("there is no compiler {}; name it with --compiler", .0.display())]
    NoCompiler(PathBuf),
    /// Signals cannot be caught.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// There is no directory to compile in.
    #[error("cannot make a directory to compile in")]
    Directory(#[source] io::Error),
    /// The compiled files cannot be kept.
    #[error("cannot make the directory {} for compiled files; --cache must name a directory", path.display())]
    Keep {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is nothing to link with.
    #[error(transparent)]
    Runtime(#[from] HostRuntimeError),
    /// A directory of plugins cannot be read.
    #[error(transparent)]
    Plugins(#[from] ListError),
    /// The compiled files were to be kept, and are not.
    #[error("compiled code is not kept: {0}")]
    NotKept(String),
    /// A signal ended the check.
    #[error("interrupted")]
    Interrupted(u8),
}

/// The means to compile and link.
struct LinkContext {
    host: HostRuntime,
    cache: Cache,
    /// The compiled files of the daemon, which are only read.
    compiled: Option<PathBuf>,
    compiler: Compiler,
    places: GrantDirectories,
    /// Where empty credentials are made, since only the daemon's unit has the real ones.
    made_up: Option<PathBuf>,
}

impl LinkCheck {
    /// Compiles and links every plugin that has no mistake of another kind, and returns those that fail.
    ///
    /// # Errors
    /// When there is nothing to compile or link with, or a signal ended it.
    pub fn run(self) -> Result<Vec<LinkFailure>, LinkCheckError> {
        if let Some(program) = self.compiler.program()
            && !program.exists()
        {
            return Err(LinkCheckError::NoCompiler(program.to_owned()));
        }
        // Before anything exists that must be removed again.
        let ended = self.compiler.clone();
        let interrupt = Interrupt::watch(move || ended.end()).map_err(LinkCheckError::Signals)?;
        let directory = tempfile::tempdir().map_err(LinkCheckError::Directory)?;
        let limits = component_limits(&self.search_path);
        let plugins = match &self.component {
            Some(path) => {
                let found = find_component(path).found.into_iter();
                found.filter_map(|found| check_one(found, &limits)).collect()
            }
            None => check(&self.search_path)?.plugins,
        };
        // A compiled file in the temporary directory is not needed again. Those in the cache of a service are.
        let is_to_keep = self.keep.is_some() || self.compiler.program().is_none();
        let unkept_code = self.compiler.unkept_code().clone();
        let context = self.context(directory.path(), limits)?;
        let failed = context.link(plugins);
        if let Some(signal) = interrupt.received() {
            // The compilers were ended, so the failures say nothing about the plugins.
            return Err(LinkCheckError::Interrupted(signal));
        }
        match unkept_code.reason().filter(|_| is_to_keep) {
            Some(why) => Err(LinkCheckError::NotKept(why)),
            None => Ok(failed),
        }
    }

    fn context(
        self,
        directory: &Path,
        limits: ComponentLimits,
    ) -> Result<LinkContext, LinkCheckError> {
        let host = HostRuntime::for_checks(self.engine, limits)?;
        let made_up = self.credentials.is_none().then(|| directory.to_owned());
        let places = GrantDirectories {
            state: directory.join("state"),
            credentials: self.credentials.or_else(|| made_up.clone()),
            state_usages: StateUsages::default(),
            stores: Arc::default(),
            broker: Broker::default(),
            has_broker: self.has_broker,
        };
        // The directory that is kept may be the cache of a daemon, which has its own files already.
        let compiled = self.cache.filter(|_| self.keep.is_none());
        let cache = self.keep.unwrap_or_else(|| directory.join("cache"));
        fs::create_dir_all(&cache)
            .map_err(|source| LinkCheckError::Keep { path: cache.clone(), source })?;
        let cache = Cache::new(cache, self.engine);
        Ok(LinkContext { host, cache, compiled, compiler: self.compiler, places, made_up })
    }
}

impl LinkContext {
    /// Compiles and links plugins in parallel.
    fn link(&self, plugins: Vec<Checked>) -> Vec<LinkFailure> {
        let usable = plugins.into_iter().filter(|checked| checked.failed.is_none());
        let queue = Mutex::new(usable.filter_map(|checked| checked.verified));
        let failed = Mutex::new(Vec::new());
        let next = || queue.lock().ok()?.next();
        let work = || {
            while let Some(verified) = next() {
                if let Some(failure) = self.link_one(verified)
                    && let Ok(mut failed) = failed.lock()
                {
                    failed.push(failure);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let mut failed = failed.into_inner().unwrap_or_default();
        failed.sort_by(|one: &LinkFailure, other| one.plugin.cmp(&other.plugin));
        failed
    }

    fn link_one(&self, verified: Verified) -> Option<LinkFailure> {
        let plugin = verified.name().to_string();
        for key in &verified.manifest().grants.credentials {
            let file = credential_file(verified.name(), key);
            // If it cannot be written, linking reports that the credential is missing.
            self.made_up.as_ref().map(|made_up| fs::write(made_up.join(file), ""));
        }
        let Self { host, cache, compiler, places, .. } = self;
        if let Some(compiled) = &self.compiled {
            let file = Key::new(verified.digest(), cache.kind()).file_name();
            // If it cannot be read, or is not good, the component is compiled.
            copy_compiled(compiled, cache.directory(), &file).ok();
        }
        let error = prepare(&verified, host, cache, compiler, places).err()?;
        Some(LinkFailure { plugin, stage: error.stage, mistakes: vec![error.error] })
    }
}

/// Copies a compiled file. A file of this name may be mapped, as that of another plugin with the same component, so it
/// is replaced and never written to.
fn copy_compiled(from: &Path, to: &Path, name: &str) -> io::Result<()> {
    let mut compiled = File::open(from.join(name))?;
    let mut copy = NamedTempFile::new_in(to)?;
    io::copy(&mut compiled, copy.as_file_mut())?;
    copy.as_file().set_permissions(Permissions::from_mode(0o444))?;
    copy.persist(to.join(name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_copy_replaces_a_file_that_is_in_use_and_does_not_change_it() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(from.path().join("code"), "new").unwrap();
        fs::write(to.path().join("code"), "in use").unwrap();
        let mut in_use = File::open(to.path().join("code")).unwrap();
        copy_compiled(from.path(), to.path(), "code").unwrap();
        let mut read = String::new();
        in_use.read_to_string(&mut read).unwrap();
        assert_eq!((&*read, fs::read(to.path().join("code")).unwrap()), ("in use", b"new".into()));
        // A file that does not exist leaves nothing behind.
        assert!(copy_compiled(from.path(), to.path(), "other").is_err());
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    }
}
