//! `pluginctl.toml`: how the project of a plugin is built, and what the build produces.

use crate::own_file::{self, OwnFileError};
use plugind::{
    base::name::PluginName,
    config::{Diagnostic, Document},
    plugin::{manifest::Manifest, scan::Found, verify::MANIFEST_MAX},
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
/// The exit status of a shell that does not find a program.
const NOT_FOUND: i32 = 127;
/// The number of directories above a component in which its project is searched.
const DEPTH_MAX: usize = 8;

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
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    #[error("{}: {key} is missing; write {key} = \"{example}\"", path.display())]
    Missing { path: PathBuf, key: &'static str, example: &'static str },
    #[error(transparent)]
    File(#[from] OwnFileError),
    #[error("{} must have a command under build, such as build = \"make\"", .0.display())]
    NoBuild(PathBuf),
    #[error("cannot run the build: {0}")]
    Run(io::Error),
    #[error("the build failed ({0})")]
    Failed(ExitStatus),
    #[error(
        "the build failed: the shell did not find a program; README.md names the tools that the build needs"
    )]
    NoTool,
    #[error("the build did not create {}; correct component in {FILE}", .0.display())]
    NoComponent(PathBuf),
}

impl ProjectError {
    /// All mistakes that it consists of, one a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(mistakes) => mistakes.clone(),
            other => vec![other.to_string()],
        }
    }
}

/// Whether there is nothing at this path. A link that leads nowhere, or a directory that cannot be entered, is an error
/// when the file is read.
pub(crate) fn is_missing(path: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    let found = path.symlink_metadata();
    found.is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

fn mistakes(mistakes: Vec<Diagnostic>) -> ProjectError {
    ProjectError::Mistakes(mistakes.iter().map(ToString::to_string).collect())
}

/// Reads the manifest of a plugin, if it is there. What depends on the component is not compared.
pub(crate) fn check_manifest(name: &PluginName, path: &Path) -> Result<(), ProjectError> {
    if is_missing(path) {
        return Ok(());
    }
    let mut document = Document::default();
    let added = document.add_bytes(path, own_file::read(path, MANIFEST_MAX)?);
    added.map_err(|mistake| mistakes(vec![mistake]))?;
    Manifest::parse_for(name, None, &document).map(drop).map_err(mistakes)
}

impl Project {
    /// Reads the project in a directory; none: there is no `pluginctl.toml`.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>, ProjectError> {
        // Messages name the files as a person would write them.
        let directory = directory.strip_prefix(".").unwrap_or(directory);
        let path = directory.join(FILE);
        if is_missing(&path) {
            return Ok(None);
        }
        let mut document = Document::default();
        let added = document.add_bytes(&path, own_file::read(&path, FILE_MAX)?);
        added.map_err(|mistake| mistakes(vec![mistake]))?;
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
        let (name, component, build, watch) = read.map_err(mistakes)?;
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

    /// Finds the project that builds this component, in the directories above it.
    pub(crate) fn of_component(component: &Path) -> Option<Self> {
        let component = component.canonicalize().ok()?;
        // A pluginctl.toml with a mistake is reported when its project is checked.
        let projects = component.ancestors().skip(1).take(DEPTH_MAX);
        projects
            .filter_map(|directory| Self::find(directory).ok().flatten())
            .find(|project| project.component.canonicalize().is_ok_and(|own| own == component))
    }

    /// Its files, under the name of the plugin.
    pub(crate) fn found(&self) -> Found {
        let manifest = self.manifest();
        let drop_ins = manifest.with_extension("toml.d");
        Found {
            name: self.name.clone(),
            component: self.component.clone(),
            manifest: (!is_missing(&manifest)).then_some(manifest),
            drop_ins: if drop_ins.is_dir() { vec![drop_ins] } else { Vec::new() },
        }
    }

    /// Reads the manifest, so that its mistakes are known before a build begins.
    pub(crate) fn check_manifest(&self) -> Result<(), ProjectError> {
        check_manifest(&self.name, &self.manifest())
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
            .current_dir(Path::new(".").join(&self.directory))
            .status()
            .map_err(ProjectError::Run)?;
        if status.code() == Some(NOT_FOUND) {
            return Err(ProjectError::NoTool);
        }
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
    use std::os::unix::fs::symlink;

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

    /// A project with a component, which this build makes.
    fn project(build: &str) -> (tempfile::TempDir, Project) {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("name = \"a\"\ncomponent = \"b/c.wasm\"\nbuild = \"{build}\"\n");
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let project = Project::find(directory.path()).unwrap().unwrap();
        (directory, project)
    }

    #[test]
    fn a_missing_program_is_another_failure_than_that_of_a_build() {
        let (_directory, project) = project("no-such-program");
        assert!(project.build().unwrap_err().to_string().contains("README.md names the tools"));
        let project = Project { build: Some("exit 2".to_owned()), ..project };
        assert_eq!(project.build().unwrap_err().to_string(), "the build failed (exit status: 2)");
    }

    #[test]
    fn a_component_belongs_to_the_project_that_builds_it() {
        let (directory, project) = project("mkdir b; echo x > b/c.wasm; echo x > b/d.wasm");
        project.build().unwrap();
        let path = |file: &str| directory.path().join(file);
        let found = Project::of_component(&path("b/c.wasm")).unwrap();
        assert_eq!((found.name.as_str(), found.found().manifest), ("a", None));
        assert_eq!(Project::of_component(&path("b/d.wasm")), None);
        std::fs::write(path("a.toml"), "").unwrap();
        assert_eq!(project.found().manifest, Some(path("a.toml")));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_taken_for_a_missing_file() {
        let (directory, project) = project("exit 1");
        symlink("nowhere", project.manifest()).unwrap();
        assert!(project.found().manifest.is_some());
        let error = project.check_manifest().unwrap_err().to_string();
        assert!(error.contains("it is a link to nowhere: No such file"), "{error}");
        let file = directory.path().join(FILE);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(Project::find(directory.path()).unwrap(), None);
        symlink("nowhere", &file).unwrap();
        let error = Project::find(directory.path()).unwrap_err().to_string();
        assert!(error.contains("it is a link to nowhere: No such file"), "{error}");
    }

    #[test]
    fn all_mistakes_of_a_manifest_are_known_before_a_build() {
        let (directory, project) = project("exit 1");
        project.check_manifest().unwrap();
        std::fs::write(directory.path().join("a.toml"), "x = 1\n[limit]\n").unwrap();
        let lines = project.check_manifest().unwrap_err().lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("a.toml:2:2: unknown key \"limit\""), "{lines:?}");
    }
}
