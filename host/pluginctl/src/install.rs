//! `pluginctl install`, `remove`, `disable` and `enable`: the files of plugins, as an administrator would put them into
//! their place, and checked before that.

use crate::{
    client::{CallMethod, CallRefused, Client, ClientError, ControlAddress, NoUserPlace},
    link_check::LinkChecker,
    print::{complain, line, print},
    problem::{Problem, unless_interrupted, wait_for},
    reload::ReloadArgs,
    run::source_paths::SourcePaths,
};
use clap::Args;
use plugind::{
    api,
    base::{
        error_chain::ErrorChain,
        file::{self, FileError},
        name::PluginName,
    },
    check::{Checked, check, component_name},
    config::is_mask,
    plugin::{
        archive::is_pinned,
        compiled_files::hex,
        verify::{COMPONENT_MAX, MANIFEST_MAX, Verified},
    },
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Every user may read plugins: the daemon has one of its own.
const MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// The drop-in that keeps a plugin of the administrator from starting. Its name comes after those that begin with a
/// digit.
const DISABLED: &str = "disabled.toml";
const DISABLED_TEXT: &str = "\
# `pluginctl disable` has written this file, and `pluginctl enable` removes it.
[service]
autostart = false
";

#[derive(Args)]
pub(crate) struct InstallArgs {
    /// Install this component with its manifest, or all plugins of this directory
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Install the component as the plugin NAME (default: the name of the file)
    #[arg(long, value_name = "NAME")]
    name: Option<PluginName>,
    /// Do not compile and link first; mistakes of these stages are not found
    #[arg(long)]
    no_compile: bool,
    #[command(flatten)]
    after: AfterArgs,
}

#[derive(Args)]
pub(crate) struct RemoveArgs {
    /// Remove this plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    #[command(flatten)]
    after: AfterArgs,
}

#[derive(Args)]
pub(crate) struct MaskArgs {
    /// Disable or enable this plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    #[command(flatten)]
    after: AfterArgs,
}

/// The options for the daemon after files were changed.
#[derive(Args)]
struct AfterArgs {
    /// Reload the daemon; with disable and enable, also stop or start the plugin
    #[arg(long)]
    reload: bool,
    #[command(flatten)]
    place: ControlAddress,
}

/// Why files were not put into their place.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error(transparent)]
    NoUserPlace(#[from] NoUserPlace),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Copy(#[from] FileError),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} contains no component; the name of a component must end in .wasm", .0.display())]
    NoComponent(PathBuf),
    #[error("--name cannot be used with a directory, such as {}", .0.display())]
    NameOfDirectory(PathBuf),
    #[error(
        "{} and {} would both be the plugin {name}; rename one of them", one.display(), other.display()
    )]
    SameName { name: PluginName, one: PathBuf, other: PathBuf },
    #[error("{0}")]
    Mistakes(String),
    #[error(
        "there is no {}; `pluginctl list` shows the plugins, and `pluginctl disable` masks one of a \
         package",
        .0.display()
    )]
    NotThere(PathBuf),
    #[error("{0} is pinned, so that no drop-in can disable it; `pluginctl unpin {0}` ends that")]
    Pinned(PluginName),
    #[error("{0} is not disabled")]
    NotDisabled(PluginName),
    #[error(
        "there is no plugin {name} below {}; `pluginctl list` shows the plugins", directories.join(" or ")
    )]
    Unknown { name: PluginName, directories: Vec<String> },
}

impl AfterArgs {
    fn plugins(&self) -> Result<PathBuf, InstallError> {
        Ok(self.place.plugins()?)
    }

    /// The plugin of a lower rank with this name.
    fn vendor(&self, name: &PluginName) -> Result<PathBuf, InstallError> {
        let mut directories = self.place.search_path()?.plugin_directories();
        directories.pop();
        let components = directories.iter().map(|it| it.join(format!("{name}.wasm")));
        let there = components.rev().find(|path| path.symlink_metadata().is_ok());
        there.ok_or_else(|| InstallError::Unknown {
            name: name.clone(),
            directories: directories.iter().map(|it| it.display().to_string()).collect(),
        })
    }

