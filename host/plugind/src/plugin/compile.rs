//! `Verified` → `Compiled`: found in the cache, or made; never compiled in this process.

use crate::{
    base::error_chain::ErrorChain,
    plugin::{
        compiler::{CompiledFile, Compiler, CompilerError},
        release::Release,
        verify::Verified,
    },
    runtime::cache::{self, Cache, CacheError},
};
use plugind_artifact::{entry::Key, protocol::Effort};
use std::{fs::File, io, os::fd::AsFd, path::PathBuf, sync::Arc};
use tracing::warn;
use wasmtime::{Engine, component::Component};

/// A plugin in the form that can be run.
pub struct Compiled {
    /// The version.
    pub release: Arc<Release>,
    /// Its component.
    pub component: Component,
}

/// Why a plugin cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component cannot be opened any more.
    #[error("cannot open {}", path.display())]
    Open {
        /// The component.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
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
/// If it cannot be compiled or run. An unusable compiled file is not an error: the component is compiled again.
pub fn compile(
    verified: &Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Compiled, CompileError> {
    let component = find(verified, engine, cache, compiler)?;
    Ok(Compiled { release: verified.release().clone(), component })
}

/// Finds a plugin's compiled file in the cache; none, if it has to be compiled. Never waits for that.
///
/// # Errors
/// When it cannot be run, or the compiler does not answer in time.
pub fn cached(
    verified: &Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Option<Compiled>, CompileError> {
    let found = match cache.load(engine, &Key::new(verified.digest(), cache.kind())) {
        // A compiler that cannot answer is reported when something is to be compiled.
        Err(CacheError::OfCompiler) => {
            match make(verified, engine, cache, compiler, Effort::Find) {
                Ok(found) => found,
                // Another wait would take as long.
                Err(error @ CompileError::Compiler(CompilerError::Deadline(_))) => {
                    return Err(error);
                }
                Err(_) => return Ok(None),
            }
        }
        found => found,
    };
    match found {
        Ok(component) => Ok(Some(Compiled { release: verified.release().clone(), component })),
        Err(error @ (CacheError::Map(_) | CacheError::TooLarge(_))) => {
            Err(CompileError::Unusable(error))
        }
        Err(_) => Ok(None),
    }
}

fn make(
    verified: &Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
    effort: Effort,
) -> Result<Result<Component, CacheError>, CompileError> {
    // It is opened again: one descriptor for each plugin that waits would be too many. What is compiled is what was
    // verified all the same, since the compiler checks the digest.
    let open = |source| CompileError::Open { path: verified.path().to_owned(), source };
    let component = File::open(verified.path()).map_err(open)?;
    let (kind, directory) = (cache.kind(), cache.directory());
    let made = compiler.make(verified.digest(), component.as_fd(), kind, directory, effort)?;
    let key = Key::new(verified.digest(), kind);
    Ok(match made {
        Some(CompiledFile::Kept(file)) => cache::load(engine, &key, file),
        Some(CompiledFile::Unkept(file)) => cache::load_unkept(engine, &key, file),
        None => Err(CacheError::Absent),
    })
}

fn find(
    verified: &Verified,
    engine: &Engine,
    cache: &Cache,
    compiler: &Compiler,
) -> Result<Component, CompileError> {
    let make = |effort| make(verified, engine, cache, compiler, effort);
    let found = match cache.load(engine, &Key::new(verified.digest(), cache.kind())) {
        // It may be there already, where only the compiler sees it.
        Err(CacheError::Absent | CacheError::OfCompiler) => make(Effort::Compile)?,
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
            warn!(plugin = %verified.name(), error, "compiled file rejected, compiling again");
            make(Effort::Recompile)?
        }
    };
    made.map_err(|error| match error {
        error @ (CacheError::Map(_) | CacheError::TooLarge(_)) => CompileError::Unusable(error),
        error => CompileError::Useless(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{limits::ComponentLimits, quantity::Bytes},
        plugin::{compiler::CompilerLocation, scan::Found, verify::verify},
        runtime::engine::{self, EngineKind},
    };
    use std::{fs, time::Duration};

    #[test]
    fn a_component_that_cannot_be_opened_any_more_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let component = directory.path().join("x.wasm");
        let text = "(component
            (core module $m (func (export \"r\") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $r (result (result)) (canon lift (core func $i \"r\")))
            (instance $e (export \"run\" (func $r)))
            (export \"wasi:cli/run@0.2.0\" (instance $e)))";
        fs::write(&component, wat::parse_str(text).unwrap()).unwrap();
        let name = "x".parse().unwrap();
        let found =
            Found { name, component: component.clone(), manifest: None, drop_ins: Vec::new() };
        let verified = verify(found, &ComponentLimits::DEFAULT).unwrap();
        fs::remove_file(&component).unwrap();
        let kind = EngineKind::Native;
        let program = CompilerLocation::Program("/nowhere".into());
        let compiler = Compiler::new(program, Duration::from_secs(1), Bytes(1 << 30).0);
        let cache = Cache::new(directory.path().to_owned(), kind);
        let compiled = compile(&verified, &engine::plain(kind).unwrap(), &cache, &compiler);
        let error = compiled.err().unwrap();
        let why = "No such file or directory (os error 2)";
        let expected = format!("cannot open {}: {why}", component.display());
        assert_eq!(ErrorChain(&error).to_string(), expected);
    }
}
