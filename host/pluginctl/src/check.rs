//! `pluginctl check`: what the daemon would do with its configuration, or with components, and everything that is
//! wrong.

use crate::{
    columns::columns,
    format::{kind, mode_of, route},
    interrupt::Interrupt,
    output::Output,
    print::{self, json_lines, line},
    sandbox_conflict::{DropIn, SandboxConflict, judge},
    search_path::Tree,
    systemctl,
    unit::{UNIT, Unit},
};
use clap::Args;
use plugind::{
    base::{error_chain::ErrorChain, name::PluginName, text::Escaped},
    check::{CheckContext, Checked, Report, check, check_one},
    config::{
        SearchPath,
        settings::{self, Settings},
    },
    plugin::{
        compiler::{Compiler, CompilerLocation},
        grants::grants_of_use,
        scan::{Masked, Scanned, scan_one},
    },
    supervisor::summary::FailedStage,
    systemd::directories::Environment,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// What is checked, and how.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Check these components or directories of plugins (default: the whole configuration)
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tree: Tree,
    /// Neither compile nor link; mistakes of these stages are not found
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

/// What a check compiles with.
struct Tools {
    workshop: CheckContext,
    /// It ends the compilers, with which the check soon ends by itself.
    interrupt: Interrupt,
    /// It is gone, with all that was compiled, when this is.
    _directory: TempDir,
}

/// What the daemon's unit is in the way of.
#[derive(Default)]
struct Hindrances {
    /// Plugins that are linked and then cannot do what they were granted.
    of: BTreeMap<PluginName, Vec<String>>,
    /// What would let all of them.
    drop_in: Option<String>,
}

/// What is said where nothing is compiled, so that nobody takes it for more than it is.
const NOT_COMPILED: &str =
    "nothing was compiled or linked, so that a plugin may fail that is called good here";

impl CheckArgs {
    /// Checks what is asked for.
    pub(crate) fn run(&self) -> Output {
        let mut output = Output::default();
        let settings = settings::read(&self.tree.search_path());
        if let Err(error) = &settings
            && self.paths.is_empty()
        {
            output.is_configuration = true;
            output.mistakes.extend(error.lines());
        }
        let settings = settings.unwrap_or_default();
        let tools = if self.no_compile { Ok(None) } else { self.tools(&settings).map(Some) };
        let tools = tools.unwrap_or_else(|error| {
            output.mistakes.push(format!("{error}; --no-compile judges without it"));
            None
        });
        let workshop = tools.as_ref().map(|tools| &tools.workshop);
        let mut checked = Vec::new();
        match self.paths.as_slice() {
            [] => checked.push(self.check_all(self.tree.search_path(), workshop, &mut output)),
            paths => {
                for path in paths {
                    checked.push(self.check_path(path, workshop, &mut output));
                }
            }
        }
        if let Some(signal) = tools.as_ref().and_then(|tools| tools.interrupt.came()) {
            // What it would say of plugins is wrong: their compilers were ended.
            let mistakes = vec!["interrupted".to_owned()];
            return Output { mistakes, signal: Some(signal), ..Output::default() };
        }
        if self.json {
            let all = match checked.as_slice() {
                [one] => one,
                _ => &Value::Array(checked),
            };
            output.told = json_lines(all);
        }
        if workshop.is_none() && self.no_compile {
            // Loud, and no mistake of what was checked.
            output.notes.push(NOT_COMPILED.to_owned());
        }
        output
    }

    fn tools(&self, settings: &Settings) -> Result<Tools, String> {
        let environment = Environment::read();
        let program = self.compiler.clone().unwrap_or_else(|| environment.compiler());
        if !program.exists() {
            return Err(format!(
                "there is no compiler {}; name it with --compiler",
                program.display()
            ));
        }
        let compile = &settings.compile;
        let compiler = Compiler::new(
            CompilerLocation::Program(program),
            compile.timeout,
            compile.memory_max.0,
        );
        // Before there is anything that would be left behind.
        let ended = compiler.clone();
        let interrupt = Interrupt::watch(move || ended.end())
            .map_err(|error| format!("cannot wait for signals: {error}"))?;
        let directory = tempfile::tempdir()
            .map_err(|error| format!("cannot make a directory to compile in: {error}"))?;
        // Below another root they are where the daemon looks for them, or else, as in an image, not there yet.
        let root = self.tree.root();
        let credentials =
            environment.credentials(root).filter(|path| root.is_none() || path.exists());
        let workshop = CheckContext::new(directory.path(), compiler, settings.engine, credentials)
            .map_err(|error| ErrorChain(&error).to_string())?;
        Ok(Tools { workshop, interrupt, _directory: directory })
    }

    /// The daemon's unit, if it is its configuration that is checked.
    fn unit(&self) -> Result<Option<Unit>, String> {
        match self.paths.is_empty() && self.tree.is_the_machines() && !self.no_unit {
            true => systemctl::unit(),
            false => Ok(None),
        }
    }

    fn check_path(
        &self,
        path: &Path,
        workshop: Option<&CheckContext>,
        output: &mut Output,
    ) -> Value {
        if path.is_dir() {
            let search_path = self.tree.search_path().with_only_plugins(path.to_owned());
            return self.check_all(search_path, workshop, output);
        }
        let Scanned { found, masked, ignored: _ } = match scanned(path) {
            Ok(scanned) => scanned,
            Err(why) => {
                output.mistakes.push(why.clone());
                return json!({ "component": print::path(path), "mistakes": [why] });
            }
        };
        if let Some(masked) = masked.first() {
            if !self.json {
                output.told.push_str(&told_masked(masked));
            }
            return json_masked(masked);
        }
        let checked = found.into_iter().next().and_then(|found| check_one(found, workshop));
        let Some(checked) = checked else { return Value::Null };
        output.mistakes.extend(mistakes(&checked).iter().cloned());
        if !self.json {
            output.told.push_str(&described(path, &checked));
        }
        plugin(&checked)
    }

    fn check_all(
        &self,
        search_path: SearchPath,
        workshop: Option<&CheckContext>,
        output: &mut Output,
    ) -> Value {
        let mut report = match check(&search_path, workshop) {
            Ok(report) => report,
            Err(error) => {
                output.is_configuration = true;
                output.mistakes.push(ErrorChain(&error).to_string());
                return json!({ "mistakes": output.mistakes });
            }
        };
        let own = output.mistakes.clone();
        let unit = self.unit().unwrap_or_else(|why| {
            output.notes.push(why);
            None
        });
        let hindrances =
            unit.map(|unit| Hindrances::among(&mut report.plugins, &unit)).unwrap_or_default();
        for checked in &report.plugins {
            output.mistakes.extend(mistakes(checked).iter().chain(hindrances.of(checked)).cloned());
        }
        output.mistakes.extend(report.strays.iter().cloned());
        if !self.json {
            output.told.push_str(&table(&report, &hindrances));
        }
        let plugin = |checked: &Checked| {
            let mut told = plugin(checked);
            told["mistakes"] =
                mistakes(checked).iter().chain(hindrances.of(checked)).cloned().collect();
            told
        };
        json!({
            "plugins": report.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "drop-in": hindrances.drop_in,
            "masked": report.masked.iter().map(json_masked).collect::<Vec<_>>(),
            "mistakes": own.into_iter().chain(report.strays).collect::<Vec<_>>(),
        })
    }
}

impl Hindrances {
    /// Finds them, and has plugins fail that would not be linked.
    fn among(plugins: &mut [Checked], unit: &Unit) -> Self {
        let (mut of, mut drop_in) = (BTreeMap::new(), DropIn::default());
        for checked in plugins {
            let Some((_, manifest, _)) = &checked.verified else { continue };
            let found = judge(&checked.name, &manifest.grants, unit, &mut drop_in);
            let (at_link, later): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|hindrance| hindrance.at_link);
            let told =
                |found: Vec<SandboxConflict>| found.into_iter().map(|hindrance| hindrance.told);
            if !at_link.is_empty() {
                let (_, lines) =
                    checked.failed.get_or_insert_with(|| (FailedStage::Link, Vec::new()));
                lines.extend(told(at_link));
            }
            if !later.is_empty() {
                of.insert(checked.name.clone(), told(later).collect());
            }
        }
        Self { of, drop_in: drop_in.text() }
    }

    /// What is told of a plugin.
    fn of(&self, checked: &Checked) -> &[String] {
        self.of.get(&checked.name).map_or(&[], Vec::as_slice)
    }
}

