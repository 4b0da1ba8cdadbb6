//! `pluginctl disable` and `enable`: a plugin of the administrator has a drop-in that keeps it from starting, and one of
//! a package is masked.

use crate::{
    client::{CallMethod, CallRefused, Client, ClientError},
    plugin_files::{
        AfterArgs, DIRECTORY_MODE, MODE, PluginFileError, disabling, remove, remove_disabling,
    },
    print::complain,
    problem::{Problem, unless_interrupted, wait_for},
};
use clap::Args;
use plugind::{api, base::name::PluginName, config::is_mask, plugin::archive::is_pinned};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    fs::{self, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The contents of the drop-in that keeps a plugin of the administrator from starting.
const DISABLED_TEXT: &str = "\
# `pluginctl disable` has written this file, and `pluginctl enable` removes it.
[service]
autostart = false
";

#[derive(Args)]
pub(crate) struct MaskArgs {
    /// Disable or enable this plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    #[command(flatten)]
    after: AfterArgs,
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

    fn mask(&self, path: &Path) -> Result<(), PluginFileError> {
        if is_mask(path) {
            return Ok(());
        }
        let vendor = self.after.vendor(&self.name)?;
        let failed = |source| PluginFileError::Write { path: path.to_owned(), source };
        self.after.make_plugins()?;
        symlink("/dev/null", path).map_err(failed)?;
        complain(&format!("{} is masked by {}", vendor.display(), path.display()));
        Ok(())
    }

    fn write_drop_in(&self, component: &Path) -> Result<PathBuf, PluginFileError> {
        if is_pinned(&self.after.place.state()?, &self.name) {
            return Err(PluginFileError::Pinned(self.name.clone()));
        }
        let path = disabling(component);
        let failed = |source| PluginFileError::Write { path: path.clone(), source };
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

    fn component(&self) -> Result<PathBuf, PluginFileError> {
        Ok(self.after.plugins()?.join(format!("{}.wasm", self.name)))
    }

    /// Undoes `disable`.
    pub(crate) fn enable(self) -> Result<ExitCode, Problem> {
        let path = self.component().map_err(Problem::failed)?;
        let is_masked = is_mask(&path);
        match (is_masked, path.symlink_metadata().is_ok()) {
            (true, _) => remove(&path).map_err(Problem::failed)?,
            (false, true) => return self.remove_drop_in(&path),
            (false, false) => drop(self.after.vendor(&self.name).map_err(Problem::failed)?),
        }
        // It may be left of a plugin whose component was removed by hand.
        let was_disabled = remove_disabling(&path).map_err(Problem::failed)?;
        if !is_masked && !was_disabled {
            return Err(Problem::failed(PluginFileError::NotDisabled(self.name)));
        }
        if is_masked {
            complain(&format!("{} no longer masks {}", path.display(), self.name));
        }
        self.after.run()
    }

    fn remove_drop_in(self, component: &Path) -> Result<ExitCode, Problem> {
        if !remove_disabling(component).map_err(Problem::failed)? {
            return Err(Problem::failed(PluginFileError::NotDisabled(self.name)));
        }
        let name = &self.name;
        if !self.after.reload {
            complain(&format!("{name} is enabled; `pluginctl start {name}` starts it"));
            return Ok(ExitCode::SUCCESS);
        }
        // Before the reload, which may fail.
        complain(&format!("{name} is enabled"));
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