    fn run(self) -> Result<ExitCode, Problem> {
        match self.reload {
            true => ReloadArgs::until_swapped(self.place, SourcePaths::default()).run(),
            false => Ok(ExitCode::SUCCESS),
        }
    }
}

impl InstallArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let installed = self.install().map_err(Problem::failed)?;
        print(&installed.iter().map(|it| line(it)).collect::<String>())?;
        self.after.run()
    }

    fn install(&self) -> Result<Vec<String>, InstallError> {
        let (target, state) = (self.after.plugins()?, self.after.place.state()?);
        let write = |source| InstallError::Write { path: target.clone(), source };
        fs::create_dir_all(&target).map_err(write)?;
        // On the same file system, so that a rename is enough; the daemon ignores names that begin with a dot.
        let staging = tempfile::Builder::new().prefix(".install-").tempdir_in(&target);
        let staging = staging.map_err(write)?;
        let copies = self.stage(staging.path())?;
        let plugins = self.checked(staging.path(), &copies)?;
        let mut installed = Vec::new();
        for verified in plugins {
            let name = verified.name().to_string();
            // The component comes last, so that it never meets the manifest of another version.
            for file in [format!("{name}.toml"), format!("{name}.wasm")] {
                let (from, to) = (staging.path().join(&file), target.join(&file));
                if from.exists() {
                    let failed = |source| InstallError::Write { path: to.clone(), source };
                    fs::rename(from, &to).map_err(failed)?;
                }
            }
            let digest = hex(verified.digest());
            let path = target.join(format!("{name}.wasm"));
            installed.push(format!("installed {} sha256:{digest}", path.display()));
            if is_pinned(&state, verified.name()) {
                complain(&format!(
                    "{name} is pinned: its files are not used until `pluginctl unpin {name}`"
                ));
            }
            if disabling(&path).exists() {
                complain(&format!("{name} is disabled until `pluginctl enable {name}`"));
            }
        }
        let synced = File::open(&target).and_then(|directory| directory.sync_all());
        synced.map_err(write)?;
        Ok(installed)
    }

    /// Copies what is to be installed, under the names that it gets. Returns the copies, each with its original.
    fn stage(&self, staging: &Path) -> Result<Vec<(PathBuf, PathBuf)>, InstallError> {
        let read = |source| InstallError::Read { path: self.path.clone(), source };
        let mut components = Vec::new();
        if fs::metadata(&self.path).map_err(read)?.is_dir() {
            if self.name.is_some() {
                return Err(InstallError::NameOfDirectory(self.path.clone()));
            }
            for entry in fs::read_dir(&self.path).map_err(read)? {
                let path = entry.map_err(read)?.path();
                let is_hidden =
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if path.extension().is_some_and(|it| it == "wasm") && !is_hidden {
                    components.push((component_name(&path), path));
                }
            }
        } else {
            let name = self.name.clone().unwrap_or_else(|| component_name(&self.path));
            components.push((name, self.path.clone()));
        }
        if components.is_empty() {
            return Err(InstallError::NoComponent(self.path.clone()));
        }
        components.sort();
        if let Some([(name, one), (_, other)]) =
            components.array_windows().find(|[(one, _), (other, _)]| one == other)
        {
            let (name, one, other) = (name.clone(), one.clone(), other.clone());
            return Err(InstallError::SameName { name, one, other });
        }
        let mut copies = Vec::new();
        let mut stage = |original: &Path, file: String, max| {
            let path = staging.join(file);
            copy(original, &path, max)?;
            copies.push((path, original.to_owned()));
            Ok::<_, InstallError>(())
        };
        for (name, component) in components {
            stage(&component, format!("{name}.wasm"), COMPONENT_MAX)?;
            // Without another one, the manifest that is installed stays, and has to fit the component.
            let manifests = [
                component.with_extension("toml"),
                self.after.plugins()?.join(format!("{name}.toml")),
            ];
            if let Some(manifest) = manifests.iter().find(|manifest| manifest.exists()) {
                stage(manifest, format!("{name}.toml"), MANIFEST_MAX)?;
            }
        }
        Ok(copies)
    }

    /// The plugins in this directory, if all of them can be used beside those that are installed.
    fn checked(
        &self,
        staging: &Path,
        copies: &[(PathBuf, PathBuf)],
    ) -> Result<Vec<Verified>, InstallError> {
        let path = self.after.place.search_path()?;
        let report = check(&path.with_staged_plugins(staging.to_owned()))
            .map_err(|error| InstallError::Mistakes(ErrorChain(&error).to_string()))?;
        let staged = staging.to_string_lossy();
        let mut mistakes = report.ignored;
        mistakes.retain(|mistake| mistake.contains(&*staged));
        let mut verified = Vec::new();
        let is_staged = |checked: &Checked| checked.component.starts_with(staging);
        for checked in report.plugins.into_iter().filter(is_staged) {
            mistakes.extend(checked.failed.into_iter().flat_map(|(_, lines)| lines));
            verified.extend(checked.verified);
        }
        if mistakes.is_empty() && !self.no_compile {
            let failed = LinkChecker::new(&self.after.place.search_path_args(), None)
                .and_then(|it| it.check_plugins(Some(staging)));
            let failed = failed.map_err(|error| {
                InstallError::Mistakes(format!("{error}; --no-compile checks everything else"))
            })?;
            mistakes.extend(failed.into_iter().flat_map(|failure| failure.mistakes));
        }
        if mistakes.is_empty() {
            return Ok(verified);
        }
        // They name the copies, and are about the files that were copied.
        let named = |mistakes: String, (copy, original): &(PathBuf, PathBuf)| {
            mistakes.replace(&*copy.to_string_lossy(), &original.to_string_lossy())
        };
        Err(InstallError::Mistakes(copies.iter().fold(mistakes.join("; "), named)))
    }
}

