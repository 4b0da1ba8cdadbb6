//! `pluginctl compile` and `precompile`: compile plugins before a daemon needs them.

use crate::{
    link_check::LinkChecker, print::complain, problem::Problem, search_path::SearchPathArgs,
};
use plugind::{
    base::error_chain::ErrorChain,
    check::{LinkFailure, check},
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
    #[command(flatten)]
    tree: SearchPathArgs,
    /// Use this program as the compiler (default: plugind-compile)
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
}

/// Nothing could be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotCompiled(String);

impl CompileArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        if let Some(mistake) = self.tree.mistake() {
            return Err(Problem::failed(mistake));
        }
        let checker = LinkChecker::new(&self.tree, self.compiler.as_deref());
        let kept = checker.map(|checker| checker.keeping(&self.cache));
        finish(kept.and_then(|it| compile(&it, &self.tree.search_path(), self.tree.plugins())))
    }
}

/// Has the service compile all plugins of this machine into its cache.
pub(crate) fn precompile() -> Result<ExitCode, Problem> {
    let tree = SearchPathArgs::of_the_machine();
    let checker = LinkChecker::new(&tree, Some(Path::new(SERVICE)));
    finish(checker.and_then(|it| compile(&it, &tree.search_path(), None)))
}

/// Compiles the plugins of the search path, which has only the directory `only` if that is given. Returns the plugins
/// that were not compiled, including those whose mistakes were found before the compilation.
fn compile(
    checker: &LinkChecker,
    path: &SearchPath,
    only: Option<&Path>,
) -> Result<Vec<LinkFailure>, String> {
    let report = check(path).map_err(|error| ErrorChain(&error).to_string())?;
    report.ignored.iter().for_each(|ignored| complain(ignored));
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
