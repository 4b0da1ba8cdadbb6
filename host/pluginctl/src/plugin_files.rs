//! The files of plugins that an administrator installs: where they are, and what commands do after they changed them.

use crate::{
    client::{ControlAddress, NoUserPlace},
    own_file::OwnFileError,
    problem::Problem,
    reload::ReloadArgs,
    run::source_paths::SourcePaths,
};
use clap::Args;
use plugind::base::name::{NameError, PluginName};
use rustix::process::geteuid;
use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Every user may read plugins: the daemon has one of its own.
pub(crate) const MODE: u32 = 0o644;
pub(crate) const DIRECTORY_MODE: u32 = 0o755;

/// The drop-in that keeps a plugin of the administrator from starting. Its name comes after those that begin with a
/// digit.
const DISABLED: &str = "disabled.toml";

/// The options for the daemon after files were changed.
#[derive(Args)]
pub(crate) struct AfterArgs {
    /// Reload the daemon; with disable and enable, also stop or start the plugin
    #[arg(long)]
    pub(crate) reload: bool,
    #[command(flatten)]
    pub(crate) place: ControlAddress,
}

/// Why files were not put into their place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginFileError {
    #[error(transparent)]
    NoUserPlace(#[from] NoUserPlace),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Copy(#[from] OwnFileError),
    #[error("cannot write {}: {source}{}", path.display(), write_remedy(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}: {source}{}", path.display(), write_remedy(source))]
    Remove { path: PathBuf, source: io::Error },
    #[error("{} contains no component; the name of a component must end in .wasm", .0.display())]
    NoComponent(PathBuf),
    #[error("--name cannot be used with a directory, such as {}", .0.display())]
    NameOfDirectory(PathBuf),
    #[error(
        "{} and {} would both be the plugin {name}; rename one of them", one.display(), other.display()
    )]
    SameName { name: PluginName, one: PathBuf, other: PathBuf },
    #[error("{} gives no name of a plugin: {source}; {remedy}", path.display())]
    Unnamed { path: PathBuf, source: NameError, remedy: &'static str },
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
    pub(crate) fn plugins(&self) -> Result<PathBuf, PluginFileError> {
        Ok(self.place.plugins()?)
    }

    /// Makes the directory of plugins, and those above it, where they are missing. Returns the directory.
    pub(crate) fn make_plugins(&self) -> Result<PathBuf, PluginFileError> {
        let path = self.plugins()?;
        let failed = |source| PluginFileError::Write { path: path.clone(), source };
        let missing = path.ancestors().take_while(|it| it.symlink_metadata().is_err());
        let missing: Vec<_> = missing.map(Path::to_owned).collect();
        fs::create_dir_all(&path).map_err(failed)?;
        // The daemon of the machine has to enter them, also where the umask of the user forbids that.
        for directory in missing.iter().filter(|_| !self.place.is_of_this_user()) {
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))
                .map_err(failed)?;
        }
        Ok(path)
    }

    /// The plugin of a lower rank with this name.
    pub(crate) fn vendor(&self, name: &PluginName) -> Result<PathBuf, PluginFileError> {
        let directories = self.place.search_path()?.plugin_directories();
        // The last one is the administrator's.
        let vendors = directories.iter().rev().skip(1);
        let mut components = vendors.map(|it| it.join(format!("{name}.wasm")));
        let there = components.find(|path| path.symlink_metadata().is_ok());
        there.ok_or_else(|| PluginFileError::Unknown {
            name: name.clone(),
            directories: directories.iter().map(|it| it.display().to_string()).collect(),
        })
    }

    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        match self.reload {
            true => ReloadArgs::until_swapped(self.place, SourcePaths::default()).run(),
            false => Ok(ExitCode::SUCCESS),
        }
    }
}

/// The drop-in that disables the plugin of this component.
pub(crate) fn disabling(component: &Path) -> PathBuf {
    component.with_extension("toml.d").join(DISABLED)
}

/// Removes the drop-in that disables a plugin, and its directory if it is empty then. False if there is none.
pub(crate) fn remove_disabling(component: &Path) -> Result<bool, PluginFileError> {
    match remove(&disabling(component)) {
        Err(PluginFileError::NotThere(_)) => return Ok(false),
        removed => removed?,
    }
    // Other drop-ins stay.
    fs::remove_dir(component.with_extension("toml.d")).ok();
    Ok(true)
}

/// The remedy, as the end of a sentence.
fn write_remedy(error: &io::Error) -> &'static str {
    let is_denied = error.kind() == ErrorKind::PermissionDenied;
    if is_denied && !geteuid().is_root() { "; run pluginctl as root" } else { "" }
}

/// Removes a file, which must be there.
pub(crate) fn remove(path: &Path) -> Result<(), PluginFileError> {
    fs::remove_file(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => PluginFileError::NotThere(path.to_owned()),
        _ => PluginFileError::Remove { path: path.to_owned(), source },
    })
}
