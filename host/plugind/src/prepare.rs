//! A plugin's way from files to something that instances are made of, in one go: the part that takes long, and may.

use crate::{
    chain::Chain,
    journal::Journal,
    link::{Linked, link},
    plugin::{
        cache::Cache,
        compile::{CompileError, Compiler, compile},
        scan::{ScanError, SearchPath, Stray, scan},
        verify::{Rejected, Verified, verify},
    },
    summary::Stage,
    world::{self, granted::Places},
};
use wasmtime::{Engine, component::Linker};

/// What plugins are made with.
#[derive(Clone)]
pub struct Means {
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// What runs them.
    pub engine: Engine,
    /// Where compiled code is.
    pub cache: Cache,
    /// What makes it.
    pub compiler: Compiler,
    /// Where plugins speak.
    pub journal: Journal,
    /// Where is what they may be granted.
    pub places: Places,
}

/// A plugin as it was judged.
pub type Judged = Result<Verified, Box<Rejected>>;

/// What was found in the directories.
pub struct Findings {
    /// The plugins in the order of their names, each as it was judged.
    pub plugins: Vec<Judged>,
    /// What only looks like a plugin.
    pub strays: Vec<Stray>,
}

/// Reads the directories and judges what is in them. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read(search_path: &SearchPath) -> Result<Findings, ScanError> {
    let (found, strays) = scan(search_path)?;
    Ok(Findings { plugins: found.into_iter().map(verify).collect(), strays })
}

/// Why a plugin could not be prepared.
#[derive(Debug)]
pub struct PrepareError {
    /// What was being done.
    pub stage: Stage,
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
    means: &Means,
    linker: &Linker<world::State>,
) -> Result<Linked, PrepareError> {
    let path = verified.path().display().to_string();
    let compiled =
        compile(verified, &means.engine, &means.cache, &means.compiler).map_err(|error| {
            let configuration = matches!(error, CompileError::Refused(_));
            let error = format!("{path}: {}", Chain(&error));
            PrepareError { stage: Stage::Compile, error, configuration }
        })?;
    link(compiled, linker, &means.places).map_err(|error| {
        let error = format!("{path} {}", Chain(&error));
        PrepareError { stage: Stage::Link, error, configuration: true }
    })
}
