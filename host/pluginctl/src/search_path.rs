//! The selected configuration: that of the machine, of another root, or of one directory of plugins.

use clap::Args;
use plugind::{
    cli::existing_directory,
    config::SearchPath,
    systemd::directories::{Environment, NoUserDirectories},
};
use std::path::{Path, PathBuf};

/// The options that select it.
#[derive(Args)]
pub(crate) struct SearchPathArgs {
    /// Use this directory as the root of /usr/lib/plugind, /run/plugind and /etc/plugind (default: /)
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    root: Option<PathBuf>,
    /// Read the plugins in this directory only
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Use the configuration of this user, in $XDG_RUNTIME_DIR/plugind and $XDG_CONFIG_HOME/plugind
    #[arg(long, conflicts_with = "root")]
    user: bool,
}

impl SearchPathArgs {
    /// The configuration of the machine.
    pub(crate) fn of_the_machine() -> Self {
        Self::of(None, false)
    }

    /// The configuration of another root, or of this user.
    pub(crate) fn of(root: Option<PathBuf>, user: bool) -> Self {
        Self { root, plugins: None, user }
    }

    /// Returns the root of all paths, if one is given.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Whether it is the configuration of a daemon without such options.
    pub(crate) fn is_system(&self) -> bool {
        self.root.is_none() && self.plugins.is_none() && !self.user
    }

    /// Whether it is the configuration of this user.
    pub(crate) fn is_of_user(&self) -> bool {
        self.user
    }

    /// Why there is no such configuration, if that is so.
    pub(crate) fn mistake(&self) -> Option<NoUserDirectories> {
        let environment = self.user.then(Environment::read)?;
        environment.of_user().err()
    }

    /// The only directory of plugins, if one is given.
    pub(crate) fn plugins(&self) -> Option<&Path> {
        self.plugins.as_deref()
    }

    /// The search path.
    pub(crate) fn search_path(&self) -> SearchPath {
        self.search_path_of(self.plugins())
    }

    /// The same, with plugins in this directory only, if there is one.
    pub(crate) fn search_path_of(&self, plugins: Option<&Path>) -> SearchPath {
        let path = match self.user {
            true => {
                let environment = Environment::read();
                SearchPath::of_user(
                    environment.xdg_runtime_directory.as_deref(),
                    environment.user_config().as_deref(),
                )
            }
            false => SearchPath::below(self.root.as_deref().unwrap_or(Path::new("/"))),
        };
        match plugins {
            Some(directory) => path.with_only_plugins(directory.to_owned()),
            None => path,
        }
    }
}
