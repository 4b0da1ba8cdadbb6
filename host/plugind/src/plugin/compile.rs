//! `Verified` → `Compiled`: found in the cache, or made; never compiled in this process.

use crate::base::{error_chain::ErrorChain, name::PluginName};
use crate::{
    plugin::{
        compiler::{Compiler, CompilerError},
        inspection::Inspection,
        manifest::Manifest,
        verify::Verified,
    },
    runtime::cache::{self, Cache, CacheError},
};
use plugind_artifact::entry::Key;
use std::{fs::File, io, os::fd::AsFd, path::PathBuf};
use tracing::warn;
use wasmtime::{Engine, component::Component};

/// A plugin in the form that can be run.
pub struct Compiled {
    /// Its name.
    pub name: PluginName,
    /// Its manifest.
    pub manifest: Manifest,
    /// What its component has to offer.
    pub inspection: Inspection,
    /// The SHA-256 digest of its component.
    pub digest: [u8; 32],
    /// Where its component was read from.
    pub path: PathBuf,
    /// Its component.
    pub component: Component,
}

/// Why a plugin cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component cannot be opened any more.
    #[error("cannot open the component")]
    Open(#[source] io::Error),
    /// There is no compiled file.
    #[error(transparent)]
    Compiler(#[from] CompilerError),
    /// There is one, and the system does not let it be run.
    #[error(transparent)]
    Unusable(CacheError),
    /// There is one, and it is wrong.
    #[error(
        "the compiler returned something that cannot be used; if plugind was upgraded, restart it"
    )]
    Useless(#[source] CacheError),
}

impl CompileError {
    /// Whether the component itself has to be changed before another try can do better.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Compiler(CompilerError::Refused(_)) | Self::Unusable(CacheError::TooLarge(_))
        )
    }
}

/// Finds a plugin's compiled file in the cache or has it made.
///
/// Blocks for as long as the compiler takes: call it where that is allowed.
///
/// # Errors
/// When it cannot be compiled or run. A compiled file that is of no use is none: it is compiled again.
pub fn compile(
    verified: Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Compiled, CompileError> {
    let component = find(&verified, engine, cache, compiler)?;
    Ok(Compiled {
        name: verified.name().clone(),
        manifest: verified.manifest().clone(),
        inspection: verified.inspection().clone(),
        digest: *verified.digest(),
        path: verified.path().to_owned(),
        component,
    })
}

fn find(
    verified: &Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Component, CompileError> {
    let key = Key::new(verified.digest(), cache.kind());
    let make = |again| -> Result<_, CompileError> {
        // It is opened again: one descriptor for each plugin that waits would be too many. What is compiled is what was
        // verified all the same, since the compiler checks the digest.
        let component = File::open(verified.path()).map_err(CompileError::Open)?;
        let (kind, directory) = (cache.kind(), cache.directory());
        let made = compiler.make(verified.digest(), component.as_fd(), kind, directory, again)?;
        Ok(cache::load(engine, &key, made))
    };
    let found = match compiler.shares_cache() {
        true => cache.load(engine, &key),
        false => Err(CacheError::Absent),
    };
    let found = match found {
        // It may be there already, where only the compiler sees it.
        Err(CacheError::Absent) => make(false)?,
        found => found,
    };
    let made = match found {
        Ok(component) => return Ok(component),
        // Compiled once more it would be the same.
        Err(error @ (CacheError::Map(_) | CacheError::TooLarge(_))) => {
            return Err(CompileError::Unusable(error));
        }
        Err(bad) => {
            let error = ErrorChain(&bad).to_string();
            warn!(plugin = %verified.name(), error, "compiled file not used, compiling again");
            make(true)?
        }
    };
    made.map_err(|error| match error {
        error @ (CacheError::Map(_) | CacheError::TooLarge(_)) => CompileError::Unusable(error),
        error => CompileError::Useless(error),
    })
}
