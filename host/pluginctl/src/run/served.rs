//! The directory of plugins that is served: the one that was named, or a temporary one for a single component.

use crate::{
    print::complain,
    project::{FILE, Project, ProjectError, check_manifest, is_missing},
    run::{
        changes::Snapshot,
        inputs::{InputError, Inputs},
        sockets::PluginSocket,
        source_paths::SourcePaths,
    },
};
use plugind::{
    base::name::PluginName,
    check::{Checked, check, component_name, name_of_file},
    config::SearchPath,
    plugin::grants::credential_file,
    route::owners::Route,
    systemd::directories::Environment,
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The component, project or directory to serve.
pub(crate) enum Target {
    /// A component, with its manifest beside it.
    Component { name: PluginName, component: PathBuf, manifest: PathBuf },
    /// The component that a project builds.
    Project(Project),
    /// All plugins in a directory.
    Directory(PathBuf),
}

/// The files of the daemon, which are removed when this is dropped.
pub(crate) struct ServedDirectory {
    target: Target,
    inputs: Inputs,
    temporary: TempDir,
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServedError {
    #[error(
        "{} has neither {FILE} nor components; name a component, or a directory that has one of them",
        .0.display()
    )]
    Nothing(PathBuf),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot copy {} to {}: {source}", from.display(), to.display())]
    Copy { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Inputs(#[from] InputError),
}

impl ServedError {
    /// All mistakes that it consists of, one a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Project(error) => error.lines(),
            Self::Inputs(error) => error.lines(),
            other => vec![other.to_string()],
        }
    }
}

/// The note that a component has another name as a plugin than as a file.
pub(crate) fn note_of_name(name: &PluginName, component: &Path) -> String {
    let remedy = match name_of_file(component) {
        Ok(_) => format!(
            "rename it to {name}.wasm if you copy it yourself; `pluginctl install` does that"
        ),
        Err(_) => "rename it if you copy it yourself; `pluginctl install` needs --name".to_owned(),
    };
    format!("{} is the plugin {name} here; {remedy}", component.display())
}

impl Target {
    /// Finds the target of a path.
    pub(crate) fn find(path: &Path) -> Result<Self, ServedError> {
        let unreadable = |source| ServedError::Read { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(Self::of_component(path));
        }
        if let Some(project) = Project::find(path)? {
            return Ok(Self::Project(project));
        }
        let mut entries = fs::read_dir(path).map_err(unreadable)?.flatten();
        let is_component = |entry: fs::DirEntry| {
            Path::new(&entry.file_name()).extension().is_some_and(|it| it == "wasm")
        };
        match entries.any(is_component) {
            true => Ok(Self::Directory(path.to_owned())),
            false => Err(ServedError::Nothing(path.to_owned())),
        }
    }

    fn of_component(path: &Path) -> Self {
        let name = component_name(path);
        let own = path.with_file_name(format!("{name}.toml"));
        let manifest = if is_missing(&own) { path.with_extension("toml") } else { own };
        Self::Component { name, component: path.to_owned(), manifest }
    }

    /// Reports that a component is served under another name than that of its file.
    pub(super) fn note_other_name(&self) {
        if let Self::Component { name, component, .. } = self
            && component.file_stem().is_none_or(|stem| stem != name.as_str())
        {
            complain(&note_of_name(name, component));
        }
    }

    /// The project, if it is one.
    pub(super) fn project(&self) -> Option<&Project> {
        match self {
            Self::Project(project) => Some(project),
            Self::Component { .. } | Self::Directory(_) => None,
        }
    }

    /// The prefix of the names of plugins' credentials; the key that an author gives follows it.
    fn credential_prefix(&self) -> String {
        match self.single() {
            Some((name, ..)) => credential_file(name, ""),
            None => "plugind.".to_owned(),
        }
    }

    /// The name, the component and the manifest, unless it is a whole directory.
    fn single(&self) -> Option<(&PluginName, &Path, PathBuf)> {
        match self {
            Self::Component { name, component, manifest } => {
                Some((name, component, manifest.clone()))
            }
            Self::Project(project) => Some((&project.name, &project.component, project.manifest())),
            Self::Directory(_) => None,
        }
    }
}

