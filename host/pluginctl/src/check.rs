//! `pluginctl check`: a dry run of the daemon's configuration, or of components, which reports everything that is
//! wrong.

mod acl;
mod conflicts;
mod file_access;
mod limits;
mod project_check;
mod report;

use crate::{
    check::{
        conflicts::Conflicts,
        file_access::UnreadableFiles,
        limits::ResourceLimits,
        project_check::{is_manifest, link_project, project_of},
        report::{describe_masked, described, json_masked, mistakes, plugin_json, table},
    },
    link_check::LinkChecker,
    output::Output,
    print::json_lines,
    project::{FILE, Project, ProjectError},
    run::served::note_of_name,
    search_path::SearchPathArgs,
    systemctl,
    unit::Unit,
};
use clap::Args;
use plugind::{
    api::FailedStage,
    base::{error_chain::ErrorChain, quantity::Bytes},
    check::{
        Checked, LinkFailure, check, check_one, component_limits, component_name, find_component,
    },
    config::settings::{self, COMPILE_MEMORY_MIN, Settings},
    plugin::scan::Scanned,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Instant,
};

/// The subject of the check, and its options.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Check these components, projects or directories (default: the project in this directory, or the configuration)
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tree: SearchPathArgs,
    /// Do not compile and link; mistakes of these stages are not found
    #[arg(long)]
    no_compile: bool,
    /// Do not compare grants, access to files and limits with the units
    #[arg(long)]
    no_unit: bool,
    /// Use this program as the compiler (default: plugind-compile)
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Printed if nothing is compiled, so that the result is not overestimated.
const NOT_COMPILED: &str =
    "nothing was compiled or linked; a plugin with the result ok may still fail at these stages";

impl CheckArgs {
    /// Runs the check.
    pub(crate) fn run(&self) -> Output {
        if let Some(mistake) = self.tree.mistake() {
            return Output::of_configuration(mistake.to_string());
        }
        let mut output = Output::default();
        let paths = self.paths();
        if let Err(error) = settings::read(&self.tree.search_path())
            && paths.is_empty()
        {
            output.is_configuration = true;
            output.mistakes.extend(error.lines());
        }
        let mut linking = Linking::Skipped;
        if !self.no_compile {
            let mut checker = LinkChecker::new(&self.tree, self.compiler.as_deref());
            match self.compile_memory_max() {
                Some(max) if max < COMPILE_MEMORY_MIN => output.mistakes.push(format!(
                    "MemoryMax= of plugind-compile@.service must be at least {COMPILE_MEMORY_MIN} to compile anything, \
                     not {max}"
                )),
                Some(max) => {
                    checker = checker.map(|checker| checker.with_memory_max(max));
                    output.notes.push(format!(
                        "a compilation may use {max} of memory, by MemoryMax= of plugind-compile@.service"
                    ));
                }
                None => (),
            }
            linking = checker.map_or_else(|error| unable(error, &mut output), Linking::Possible);
        }
        let checked: Vec<_> = match paths.as_slice() {
            [] => vec![self.check_all(None, &mut linking, &mut output)],
            paths => {
                paths.iter().map(|path| self.check_path(path, &mut linking, &mut output)).collect()
            }
        };
        if let Linking::Possible(checker) = &linking
            && let Some(signal) = checker.interrupted()
        {
            return interrupted(signal);
        }
        if self.json {
            let all = match checked.as_slice() {
                [one] => one,
                _ => &Value::Array(checked),
            };
            output.reported = json_lines(all);
        }
        if self.no_compile {
            // It must be noticed, but is not a mistake in the checked files.
            output.notes.push(NOT_COMPILED.to_owned());
        }
        output
    }

    /// The paths that are checked: in the directory of a project, the project is meant.
    fn paths(&self) -> Vec<PathBuf> {
        let here = Path::new(".");
        match self.paths.is_empty() && self.tree.is_system() && here.join(FILE).exists() {
            true => vec![here.to_owned()],
            false => self.paths.clone(),
        }
    }

    /// The unit of the daemon, if it is its configuration that is checked.
    fn unit(&self) -> Result<Option<Unit>, String> {
        match self.paths.is_empty() && self.tree.is_system() && !self.no_unit {
            true => systemctl::unit(),
            false => Ok(None),
        }
    }

