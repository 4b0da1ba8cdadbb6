//! `pluginctl new`: a project that builds a plugin with the tools of its language.

mod template;

use crate::{print::print, problem::Problem};
use clap::Args;
use plugind::base::name::PluginName;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};
use template::{Kind, Language, Template, render};

/// The kind of the new project.
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
    /// Create the directory of the project in this directory (default: the current directory)
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    #[error("{} exists already; choose another name, or --directory", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl NewArgs {
    /// Writes the project.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        let parent = self.directory.as_deref().unwrap_or(Path::new("."));
        let project = parent.join(self.name.as_str());
        let template = Template::of(self.lang, self.kind).map_err(Problem::failed)?;
        write(&project, &template, self.name.as_str()).map_err(Problem::failed)?;
        let shown = project.strip_prefix(".").unwrap_or(&project).display();
        print(&format!(
            "{shown} is a plugin in {language}. Next:\n  cd {shown}\n  pluginctl run --watch\n",
            language = self.lang.name(),
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes all files below a directory that must not exist.
fn write(project: &Path, template: &Template, name: &str) -> Result<(), NewError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| NewError::Write { path, source }
    };
    if let Some(parent) = project.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    match fs::create_dir(project) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(NewError::Exists(project.to_owned()));
        }
        made => made.map_err(failed(project))?,
    }
    for (path, text) in render(template, name) {
        let path = project.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}