impl ServedDirectory {
    /// Creates the directory. [`Self::fill`] copies the files into it.
    pub(crate) fn new(target: Target, inputs: Inputs) -> Result<Self, ServedError> {
        let failed = |source| ServedError::Write { path: std::env::temp_dir(), source };
        let temporary = tempfile::tempdir().map_err(failed)?;
        let served = Self { target, inputs, temporary };
        for directory in [served.root().join("var/cache"), served.own_plugins()] {
            let failed = |source| ServedError::Write { path: directory.clone(), source };
            fs::create_dir_all(&directory).map_err(failed)?;
        }
        served.keep_cache();
        Ok(served)
    }

    /// Keeps compiled code for the next run, if possible: without it, everything works but takes longer.
    fn keep_cache(&self) {
        let environment = Environment::read();
        let home = environment.home.map(|home| home.join(".cache"));
        let Some(cache) = environment.xdg_cache_home.or(home) else { return };
        let cache = cache.join("plugind/run");
        if fs::create_dir_all(&cache).is_ok() {
            symlink(cache, self.root().join("var/cache/plugind")).ok();
        }
    }

    /// Copies the settings and credentials, the component and the manifest. Each appears at once, as in a deployment.
    pub(crate) fn fill(&self) -> Result<(), ServedError> {
        self.inputs.fill(&self.root(), &self.target.credential_prefix())?;
        let Some((name, component, manifest)) = self.target.single() else { return Ok(()) };
        for (from, file) in
            [(component, format!("{name}.wasm")), (&*manifest, format!("{name}.toml"))]
        {
            let to = self.own_plugins().join(&file);
            let failed = |source| ServedError::Write { path: to.clone(), source };
            if !from.exists() {
                match fs::remove_file(&to) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(error));
                    }
                    _ => continue,
                }
            }
            put_file(from, &to)?;
        }
        Ok(())
    }

    /// The project, if it is one.
    pub(crate) fn project(&self) -> Option<&Project> {
        self.target.project()
    }

    /// The root of the daemon's own files.
    pub(crate) fn root(&self) -> PathBuf {
        self.temporary.path().join("root")
    }

    /// A socket of the daemon.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// The directory of plugins.
    pub(crate) fn plugins(&self) -> PathBuf {
        match &self.target {
            Target::Directory(directory) => directory.clone(),
            Target::Component { .. } | Target::Project(_) => self.own_plugins(),
        }
    }

    fn own_plugins(&self) -> PathBuf {
        self.temporary.path().join("plugins")
    }

    /// Checks the settings, and the manifest unless it is a whole directory.
    pub(crate) fn check_files(&self) -> Result<(), ServedError> {
        self.inputs.settings()?;
        match self.target.single() {
            Some((name, _, manifest)) => Ok(check_manifest(name, &manifest)?),
            None => Ok(()),
        }
    }

    /// Checks that plugins have the credentials and the server that they need. Where several plugins are served, those
    /// without them are only reported.
    pub(crate) fn check_inputs(&self, plugins: &[Checked]) -> Result<(), ServedError> {
        let (settings, prefix) = (self.inputs.settings()?, self.target.credential_prefix());
        let verified = plugins.iter().filter_map(|plugin| plugin.verified.as_ref());
        let missing = verified.flat_map(|it| self.inputs.missing(it, &settings, &prefix));
        let paths = self.source_paths();
        let missing: Vec<_> = missing.map(|line| paths.in_text(&line).into_owned()).collect();
        match &self.target {
            Target::Directory(_) => missing.iter().for_each(|line| complain(line)),
            _ if missing.is_empty() => (),
            _ => return Err(InputError::Mistakes(missing).into()),
        }
        Ok(())
    }

    /// Whether a build is needed after these changes.
    pub(super) fn need_build(&self, changed: &BTreeSet<PathBuf>) -> bool {
        let manifest = self.target.single().map(|(_, _, manifest)| manifest);
        let unbuilt: Vec<_> = self.inputs.paths().chain(manifest.as_deref()).collect();
        !changed.iter().all(|path| unbuilt.contains(&path.as_path()))
    }

    /// Whether the daemon must be started again after these changes.
    pub(super) fn need_restart(&self, changed: &BTreeSet<PathBuf>) -> bool {
        self.inputs.need_restart(changed)
    }

    /// The files that are copied.
    pub(crate) fn source_paths(&self) -> SourcePaths {
        let pairs = self.target.single().map(|(name, component, manifest)| {
            let copy = |extension| self.own_plugins().join(format!("{name}.{extension}"));
            [(copy("wasm"), component.to_owned()), (copy("toml"), manifest)]
        });
        SourcePaths::new(pairs.into_iter().flatten().chain(self.inputs.copies(&self.root())))
    }

    /// The files whose changes count, as they are now. Of a project that is built, these are not those that it builds.
    pub(super) fn look(&self) -> Snapshot {
        let mut files = match &self.target {
            Target::Directory(directory) => vec![directory.clone()],
            Target::Component { component, manifest, .. } => {
                vec![component.clone(), manifest.clone()]
            }
            Target::Project(project) => {
                let built = project.build.is_none().then(|| project.component.clone());
                project.watch.iter().cloned().chain([project.manifest()]).chain(built).collect()
            }
        };
        files.extend(self.inputs.paths().map(Path::to_owned));
        Snapshot::of(&files)
    }

    /// The plugins in it, as a check of their files finds them.
    pub(crate) fn checked(&self) -> Vec<Checked> {
        let search_path = SearchPath::below(&self.root()).with_only_plugins(self.plugins());
        check(&search_path).map(|report| report.plugins).unwrap_or_default()
    }

    /// Where each plugin is found, a line each.
    pub(super) fn urls(&self, address: SocketAddr, sockets: &[PluginSocket]) -> Vec<String> {
        let checked = self.checked();
        let usable = checked.iter().filter(|checked| checked.failed.is_none());
        usable.flat_map(|checked| urls(checked, address, sockets)).collect()
    }
}