    fn check_path(&self, path: &Path, linking: &mut Linking, output: &mut Output) -> Value {
        match project_of(path) {
            Ok(Some(project)) => return self.check_project(&project, linking, output),
            Ok(None) => (),
            Err(error) => {
                output.mistakes.extend(error.lines());
                return Value::Null;
            }
        }
        if path.is_dir() {
            return self.check_all(Some(path), linking, output);
        }
        let component =
            if is_manifest(path) { path.with_extension("wasm") } else { path.to_owned() };
        // The manifest as well: without it, the component alone would be checked.
        let missing = |path: &Path| Some((path.to_owned(), path.symlink_metadata().err()?));
        if let Some((path, error)) = [path, &component].into_iter().find_map(missing) {
            output.mistakes.push(format!("cannot read {}: {error}", path.display()));
            return Value::Null;
        }
        let path = &*component;
        let name = component_name(path);
        if path.file_stem().is_none_or(|stem| stem != name.as_str()) {
            output.notes.push(note_of_name(&name, path));
        }
        let Scanned { found, masked, ignored: _ } = find_component(path);
        if let Some(masked) = masked.first() {
            if !self.json {
                output.reported.push_str(&describe_masked(masked));
            }
            return json_masked(masked);
        }
        let limits = component_limits(&self.tree.search_path());
        let checked = found.into_iter().next().and_then(|found| check_one(found, &limits));
        let Some(mut checked) = checked else {
            return Value::Null;
        };
        let check = |checker: &LinkChecker| checker.check_component(path);
        let begun = Instant::now();
        link(std::slice::from_mut(&mut checked), linking, output, check);
        let took = matches!(linking, Linking::Possible(_)).then(|| begun.elapsed());
        output.mistakes.extend(mistakes(&checked).iter().cloned());
        if !self.json {
            output.reported.push_str(&described(path, &checked, took));
        }
        plugin_json(&checked)
    }

    /// Checks the component of a project under the name of its plugin, with its manifest.
    fn check_project(
        &self,
        project: &Project,
        linking: &mut Linking,
        output: &mut Output,
    ) -> Value {
        if !project.component.exists() {
            let manifest = project.check_manifest().err();
            output.mistakes.extend(manifest.iter().flat_map(ProjectError::lines));
            let message = "does not exist; create it with `pluginctl build`";
            output.mistakes.push(format!("{} {message}", project.component.display()));
            return Value::Null;
        }
        let limits = component_limits(&self.tree.search_path());
        let Some(mut checked) = check_one(project.found(), &limits) else { return Value::Null };
        let begun = Instant::now();
        link(std::slice::from_mut(&mut checked), linking, output, |checker| {
            link_project(project, checker).map_err(|error| error.to_string())
        });
        let took = matches!(linking, Linking::Possible(_)).then(|| begun.elapsed());
        output.mistakes.extend(mistakes(&checked).iter().cloned());
        if !self.json {
            output.reported.push_str(&described(&project.component, &checked, took));
        }
        plugin_json(&checked)
    }

    /// Checks all plugins, or those in one directory.
    fn check_all(
        &self,
        directory: Option<&Path>,
        linking: &mut Linking,
        output: &mut Output,
    ) -> Value {
        let directory = directory.or(self.tree.plugins());
        let mut report = match check(&self.tree.search_path_of(directory)) {
            Ok(report) => report,
            Err(error) => {
                output.is_configuration = true;
                output.mistakes.push(ErrorChain(&error).to_string());
                return json!({ "mistakes": output.mistakes });
            }
        };
        let check = |checker: &LinkChecker| checker.check_plugins(directory);
        link(&mut report.plugins, linking, output, check);
        let unit = self.unit().unwrap_or_else(|why| {
            output.notes.push(why);
            None
        });
        let settings = self.settings();
        self.compare(&mut report.plugins, settings.as_ref(), unit.as_ref(), output);
        let conflicts =
            unit.map(|unit| Conflicts::find(&mut report.plugins, settings.as_ref(), &unit));
        let conflicts = conflicts.unwrap_or_default();
        output.is_configuration |= conflicts.settings.iter().any(|conflict| conflict.at_link);
        output.mistakes.extend(conflicts.settings.iter().map(|conflict| conflict.reported.clone()));
        let own = output.mistakes.clone();
        for checked in &report.plugins {
            output.mistakes.extend(mistakes(checked).iter().chain(conflicts.of(checked)).cloned());
        }
        output.mistakes.extend(report.ignored.iter().cloned());
        if !self.json {
            output.reported.push_str(&table(&report, &conflicts));
        }
        let plugin = |checked: &Checked| {
            let mut reported = plugin_json(checked);
            reported["mistakes"] =
                mistakes(checked).iter().chain(conflicts.of(checked)).cloned().collect();
            reported
        };
        json!({
            "plugins": report.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "drop-in": conflicts.drop_in,
            "masked": report.masked.iter().map(json_masked).collect::<Vec<_>>(),
            "mistakes": own.into_iter().chain(report.ignored).collect::<Vec<_>>(),
        })
    }
}

