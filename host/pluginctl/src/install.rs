//! `pluginctl install` and `remove`: the files of plugins, as an administrator would put them into their place, and
//! checked before that.

use crate::{
    link_check::LinkChecker,
    own_file,
    plugin_files::{AfterArgs, MODE, PluginFileError, disabling, remove, remove_disabling},
    print::{complain, line, print},
    problem::Problem,
};
use clap::Args;
use plugind::{
    base::{error_chain::ErrorChain, name::PluginName},
    check::{Checked, check, name_of_file},
    config::is_mask,
    plugin::{
        archive::is_pinned,
        compiled_files::hex,
        verify::{COMPONENT_MAX, MANIFEST_MAX, Verified},
    },
};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

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

/// A file in the directory that is checked.
struct StagedCopy {
    path: PathBuf,
    original: PathBuf,
    /// The original is installed already, and stays.
    is_kept: bool,
}

impl InstallArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let mut installed = Vec::new();
        let outcome = self.install(&mut installed);
        // Also if another plugin could not be installed.
        print(&installed.iter().map(|it| line(it)).collect::<String>())?;
        outcome.map_err(Problem::failed)?;
        self.after.run()
    }

    /// Installs everything. `installed` gets a line for each plugin.
    fn install(&self, installed: &mut Vec<String>) -> Result<(), PluginFileError> {
        let (target, state) = (self.after.make_plugins()?, self.after.place.state()?);
        let write = |source| PluginFileError::Write { path: target.clone(), source };
        // On the same file system, so that a rename is enough; the daemon ignores names that begin with a dot.
        let staging = tempfile::Builder::new().prefix(".install-").tempdir_in(&target);
        let staging = staging.map_err(write)?;
        let copies = self.stage(staging.path(), &target)?;
        let plugins = self.checked(staging.path(), &copies)?;
        // Only the check needs the copy of a manifest that is kept: the file itself may have changed since.
        for copy in copies.iter().filter(|copy| copy.is_kept) {
            fs::remove_file(&copy.path).map_err(write)?;
        }
        for verified in plugins {
            let name = verified.name().to_string();
            // The component comes last, so that it never meets the manifest of another version.
            for file in [format!("{name}.toml"), format!("{name}.wasm")] {
                let (from, to) = (staging.path().join(&file), target.join(&file));
                if from.exists() {
                    let failed = |source| PluginFileError::Write { path: to.clone(), source };
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
        synced.map_err(write)
    }

    /// Copies what is to be installed, under the names that it gets, and the manifests among the plugins at `target`
    /// that are kept.
    fn stage(&self, staging: &Path, target: &Path) -> Result<Vec<StagedCopy>, PluginFileError> {
        let read = |source| PluginFileError::Read { path: self.path.clone(), source };
        let mut components = Vec::new();
        if fs::metadata(&self.path).map_err(read)?.is_dir() {
            if self.name.is_some() {
                return Err(PluginFileError::NameOfDirectory(self.path.clone()));
            }
            for entry in fs::read_dir(&self.path).map_err(read)? {
                let path = entry.map_err(read)?.path();
                let is_hidden =
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if path.extension().is_some_and(|it| it == "wasm") && !is_hidden {
                    components.push((named(&path, "rename the file")?, path));
                }
            }
        } else {
            let by_file = || named(&self.path, "add --name NAME");
            let name = self.name.clone().map_or_else(by_file, Ok)?;
            components.push((name, self.path.clone()));
        }
        if components.is_empty() {
            return Err(PluginFileError::NoComponent(self.path.clone()));
        }
        components.sort();
        if let Some([(name, one), (_, other)]) =
            components.array_windows().find(|[(one, _), (other, _)]| one == other)
        {
            let (name, one, other) = (name.clone(), one.clone(), other.clone());
            return Err(PluginFileError::SameName { name, one, other });
        }
        let mut copies = Vec::new();
        let mut stage = |original: &Path, file: String, max, is_kept| {
            let path = staging.join(file);
            copy(original, &path, max)?;
            copies.push(StagedCopy { path, original: original.to_owned(), is_kept });
            Ok::<_, PluginFileError>(())
        };
        for (name, component) in components {
            stage(&component, format!("{name}.wasm"), COMPONENT_MAX, false)?;
            // Without another one, the manifest that is installed stays, and has to fit the component.
            let new = component.with_extension("toml");
            let kept = target.join(format!("{name}.toml"));
            // A link that leads nowhere is reported, and not taken for a missing manifest.
            let is_there = |path: &Path| path.symlink_metadata().is_ok();
            if is_there(&new) {
                stage(&new, format!("{name}.toml"), MANIFEST_MAX, false)?;
            } else if is_there(&kept) && !is_mask(&kept) {
                stage(&kept, format!("{name}.toml"), MANIFEST_MAX, true)?;
            }
        }
        Ok(copies)
    }

    /// The plugins in this directory, if all of them can be used beside those that are installed.
    fn checked(
        &self,
        staging: &Path,
        copies: &[StagedCopy],
    ) -> Result<Vec<Verified>, PluginFileError> {
        let path = self.after.place.search_path()?;
        let report = check(&path.with_staged_plugins(staging.to_owned()))
            .map_err(|error| PluginFileError::Mistakes(ErrorChain(&error).to_string()))?;
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
                PluginFileError::Mistakes(format!("{error}; --no-compile checks everything else"))
            })?;
            mistakes.extend(failed.into_iter().flat_map(|failure| failure.mistakes));
        }
        if mistakes.is_empty() {
            return Ok(verified);
        }
        // They name the copies, and are about the files that were copied.
        let named = |mistakes: String, copy: &StagedCopy| {
            mistakes.replace(&*copy.path.to_string_lossy(), &copy.original.to_string_lossy())
        };
        Err(PluginFileError::Mistakes(copies.iter().fold(mistakes.join("; "), named)))
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
            Ok(()) | Err(PluginFileError::NotThere(_)) => (),
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

/// The name that a component's file gives the plugin.
fn named(path: &Path, remedy: &'static str) -> Result<PluginName, PluginFileError> {
    let unnamed = |source| PluginFileError::Unnamed { path: path.to_owned(), source, remedy };
    name_of_file(path).map_err(unnamed)
}

/// Copies a regular file of at most so many bytes. Anything else there, such as a pipe, is not waited for.
fn copy(from: &Path, to: &Path, max: u64) -> Result<(), PluginFileError> {
    let bytes = own_file::read(from, max)?;
    let failed = |source| PluginFileError::Write { path: to.to_owned(), source };
    fs::write(to, bytes).map_err(failed)?;
    // Neither the mode of the source nor the mask of the user counts.
    let finished = fs::set_permissions(to, Permissions::from_mode(MODE));
    let finished = finished.and_then(|()| File::open(to)?.sync_all());
    finished.map_err(failed)
}