/// Copies a file over one that the daemon reads, at once, as a deployment should.
pub(crate) fn put_file(from: &Path, to: &Path) -> Result<(), ServedError> {
    let mut name = OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(".new");
    let draft = to.with_file_name(name);
    File::open(from).map_err(|source| ServedError::Read { path: from.to_owned(), source })?;
    fs::copy(from, &draft).map_err(|source| {
        let (from, to) = (from.to_owned(), draft.clone());
        ServedError::Copy { from, to, source }
    })?;
    fs::rename(&draft, to).map_err(|source| ServedError::Write { path: to.to_owned(), source })
}

fn urls(checked: &Checked, address: SocketAddr, sockets: &[PluginSocket]) -> Vec<String> {
    let name = &checked.name;
    let inspection = checked.verified.as_ref().map(|verified| verified.inspection());
    let scheme = match inspection {
        Some(inspection) if inspection.http.is_none() && inspection.websockets.is_some() => "ws",
        _ => "http",
    };
    let url = |route: &Route| match route {
        Route::Http(route) => {
            let host = route.host.as_ref().map(|host| format!("{host}:{}", address.port()));
            let host = host.unwrap_or_else(|| address.to_string());
            vec![format!("{name}: {scheme}://{host}{}", route.prefix)]
        }
        Route::Socket(socket) => {
            let opened = sockets.iter().filter(|opened| opened.name == *socket);
            let opened: Vec<_> = opened.map(|opened| format!("{name}: {opened}")).collect();
            // It was not asked for when the daemon started.
            let missing = || vec![format!("{name}: the socket {socket}, which is not open")];
            if opened.is_empty() { missing() } else { opened }
        }
    };
    match checked.routes.as_slice() {
        [] => vec![format!("{name}: runs, without a route")],
        routes => routes.iter().flat_map(|(route, _)| url(route)).collect(),
    }
}
