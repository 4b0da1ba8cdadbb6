//! `pluginctl build`: runs the build of a project.

use crate::{
    print::{line, print},
    problem::Problem,
    project::{FILE, Project, ProjectError},
};
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Build the project in this directory (default: the current directory)
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    directory: PathBuf,
}

/// Why nothing is built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("there is no {}; `pluginctl new` makes a project that has one", .0.join(FILE).display())]
    NoProject(PathBuf),
    #[error(transparent)]
    Project(#[from] ProjectError),
}

impl BuildError {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Project(error) => error.lines(),
            other => vec![other.to_string()],
        }
    }
}

impl BuildArgs {
    /// Builds, and prints where the component is.
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let project = self.build().map_err(|error| Problem::Mistakes(error.lines()))?;
        print(&line(&project.component.to_string_lossy()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn build(self) -> Result<Project, BuildError> {
        let project = Project::find(&self.directory)?;
        let project = project.ok_or(BuildError::NoProject(self.directory))?;
        project.build()?;
        Ok(project)
    }
}
