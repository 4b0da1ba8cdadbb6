//! `pluginctl compile` and `precompile`: compile plugins before a daemon needs them.

use crate::{link_check::LinkChecker, print::complain, problem::Problem};
use plugind::{
    base::error_chain::ErrorChain,
    check::{LinkFailure, check},
    cli::existing_directory,
    config::SearchPath,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The socket of the service that compiles for the daemon.
const SERVICE: &str = "unix:/run/plugind-compile/socket";

#[derive(clap::Args)]
pub(crate) struct CompileArgs {
    /// Write the compiled files to this directory, which is created
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// Use this directory as the root of /usr/lib/plugind, /run/plugind and /etc/plugind (default: /)
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    root: Option<PathBuf>,
    /// Compile the plugins in this directory only
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Use this program plugind-compile
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
}

/// Nothing could be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotCompiled(String);

impl CompileArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let path = SearchPath::below(self.root.as_deref().unwrap_or(Path::new("/")));
        let path = match &self.plugins {
            Some(directory) => path.with_only_plugins(directory.clone()),
            None => path,
        };
        let checker = LinkChecker::new(self.root.as_deref(), self.compiler.as_deref());
        let kept = checker.map(|checker| checker.keeping(&self.cache));
        finish(kept.and_then(|it| compile(&it, &path, self.plugins.as_deref())))
    }
}

/// Has the service compile all plugins of this machine into its cache.
pub(crate) fn precompile() -> Result<ExitCode, Problem> {
    let checker = LinkChecker::new(None, Some(Path::new(SERVICE)));
    finish(checker.and_then(|it| compile(&it, &SearchPath::below(Path::new("/")), None)))
}

/// Compiles the plugins of the search path, which has only the directory `only` if that is given. Returns the plugins
/// that were not compiled, including those whose mistakes were found before the compilation.
fn compile(
    checker: &LinkChecker,
    path: &SearchPath,
    only: Option<&Path>,
) -> Result<Vec<LinkFailure>, String> {
    let report = check(path).map_err(|error| ErrorChain(&error).to_string())?;
    let mistaken = report.plugins.into_iter().filter_map(|checked| {
        let (stage, mistakes) = checked.failed?;
        Some(LinkFailure { plugin: checked.name.to_string(), stage, mistakes })
    });
    let mut failed: Vec<_> = mistaken.collect();
    failed.extend(checker.check_plugins(only)?);
    failed.sort_by(|one, other| one.plugin.cmp(&other.plugin));
    Ok(failed)
}

fn finish(outcome: Result<Vec<LinkFailure>, String>) -> Result<ExitCode, Problem> {
    let failed = outcome.map_err(|why| Problem::failed(NotCompiled(why)))?;
    for LinkFailure { plugin, stage, mistakes } in &failed {
        complain(&format!("{plugin}: failed at {stage}: {}", mistakes.join("; ")));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
