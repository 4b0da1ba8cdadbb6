//! `pluginctl.toml`: how the project of a plugin is built, and what the build produces.

use plugind::{
    base::{
        file::{self, FileError},
        name::PluginName,
    },
    config::{Diagnostic, Document},
};
use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

/// The name of the file in the directory of a project.
pub(crate) const FILE: &str = "pluginctl.toml";
/// The largest file that is read.
const FILE_MAX: u64 = 64 << 10;

/// A project with its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// Where `pluginctl.toml` is.
    pub(crate) directory: PathBuf,
    /// The plugin's name.
    pub(crate) name: PluginName,
    /// The command that builds it, for the shell; none: something else builds it.
    pub(crate) build: Option<String>,
    /// The component that the build makes.
    pub(crate) component: PathBuf,
    /// The files and directories that it is built from.
    pub(crate) watch: Vec<PathBuf>,
}

/// Why there is no project, or no component of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("{}", lines(.0))]
    Mistakes(Vec<Diagnostic>),
    #[error("{}: {key} is missing; write {key} = \"{example}\"", path.display())]
    Missing { path: PathBuf, key: &'static str, example: &'static str },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} must have a command under build, such as build = \"make\"", .0.display())]
    NoBuild(PathBuf),
    #[error("cannot run the build: {0}")]
    Run(io::Error),
    #[error("the build failed ({0})")]
    Failed(ExitStatus),
    #[error("the build did not create {}; correct component in {FILE}", .0.display())]
    NoComponent(PathBuf),
}

fn lines(mistakes: &[Diagnostic]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Project {
    /// Reads the project in a directory; none: there is no `pluginctl.toml`.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>, ProjectError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let mut document = Document::default();
        let added = document.add_bytes(&path, file::read(&path, FILE_MAX)?);
        added.map_err(|mistake| ProjectError::Mistakes(vec![mistake]))?;
        Self::parse(directory, &document).map(Some)
    }

    fn parse(directory: &Path, document: &Document) -> Result<Self, ProjectError> {
        let read = document.read(|table| {
            let watch = table.list("watch", |path| Ok::<_, Infallible>(directory.join(path)));
            (
                table.parsed::<PluginName>("name"),
                table.text("component"),
                table.text("build"),
                watch,
            )
        });
        let (name, component, build, watch) = read.map_err(ProjectError::Mistakes)?;
        let missing = |key, example| {
            move || ProjectError::Missing { path: directory.join(FILE), key, example }
        };
        let component = component.ok_or_else(missing("component", "build/plugin.wasm"))?;
        Ok(Self {
            directory: directory.to_owned(),
            name: name.ok_or_else(missing("name", "hello"))?,
            component: directory.join(component),
            build,
            watch,
        })
    }

    /// Where the manifest is, if there is one.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.directory.join(format!("{}.toml", self.name))
    }

    /// Runs the build, whose output goes where that of this program goes.
    pub(crate) fn build(&self) -> Result<(), ProjectError> {
        let no_build = || ProjectError::NoBuild(self.directory.join(FILE));
        let command = self.build.as_ref().ok_or_else(no_build)?;
        let status = Command::new("sh")
            .args(["-e", "-c", command])
            .current_dir(&self.directory)
            .status()
            .map_err(ProjectError::Run)?;
        if !status.success() {
            return Err(ProjectError::Failed(status));
        }
        match self.component.exists() {
            true => Ok(()),
            false => Err(ProjectError::NoComponent(self.component.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project, String> {
        let document = Document::new(&Path::new("p").join(FILE), text);
        Project::parse(Path::new("p"), &document).map_err(|error| error.to_string())
    }

    #[test]
    fn a_project_has_a_name_and_a_component_and_perhaps_a_build() {
        let project =
            parse("name = \"a\"\ncomponent = \"b/c.wasm\"\nwatch = [\"src\"]\nbuild = \"make\"\n")
                .unwrap();
        assert_eq!(project.name.as_str(), "a");
        assert_eq!(project.component, Path::new("p/b/c.wasm"));
        assert_eq!(project.watch, [Path::new("p/src")]);
        assert_eq!(project.build.as_deref(), Some("make"));
        assert_eq!(parse("name = \"a\"\ncomponent = \"c\"\n").unwrap().build, None);
        for (text, message) in [
            ("component = \"c\"", "p/pluginctl.toml: name is missing; write name = \"hello\""),
            ("name = \"a\"", "component is missing; write component = \"build/plugin.wasm\""),
            ("name = \"A\"\ncomponent = \"c\"", "pluginctl.toml:1:8: name: a name can have only"),
            (
                "nam = \"a\"\nname = \"a\"\ncomponent = \"c\"",
                "1:1: unknown key \"nam\"; did you mean \"name\"?",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