impl CheckArgs {
    /// Compares the plugins with what the unit lets the daemon read, and with the limits of the unit and of the settings.
    fn compare(
        &self,
        plugins: &mut [Checked],
        settings: Option<&Settings>,
        unit: Option<&Unit>,
        output: &mut Output,
    ) {
        if let Some(unit) = unit {
            let mut unreadable = UnreadableFiles::find(&self.tree.search_path(), unit);
            output.is_configuration |= !unreadable.configuration.is_empty();
            output.mistakes.append(&mut unreadable.configuration);
            for checked in plugins.iter_mut() {
                let Some(mistakes) = unreadable.plugins.remove(&checked.name) else { continue };
                let verify = || (FailedStage::Verify, Vec::new());
                checked.failed.get_or_insert_with(verify).1.extend(mistakes);
            }
        }
        if let Some(settings) = settings {
            let processors = available_parallelism().map_or(1, usize::from) as u64;
            let limits = ResourceLimits { settings, unit, processors };
            output.mistakes.extend(limits.find(plugins));
        }
    }

    /// The settings, unless they have mistakes, which were reported before, or other plugins than those of the machine
    /// are checked, which have other settings.
    fn settings(&self) -> Option<Settings> {
        if !self.paths.is_empty() {
            return None;
        }
        settings::read(&self.tree.search_path()).ok()
    }

    /// The memory that the unit of the compiler has, if that is less than the settings allow.
    fn compile_memory_max(&self) -> Option<Bytes> {
        if !self.paths().is_empty() || !self.tree.is_system() || self.no_unit {
            return None;
        }
        let max = systemctl::compile_memory_max()?;
        let settings = settings::read(&self.tree.search_path()).ok()?;
        (max < settings.compile.memory_max).then_some(max)
    }
}

/// Whether plugins are compiled and linked.
enum Linking {
    /// They are not: because of `--no-compile`, or of a failure that was reported.
    Skipped,
    /// They are, by this checker.
    Possible(LinkChecker),
}

/// Reports why plugins cannot be compiled and linked.
fn unable(error: String, output: &mut Output) -> Linking {
    output.mistakes.push(format!("{error}; --no-compile checks everything else"));
    Linking::Skipped
}

/// Compiles and links plugins, unless all have failed already, and notes those that fail.
fn link(
    plugins: &mut [Checked],
    linking: &mut Linking,
    output: &mut Output,
    check: impl Fn(&LinkChecker) -> Result<Vec<LinkFailure>, String>,
) {
    let Linking::Possible(checker) = linking else { return };
    if checker.interrupted().is_some() || plugins.iter().all(|checked| checked.failed.is_some()) {
        return;
    }
    match check(checker) {
        Ok(failures) => {
            for LinkFailure { plugin, stage, mistakes } in failures {
                let same = |checked: &&mut Checked| checked.name.as_str() == plugin;
                if let Some(checked) = plugins.iter_mut().find(same) {
                    checked.failed.get_or_insert((stage, mistakes));
                }
            }
        }
        // A signal is reported once, at the end.
        Err(_) if checker.interrupted().is_some() => (),
        Err(error) => *linking = unable(error, output),
    }
}

/// Returns the output of an interrupted check, without results: the compilers were ended.
fn interrupted(signal: u8) -> Output {
    let mistakes = vec!["interrupted".to_owned()];
    Output { mistakes, signal: Some(signal), ..Output::default() }
}
