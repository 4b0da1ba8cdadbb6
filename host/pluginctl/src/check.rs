//! `pluginctl check`: what the daemon would do with its configuration, or with components, and everything that is
//! wrong.

use crate::{
    columns::columns,
    output::Output,
    shown::{kind, mode_of, route},
    tree::Tree,
};
use clap::Args;
use plugind::{
    chain::Chain,
    check::{Checked, Report, Workshop, check, check_one},
    config::SearchPath,
    environment::Environment,
    plugin::{
        compile::Compiler,
        manifest::grants_of_use,
        scan::{Found, Masked},
    },
    settings::{self, Settings},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// What is checked, and how.
#[derive(Args)]
pub(crate) struct Check {
    /// Components, or directories of them; without any the configuration as a whole
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tree: Tree,
    /// Neither compiles nor links, so that nothing is known of what only that would show
    #[arg(long)]
    no_compile: bool,
    /// The program that compiles components
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// Prints for programs
    #[arg(long)]
    json: bool,
}

/// What is said where nothing is compiled, so that nobody takes it for more than it is.
const NOT_COMPILED: &str =
    "nothing was compiled or linked, so that a plugin may fail that is called good here";

impl Check {
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
        // It is gone, with all that was compiled, when this returns.
        let directory = tempfile::tempdir();
        let workshop = match (&directory, self.no_compile) {
            (_, true) => Ok(None),
            (Ok(directory), false) => self.workshop(directory.path(), &settings).map(Some),
            (Err(error), false) => Err(format!("cannot make a directory to compile in: {error}")),
        };
        let workshop = workshop.unwrap_or_else(|error| {
            output.mistakes.push(format!("{error}; --no-compile judges without it"));
            None
        });
        let mut checked = Vec::new();
        match self.paths.as_slice() {
            [] => checked.push(self.check_all(
                self.tree.search_path(),
                workshop.as_ref(),
                &mut output,
            )),
            paths => {
                for path in paths {
                    checked.push(self.check_path(path, workshop.as_ref(), &mut output));
                }
            }
        }
        if self.json {
            let all = match checked.as_slice() {
                [one] => one,
                _ => &Value::Array(checked),
            };
            output.told = format!("{all:#}\n");
        }
        if workshop.is_none() && self.no_compile {
            // Loud, and no mistake of what was checked.
            output.notes.push(NOT_COMPILED.to_owned());
        }
        output
    }

    fn workshop(&self, directory: &Path, settings: &Settings) -> Result<Workshop, String> {
        let environment = Environment::read();
        let program = self.compiler.clone().unwrap_or_else(|| environment.compiler());
        if !program.exists() {
            return Err(format!(
                "there is no compiler {}; name it with --compiler",
                program.display()
            ));
        }
        let compile = &settings.compile;
        let compiler = Compiler::new(program, compile.timeout, compile.memory_max.0);
        Workshop::new(directory, compiler, environment.credentials(None))
            .map_err(|error| Chain(&error).to_string())
    }

    fn check_path(&self, path: &Path, workshop: Option<&Workshop>, output: &mut Output) -> Value {
        if path.is_dir() {
            let search_path = self.tree.search_path().with_only_plugins(path.to_owned());
            return self.check_all(search_path, workshop, output);
        }
        match found(path).map(|found| check_one(found, workshop)) {
            Ok(Some(checked)) => {
                output.mistakes.extend(mistakes(&checked).iter().cloned());
                if !self.json {
                    output.told.push_str(&described(path, &checked));
                }
                plugin(&checked)
            }
            Ok(None) => Value::Null,
            Err(why) => {
                output.mistakes.push(why.clone());
                json!({ "component": path, "mistakes": [why] })
            }
        }
    }

    fn check_all(
        &self,
        search_path: SearchPath,
        workshop: Option<&Workshop>,
        output: &mut Output,
    ) -> Value {
        let report = match check(&search_path, workshop) {
            Ok(report) => report,
            Err(error) => {
                output.is_configuration = true;
                output.mistakes.push(Chain(&error).to_string());
                return json!({ "mistakes": output.mistakes });
            }
        };
        let own = output.mistakes.clone();
        output.mistakes.extend(report.plugins.iter().flat_map(mistakes).cloned());
        output.mistakes.extend(report.strays.iter().cloned());
        if !self.json {
            output.told.push_str(&table(&report));
        }
        let masked = |masked: &Masked| json!({ "name": masked.name.as_str(), "by": masked.by });
        json!({
            "plugins": report.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "masked": report.masked.iter().map(masked).collect::<Vec<_>>(),
            "mistakes": own.into_iter().chain(report.strays).collect::<Vec<_>>(),
        })
    }
}

/// A component where it lies on a developer's machine, with what lies beside it.
fn found(path: &Path) -> Result<Found, String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // What cargo builds has underscores where a plugin's name has hyphens.
    let name = stem.to_lowercase().replace('_', "-");
    let name =
        name.parse().map_err(|error| format!("{}: {error}; rename the file", path.display()))?;
    let manifest = path.with_extension("toml");
    let drop_ins = path.with_extension("toml.d");
    Ok(Found {
        name,
        component: path.to_owned(),
        manifest: Some(manifest).filter(|manifest| manifest.exists()),
        drop_ins: vec![drop_ins],
    })
}

fn mistakes(checked: &Checked) -> &[String] {
    checked.failed.as_ref().map_or(&[], |(_, mistakes)| mistakes)
}

fn table(report: &Report) -> String {
    let row = |checked: &Checked| {
        let result = match &checked.failed {
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
    for Masked { name, by } in &report.masked {
        // Writing to a String cannot fail.
        writeln!(told, "{name} is masked by {}", by.display()).ok();
    }
    told
}

fn described(path: &Path, checked: &Checked) -> String {
    let mut told = format!("{}\n", path.display());
    let Some((_, manifest, offers)) = &checked.verified else { return String::new() };
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(told, "  {name:<9} {value}").ok();
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
        "component": checked.component,
        "sha256": digest,
        "kind": offers.map(kind),
        "mode": mode_of(checked),
        "required": verified.map(|(_, manifest, _)| manifest.required),
        "lifecycle": offers.map(|offers| offers.lifecycle),
        "grants-of-use": offers.map(|offers| grants_of_use(&offers.imports)),
        "imports": offers.map(|offers| &offers.imports),
        "exports": offers.map(|offers| &offers.exports),
        "routes": checked.wishes.iter().map(route).collect::<Vec<_>>(),
        "fails-at": checked.failed.as_ref().map(|(stage, _)| stage.to_string()),
        "mistakes": mistakes(checked),
    })
}