/// A component where it lies on a developer's machine, with what lies beside it.
fn scanned(path: &Path) -> Result<Scanned, String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // What cargo builds has underscores where a plugin's name has hyphens.
    let name = stem.to_lowercase().replace('_', "-");
    let name =
        name.parse().map_err(|error| format!("{}: {error}; rename the file", path.display()))?;
    Ok(scan_one(name, path))
}

fn told_masked(Masked { name, by }: &Masked) -> String {
    line(&format!("{name} is masked by {}", by.display()))
}

fn json_masked(Masked { name, by }: &Masked) -> Value {
    json!({ "name": name.as_str(), "by": print::path(by) })
}

fn mistakes(checked: &Checked) -> &[String] {
    checked.failed.as_ref().map_or(&[], |(_, mistakes)| mistakes)
}

fn table(report: &Report, hindrances: &Hindrances) -> String {
    let row = |checked: &Checked| {
        let result = match &checked.failed {
            None if !hindrances.of(checked).is_empty() => "hindered".to_owned(),
            None => "ok".to_owned(),
            Some((stage, _)) => format!("fails at {stage}"),
        };
        let verified = checked.verified.as_ref();
        let routes: Vec<_> = checked.wishes.iter().map(|(route, _)| route.to_string()).collect();
        vec![
            checked.name.to_string(),
            result,
            verified.map_or("-", |(_, _, offers)| kind(offers)).to_owned(),
            mode_of(checked).unwrap_or("-").to_owned(),
            if routes.is_empty() { "-".to_owned() } else { routes.join(" ") },
        ]
    };
    let rows: Vec<_> = report.plugins.iter().map(row).collect();
    let mut told = match rows.is_empty() {
        true => "no plugins\n".to_owned(),
        false => columns(&["PLUGIN", "RESULT", "KIND", "MODE", "ROUTES"], rows),
    };
    told.extend(report.masked.iter().map(told_masked));
    if let Some(drop_in) = &hindrances.drop_in {
        let file = format!("/etc/systemd/system/{UNIT}.d/grants.conf");
        // A whole file, to be redirected or pasted as it is.
        let how = "then `systemctl daemon-reload` and `systemctl restart plugind`";
        writeln!(told, "\n# {file} would let plugins do what they were granted; {how}\n{drop_in}")
            .ok();
    }
    told
}

