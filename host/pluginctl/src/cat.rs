//! `pluginctl cat`: the effective manifest, or plugind.toml, with the origin of each value.

use crate::{
    output::Output,
    print::{self, json_lines},
    search_path::SearchPathArgs,
};
use clap::Args;
use plugind::{
    base::{error_chain::ErrorChain, name::PluginName, text::Escaped},
    config::{Document, Setting, settings},
    plugin::{
        scan::{Scanned, scan},
        verify::manifest_of,
        verify_error::VerifyError,
    },
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The text to print: its subject and its format.
#[derive(Args)]
pub(crate) struct CatArgs {
    /// Print the manifest of this plugin (default: plugind.toml)
    #[arg(value_name = "NAME")]
    plugin: Option<PluginName>,
    #[command(flatten)]
    tree: SearchPathArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CatArgs {
    /// Reads the manifest or plugind.toml.
    pub(crate) fn run(&self) -> Output {
        if let Some(mistake) = self.tree.mistake() {
            return Output::of_configuration(mistake.to_string());
        }
        let (mistakes, is_configuration) = match &self.plugin {
            Some(name) => match self.manifest(name) {
                Ok(reported) => return Output { reported, ..Output::default() },
                Err(mistakes) => (mistakes, false),
            },
            None => match self.settings() {
                Ok(reported) => return Output { reported, ..Output::default() },
                Err(mistakes) => (mistakes, true),
            },
        };
        Output { mistakes, is_configuration, ..Output::default() }
    }

    fn settings(&self) -> Result<String, Vec<String>> {
        let document =
            settings::document(&self.tree.search_path()).map_err(|error| error.lines())?;
        self.shown(None, &document)
    }

    fn manifest(&self, name: &PluginName) -> Result<String, Vec<String>> {
        let Scanned { found, masked, .. } =
            scan(&self.tree.search_path()).map_err(|error| vec![ErrorChain(&error).to_string()])?;
        if let Some(masked) = masked.iter().find(|masked| masked.name == *name) {
            return Err(vec![format!("the plugin {name} is masked by {}", masked.by.display())]);
        }
        let known: Vec<_> = found.iter().map(|found| found.name.to_string()).collect();
        let Some(found) = found.iter().find(|found| found.name == *name) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(vec![format!("there is no plugin {name}; known plugins: {known}")]);
        };
        let document = manifest_of(found).map_err(|error| match error {
            VerifyError::Manifest(complaints) => {
                complaints.iter().map(ToString::to_string).collect()
            }
            error => vec![ErrorChain(&error).to_string()],
        })?;
        self.shown(Some(&found.component), &document)
    }

    fn shown(
        &self,
        component: Option<&PathBuf>,
        document: &Document,
    ) -> Result<String, Vec<String>> {
        let settings = document
            .settings()
            .map_err(|complaints| complaints.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let files: Vec<_> = document.paths().collect();
        Ok(match self.json {
            true => json_lines(&for_programs(component, &files, &settings)),
            false => for_people(component, &files, &settings),
        })
    }
}

/// As TOML, with comments.
fn for_people(component: Option<&PathBuf>, files: &[&Path], settings: &[Setting]) -> String {
    let header = component.map(PathBuf::as_path).into_iter().chain(files.iter().copied());
    let mut reported: String =
        header.map(|path| format!("# {}\n", plain(&path.to_string_lossy()))).collect();
    let mut table = (String::new(), None);
    if settings.first().is_some_and(|setting| setting.table.is_empty()) {
        reported.push('\n');
    }
    for setting in settings {
        let place = &setting.place;
        if (&setting.table, setting.nth) != (&table.0, table.1) {
            table = (setting.table.clone(), setting.nth);
            let heading = match setting.nth {
                Some(_) => format!("\n[[{}]]", setting.table),
                None => format!("\n[{}]", setting.table),
            };
            reported.push_str(&plain(&heading));
            reported.push_str(&if setting.key.is_none() {
                format!("  # {place}\n")
            } else {
                "\n".to_owned()
            });
        }
        if let Some(key) = &setting.key {
            let line = plain(&format!("{key} = {}", setting.value));
            reported.push_str(&format!("{line}  # {place}\n"));
        }
    }
    reported
}

/// Returns a text that may have line ends, but no other control characters.
fn plain(text: &str) -> String {
    text.split('\n').map(|line| Escaped(line).to_string()).collect::<Vec<_>>().join("\n")
}

fn for_programs(component: Option<&PathBuf>, files: &[&Path], settings: &[Setting]) -> Value {
    let setting = |setting: &Setting| {
        let (line, column) = setting.place.position.unzip();
        json!({
            "table": setting.table,
            "nth": setting.nth,
            "key": setting.key,
            "toml": setting.value,
            "file": print::path(&setting.place.path),
            "line": line,
            "column": column,
        })
    };
    let settings: Vec<_> = settings.iter().map(setting).collect();
    let component = component.map(|path| print::path(path));
    let files: Vec<_> = files.iter().map(|path| print::path(path)).collect();
    json!({ "component": component, "files": files, "settings": settings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    #[test]
    fn a_file_name_that_is_not_utf8_can_be_reported_to_programs() {
        let path = Path::new(OsStr::from_bytes(b"/etc/a\xff.toml"));
        let document = Document::new(path, "a = 1\n");
        let files: Vec<_> = document.paths().collect();
        let reported = for_programs(None, &files, &document.settings().unwrap());
        assert_eq!(reported["files"][0], "/etc/a\u{fffd}.toml");
        assert_eq!(reported["settings"][0]["file"], "/etc/a\u{fffd}.toml");
    }
}