impl RemoveArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let Self { name, after } = self;
        let plugins = after.plugins().map_err(Problem::failed)?;
        let component = plugins.join(format!("{name}.wasm"));
        remove(&component).map_err(Problem::failed)?;
        let manifest = component.with_extension("toml");
        match remove(&manifest) {
            Ok(()) | Err(InstallError::NotThere(_)) => (),
            Err(error) => return Err(Problem::failed(error)),
        }
        remove_disabling(&component).map_err(Problem::failed)?;
        print(&line(&format!("removed {}", component.display())))?;
        if let Ok(other) = after.vendor(&name) {
            let other = other.display();
            complain(&format!("{other} is used now; `pluginctl disable {name}` masks it"));
        }
        after.run()
    }
}

impl MaskArgs {
    /// Keeps the plugin from starting: by a drop-in if it is one of the administrator's, or else by a mask.
    pub(crate) fn disable(self) -> Result<ExitCode, Problem> {
        let path = self.component().map_err(Problem::failed)?;
        if is_mask(&path) || path.symlink_metadata().is_err() {
            self.mask(&path).map_err(Problem::failed)?;
            return self.after.run();
        }
        let drop_in = self.write_drop_in(&path).map_err(Problem::failed)?;
        let (name, drop_in) = (&self.name, drop_in.display());
        if !self.after.reload {
            complain(&format!("{name} is disabled by {drop_in}; `pluginctl stop {name}` stops it"));
            return self.after.run();
        }
        complain(&format!("{name} is disabled by {drop_in}"));
        self.call::<api::EmptyReply>(CallMethod::Stop)?;
        self.after.run()
    }

    fn mask(&self, path: &Path) -> Result<(), InstallError> {
        if is_mask(path) {
            return Ok(());
        }
        let vendor = self.after.vendor(&self.name)?;
        let failed = |source| InstallError::Write { path: path.to_owned(), source };
        fs::create_dir_all(self.after.plugins()?).map_err(failed)?;
        symlink("/dev/null", path).map_err(failed)?;
        complain(&format!("{} is masked by {}", vendor.display(), path.display()));
        Ok(())
    }