fn described(path: &Path, checked: &Checked) -> String {
    let mut told = line(&path.to_string_lossy());
    let Some((_, manifest, offers)) = &checked.verified else { return String::new() };
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(told, "  {name:<9} {}", Escaped(value)).ok();
    };
    line("kind", kind(offers));
    let routes: Vec<_> = checked.wishes.iter().map(|(route, _)| route.to_string()).collect();
    match mode_of(checked) {
        Some(mode) => {
            line("served as", &format!("{}, at {}", checked.name, routes.join(" ")));
            line("instances", mode);
        }
        None => line("served as", &format!("{}, without a route", checked.name)),
    }
    line("required", if manifest.required { "yes" } else { "no" });
    let own = "its own";
    line("lifecycle", if offers.lifecycle { own } else { "none: ready once it is instantiated" });
    if offers.handover {
        line("handover", "its state goes to its next version");
    }
    let grants = grants_of_use(&offers.imports).join(", ");
    line("can use", if grants.is_empty() { "no grants" } else { &grants });
    for (name, interfaces) in [("imports", &offers.imports), ("exports", &offers.exports)] {
        for (nth, interface) in interfaces.iter().enumerate() {
            line(if nth == 0 { name } else { "" }, interface);
        }
    }
    told
}

fn plugin(checked: &Checked) -> Value {
    let verified = checked.verified.as_ref();
    let offers = verified.map(|(_, _, offers)| offers);
    let digest = verified
        .map(|(digest, _, _)| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    json!({
        "name": checked.name.as_str(),
        "component": print::path(&checked.component),
        "sha256": digest,
        "kind": offers.map(kind),
        "mode": mode_of(checked),
        "required": verified.map(|(_, manifest, _)| manifest.required),
        "lifecycle": offers.map(|offers| offers.lifecycle),
        "handover": offers.map(|offers| offers.handover),
        "grants-of-use": offers.map(|offers| grants_of_use(&offers.imports)),
        "imports": offers.map(|offers| &offers.imports),
        "exports": offers.map(|offers| &offers.exports),
        "routes": checked.wishes.iter().map(route).collect::<Vec<_>>(),
        "fails-at": checked.failed.as_ref().map(|(stage, _)| stage.to_string()),
        "mistakes": mistakes(checked),
    })
}
