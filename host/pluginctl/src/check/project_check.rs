//! The check of the component that a project builds.

use crate::{
    link_check::LinkChecker,
    project::{FILE, Project, ProjectError},
    run::{
        inputs::Inputs,
        served::{ServedDirectory, ServedError, Target},
    },
};
use plugind::check::LinkFailure;
use std::path::Path;

/// The project that a path means: its directory, its pluginctl.toml, its manifest or its component.
pub(super) fn project_of(path: &Path) -> Result<Option<Project>, ProjectError> {
    if path.is_dir() {
        return Project::find(path);
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    if path.file_name().is_some_and(|name| name == FILE) {
        return Project::find(directory);
    }
    if is_manifest(path) {
        let project = Project::find(directory)?;
        let stem = path.file_stem();
        return Ok(project.filter(|project| stem.is_some_and(|stem| stem == project.name.as_str())));
    }
    Ok(Project::of_component(path))
}

/// Whether a path is that of a manifest.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Compiles and links the component of a project in a copy of its directory of plugins.
pub(super) fn link_project(
    project: &Project,
    checker: &LinkChecker,
) -> Result<Vec<LinkFailure>, ProjectLinkError> {
    let served = ServedDirectory::new(Target::Project(project.clone()), Inputs::none())?;
    served.fill()?;
    let paths = served.source_paths();
    let failures = checker.check_plugins(Some(&served.plugins()));
    let mut failures =
        failures.map_err(|error| ProjectLinkError::Check(paths.in_text(&error).into()))?;
    for mistake in failures.iter_mut().flat_map(|failure| &mut failure.mistakes) {
        *mistake = paths.in_text(mistake).into_owned();
    }
    Ok(failures)
}

/// Why a project cannot be compiled and linked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProjectLinkError {
    #[error(transparent)]
    Served(#[from] ServedError),
    #[error("{0}")]
    Check(String),
}
