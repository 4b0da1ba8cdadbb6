//! `pluginctl new`: a project that builds a plugin with the tools of its language.

mod template;

use crate::{print::print, problem::Problem, wit::write_files};
use clap::Args;
use plugind::base::name::PluginName;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};
use template::{Kind, Language, Template, render};

/// The new project: its language, kind, name and place.
#[derive(Args)]
pub(crate) struct NewArgs {
    /// Write the plugin in this language
    #[arg(long, value_name = "LANG")]
    lang: Language,
    /// Make a plugin of this kind
    #[arg(long, value_name = "KIND", default_value = "http")]
    kind: Kind,
    /// Create a project for the plugin NAME, in the new directory NAME
    #[arg(value_name = "NAME")]
    name: PluginName,
    /// Create the directory of the project in this existing directory (default: the current directory)
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    #[error("{} exists already; choose another name, or --directory", .0.display())]
    Exists(PathBuf),
    #[error("{} must be an existing directory; create it, or correct --directory", .0.display())]
    NoParent(PathBuf),
    #[error("a project in Rust cannot have the name {0}, which {1}; choose another name")]
    NotCrate(PluginName, &'static str),
    #[error(
        "a project in Go cannot have the name {0}, which is the name of a directory of Go; choose another name"
    )]
    NotModule(PluginName),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The names that a crate of a project cannot have, with the reason.
const NOT_CRATES: [(&str, &str); 6] = [
    ("build", CARGO_DIRECTORY),
    ("deps", CARGO_DIRECTORY),
    ("examples", CARGO_DIRECTORY),
    ("incremental", CARGO_DIRECTORY),
    ("plugind-sdk", OWN_CRATE),
    ("plugind-test", OWN_CRATE),
];
const CARGO_DIRECTORY: &str = "is the name of a directory of cargo";
const OWN_CRATE: &str = "is the name of a crate that the project contains";

impl NewArgs {
    /// Writes the project.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        let parent = self.directory.as_deref().unwrap_or(Path::new("."));
        let project = parent.join(self.name.as_str());
        let template = Template::of(self.lang, self.kind);
        self.check_crate().map_err(Problem::failed)?;
        write(&project, &template, self.name.as_str()).map_err(Problem::failed)?;
        let shown = project.strip_prefix(".").unwrap_or(&project).display();
        print(&format!(
            "{shown} is a plugin in {language}. Next:\n  cd {shown}\n  pluginctl run --watch\n",
            language = self.lang.name(),
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Checks that a crate can have the name, if the project is one.
    fn check_crate(&self) -> Result<(), NewError> {
        let is_name = |(name, _): &&(&str, &str)| *name == self.name.as_str();
        match NOT_CRATES.iter().find(is_name) {
            Some((_, why)) if self.lang == Language::Rust => {
                Err(NewError::NotCrate(self.name.clone(), why))
            }
            None if self.lang == Language::Go && self.name.as_str() == "vendor" => {
                Err(NewError::NotModule(self.name.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Writes all files below a directory that must not exist.
fn write(project: &Path, template: &Template, name: &str) -> Result<(), NewError> {
    let failed = |(path, source)| NewError::Write { path, source };
    match fs::create_dir(project) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(NewError::Exists(project.to_owned()));
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Err(NewError::NoParent(project.parent().unwrap_or(project).to_owned()));
        }
        made => made.map_err(|source| failed((project.to_owned(), source)))?,
    }
    write_files(project, render(template, name)).map_err(failed)
}
