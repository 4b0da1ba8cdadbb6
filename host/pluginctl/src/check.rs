//! `pluginctl check`: a dry run of the daemon's configuration, or of components, which reports everything that is
//! wrong.

mod project_check;

use crate::{
    columns::columns,
    format::{kind, mode_of, route},
    link_check::LinkChecker,
    output::Output,
    print::{self, json_lines, line},
    project::{FILE, Project, ProjectError},
    run::served::note_of_name,
    sandbox_conflict::{DropIn, SandboxConflict, find_conflicts},
    search_path::Tree,
    systemctl,
    unit::{UNIT, Unit},
};
use clap::Args;
use plugind::{
    api::FailedStage,
    base::{error_chain::ErrorChain, name::PluginName, quantity::Bytes, text::Escaped},
    check::{Checked, LinkFailure, Report, check, check_one, component_name, find_component},
    config::settings,
    plugin::{
        grants::{grants_of_use, uses_of_grants},
        scan::{Masked, Scanned},
        verify::Verified,
    },
};
use project_check::{is_manifest, link_project, project_of};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The subject of the check, and its options.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Check these components or directories of plugins (default: the whole configuration)
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tree: Tree,
    /// Do not compile and link; mistakes of these stages are not found
    #[arg(long)]
    no_compile: bool,
    /// Do not compare the grants with the unit of the daemon
    #[arg(long)]
    no_unit: bool,
    /// Use this program as the compiler (default: plugind-compile)
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plugins whose grants the unit of the daemon does not permit.
#[derive(Default)]
struct Conflicts {
    /// Plugins that link and then cannot use their grants.
    later: BTreeMap<PluginName, Vec<String>>,
    /// The drop-in that would permit all of them.
    drop_in: Option<String>,
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
            let checker = LinkChecker::new(&self.tree, self.compiler.as_deref());
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
        let component = path.with_extension("wasm");
        let path = if is_manifest(path) { &component } else { path };
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
        let Some(mut checked) = found.into_iter().next().and_then(check_one) else {
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
        plugin(&checked)
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
        let Some(mut checked) = check_one(project.found()) else { return Value::Null };
        let begun = Instant::now();
        link(std::slice::from_mut(&mut checked), linking, output, |checker| {
            link_project(project, checker).map_err(|error| error.to_string())
        });
        let took = matches!(linking, Linking::Possible(_)).then(|| begun.elapsed());
        output.mistakes.extend(mistakes(&checked).iter().cloned());
        if !self.json {
            output.reported.push_str(&described(&project.component, &checked, took));
        }
        plugin(&checked)
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
        let own = output.mistakes.clone();
        let unit = self.unit().unwrap_or_else(|why| {
            output.notes.push(why);
            None
        });
        let conflicts =
            unit.map(|unit| Conflicts::find(&mut report.plugins, &unit)).unwrap_or_default();
        for checked in &report.plugins {
            output.mistakes.extend(mistakes(checked).iter().chain(conflicts.of(checked)).cloned());
        }
        output.mistakes.extend(report.ignored.iter().cloned());
        if !self.json {
            output.reported.push_str(&table(&report, &conflicts));
        }
        let plugin = |checked: &Checked| {
            let mut reported = plugin(checked);
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

impl Conflicts {
    /// Finds them. Plugins that the daemon could not even link have failed.
    fn find(plugins: &mut [Checked], unit: &Unit) -> Self {
        let (mut all, mut drop_in) = (BTreeMap::new(), DropIn::default());
        for checked in plugins {
            let Some(verified) = &checked.verified else { continue };
            let found =
                find_conflicts(&checked.name, &verified.manifest().grants, unit, &mut drop_in);
            let (at_link, later): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|conflict| conflict.at_link);
            let reported =
                |found: Vec<SandboxConflict>| found.into_iter().map(|conflict| conflict.reported);
            if !at_link.is_empty() {
                let (_, lines) =
                    checked.failed.get_or_insert_with(|| (FailedStage::Link, Vec::new()));
                lines.extend(reported(at_link));
            }
            if !later.is_empty() {
                all.insert(checked.name.clone(), reported(later).collect());
            }
        }
        Self { later: all, drop_in: drop_in.text() }
    }

    /// Returns the messages about a plugin.
    fn of(&self, checked: &Checked) -> &[String] {
        self.later.get(&checked.name).map_or(&[], Vec::as_slice)
    }
}

fn describe_masked(Masked { name, by }: &Masked) -> String {
    line(&format!("{name} is masked by {}", by.display()))
}

fn json_masked(Masked { name, by }: &Masked) -> Value {
    json!({ "name": name.as_str(), "by": print::path(by) })
}

fn mistakes(checked: &Checked) -> &[String] {
    checked.failed.as_ref().map_or(&[], |(_, mistakes)| mistakes)
}

fn table(report: &Report, conflicts: &Conflicts) -> String {
    let row = |checked: &Checked| {
        let result = match &checked.failed {
            None if !conflicts.of(checked).is_empty() => "blocked by unit".to_owned(),
            None => "ok".to_owned(),
            Some((stage, _)) => format!("fails at {stage}"),
        };
        let verified = checked.verified.as_ref();
        let routes: Vec<_> = checked.routes.iter().map(|(route, _)| route.to_string()).collect();
        vec![
            checked.name.to_string(),
            result,
            verified.map_or("-", |verified| kind(verified.inspection())).to_owned(),
            mode_of(checked).unwrap_or("-").to_owned(),
            if routes.is_empty() { "-".to_owned() } else { routes.join(" ") },
        ]
    };
    let rows: Vec<_> = report.plugins.iter().map(row).collect();
    let mut reported = match rows.is_empty() {
        true => "no plugins\n".to_owned(),
        false => columns(&["PLUGIN", "RESULT", "KIND", "MODE", "ROUTES"], rows),
    };
    reported.extend(report.masked.iter().map(describe_masked));
    if let Some(drop_in) = &conflicts.drop_in {
        let file = format!("/etc/systemd/system/{UNIT}.d/grants.conf");
        // A whole file, to be redirected or pasted as it is.
        let how = "then `systemctl daemon-reload` and `systemctl restart plugind`";
        writeln!(
            reported,
            "\n# To allow these grants, write this drop-in to {file}, {how}\n{drop_in}"
        )
        .ok();
    }
    reported
}

fn described(path: &Path, checked: &Checked, took: Option<Duration>) -> String {
    let mut reported = line(&path.to_string_lossy());
    let Some(verified) = &checked.verified else { return String::new() };
    let (manifest, inspection) = (verified.manifest(), verified.inspection());
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(reported, "  {name:<9} {}", Escaped(value)).ok();
    };
    line("kind", kind(inspection));
    if let Some(export) = inspection.unused_export() {
        line("unused", &format!("export {export}, because the component has a handler"));
    }
    if let Ok(metadata) = fs::metadata(path) {
        line("size", &rounded(Bytes(metadata.len())).to_string());
    }
    let (first, most) =
        (rounded(inspection.footprint.bytes()), manifest.limits.instance_memory_max);
    line("memory", &format!("each instance begins with {first}, and may have {most}"));
    if let Some(took) = took.filter(|_| checked.failed.is_none()) {
        line("compile", &format!("{:.1} s to compile and link it", took.as_secs_f64()));
    }
    let routes: Vec<_> = checked.routes.iter().map(|(route, _)| route.to_string()).collect();
    match mode_of(checked) {
        Some(_) if routes.is_empty() && inspection.is_middleware() => {
            let how = format!("name it in middleware = [\"{}\"] of another plugin", checked.name);
            line("served as", &format!("{}, middleware without a route: {how}", checked.name));
        }
        Some(mode) if routes.is_empty() => {
            line("served as", &format!("{}, without a route", checked.name));
            line("instances", mode);
        }
        Some(mode) => {
            line("served as", &format!("{}, at {}", checked.name, routes.join(" ")));
            line("instances", mode);
        }
        None => line("served as", &format!("{}, without a route", checked.name)),
    }
    line("required", if manifest.required { "yes" } else { "no" });
    let own = "its own";
    let none = "none: ready once it is instantiated; `wac plug` drops this export";
    line("lifecycle", if inspection.lifecycle { own } else { none });
    if inspection.handover {
        line("handover", "its state goes to its next version");
    }
    let uses = uses_of_grants(&inspection.imports);
    if uses.is_empty() {
        line("can use", "no grants");
    }
    for (nth, (grant, imports)) in uses.iter().enumerate() {
        let granted = if manifest.grants.has(*grant) { ", granted" } else { "" };
        let what = format!("{}  # {}{granted}", grant.example(), imports.join(", "));
        line(if nth == 0 { "[grants]" } else { "" }, &what);
    }
    for (name, interfaces) in [("imports", &inspection.imports), ("exports", &inspection.exports)] {
        for (nth, interface) in interfaces.iter().enumerate() {
            line(if nth == 0 { name } else { "" }, interface);
        }
    }
    reported
}

/// In whole KiB or MiB, as limits are written.
fn rounded(Bytes(bytes): Bytes) -> Bytes {
    let unit = if bytes < 1 << 20 { 1 << 10 } else { 1 << 20 };
    Bytes(bytes.div_ceil(unit).saturating_mul(unit))
}

fn plugin(checked: &Checked) -> Value {
    let verified = checked.verified.as_ref();
    let inspection = verified.map(Verified::inspection);
    let digest = verified.map(|verified| {
        verified.digest().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    json!({
        "name": checked.name.as_str(),
        "component": print::path(&checked.component),
        "sha256": digest,
        "kind": inspection.map(kind),
        "mode": mode_of(checked),
        "required": verified.map(|verified| verified.manifest().required),
        "memory": inspection.map(|inspection| inspection.footprint.bytes().0),
        "lifecycle": inspection.map(|inspection| inspection.lifecycle),
        "handover": inspection.map(|inspection| inspection.handover),
        "grants-of-use": inspection.map(|inspection| grants_of_use(&inspection.imports)),
        "imports": inspection.map(|inspection| &inspection.imports),
        "exports": inspection.map(|inspection| &inspection.exports),
        "routes": checked.routes.iter().map(route).collect::<Vec<_>>(),
        "fails-at": checked.failed.as_ref().map(|(stage, _)| stage.to_string()),
        "mistakes": mistakes(checked),
    })
}