    fn write_drop_in(&self, component: &Path) -> Result<PathBuf, InstallError> {
        if is_pinned(&self.after.place.state()?, &self.name) {
            return Err(InstallError::Pinned(self.name.clone()));
        }
        let path = disabling(component);
        let failed = |source| InstallError::Write { path: path.clone(), source };
        let directory = component.with_extension("toml.d");
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
            // The daemon has to read it, also where the umask of the user forbids that.
            made => made
                .and_then(|()| {
                    fs::set_permissions(&directory, Permissions::from_mode(DIRECTORY_MODE))
                })
                .map_err(failed)?,
        }
        // On the same file system, so that a rename is enough; the daemon ignores names that begin with a dot.
        let staged = tempfile::Builder::new().prefix(".disable-").tempfile_in(&directory);
        let mut staged = staged.map_err(failed)?;
        let written = staged.write_all(DISABLED_TEXT.as_bytes()).and_then(|()| {
            staged.as_file().set_permissions(Permissions::from_mode(MODE))?;
            staged.as_file().sync_all()
        });
        written.map_err(failed)?;
        staged.persist(&path).map_err(|error| failed(error.error))?;
        Ok(path)
    }

    fn component(&self) -> Result<PathBuf, InstallError> {
        Ok(self.after.plugins()?.join(format!("{}.wasm", self.name)))
    }

    /// Undoes `disable`.
    pub(crate) fn enable(self) -> Result<ExitCode, Problem> {
        let path = self.component().map_err(Problem::failed)?;
        match (is_mask(&path), path.symlink_metadata().is_ok()) {
            (true, _) => remove(&path).map_err(Problem::failed)?,
            (false, true) => return self.remove_drop_in(&path),
            (false, false) => drop(self.after.vendor(&self.name).map_err(Problem::failed)?),
        }
        // It may be left of a plugin whose component was removed by hand.
        remove_disabling(&path).map_err(Problem::failed)?;
        self.after.run()
    }

    fn remove_drop_in(self, component: &Path) -> Result<ExitCode, Problem> {
        if !remove_disabling(component).map_err(Problem::failed)? {
            return Err(Problem::failed(InstallError::NotDisabled(self.name)));
        }
        let name = &self.name;
        if !self.after.reload {
            complain(&format!("{name} is enabled; `pluginctl start {name}` starts it"));
            return Ok(ExitCode::SUCCESS);
        }
        let reloaded = AfterArgs { reload: true, place: self.after.place.clone() }.run()?;
        self.call::<api::ServingVersion>(CallMethod::Start)?;
        Ok(reloaded)
    }

    /// Has the daemon stop or start the plugin, if it knows it.
    fn call<R: DeserializeOwned + Debug>(
        &self,
        method: fn(api::Name) -> CallMethod,
    ) -> Result<(), Problem> {
        let method = method(api::Name { name: self.name.to_string() });
        wait_for(unless_interrupted(async {
            match Client::connect(&self.after.place)?.call::<R>(method).await {
                Err(ClientError::Refused(CallRefused::NoSuchPlugin { .. })) => Ok(()),
                called => Ok(called.map(drop)?),
            }
        }))
    }
}

/// The drop-in that disables the plugin of this component.
fn disabling(component: &Path) -> PathBuf {
    component.with_extension("toml.d").join(DISABLED)
}

/// Removes the drop-in that disables a plugin, and its directory if it is empty then. False if there is none.
fn remove_disabling(component: &Path) -> Result<bool, InstallError> {
    match remove(&disabling(component)) {
        Err(InstallError::NotThere(_)) => return Ok(false),
        removed => removed?,
    }
    // Other drop-ins stay.
    fs::remove_dir(component.with_extension("toml.d")).ok();
    Ok(true)
}

/// Copies a regular file of at most so many bytes. Anything else there, such as a pipe, is not waited for.
fn copy(from: &Path, to: &Path, max: u64) -> Result<(), InstallError> {
    let bytes = file::read(from, max)?;
    let failed = |source| InstallError::Write { path: to.to_owned(), source };
    fs::write(to, bytes).map_err(failed)?;
    // Neither the mode of the source nor the mask of the user counts.
    let finished = fs::set_permissions(to, Permissions::from_mode(MODE));
    let finished = finished.and_then(|()| File::open(to)?.sync_all());
    finished.map_err(failed)
}

fn remove(path: &Path) -> Result<(), InstallError> {
    fs::remove_file(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => InstallError::NotThere(path.to_owned()),
        _ => InstallError::Write { path: path.to_owned(), source },
    })
}
