//! `pluginctl clean`: removes the data that is kept for plugins.

use crate::{
    client::{CallMethod, CallRefused, Client, ClientError, ControlAddress},
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use clap::ValueEnum;
use plugind::{
    api,
    base::name::PluginName,
    plugin::{
        archive, compiled_files,
        scan::scan,
        state_files::{self, own_store},
        state_removal::{DetachedState, RemovalError, detach},
    },
    systemd::{
        saved_files::{has_saved, remove_saved},
        state_lock::StateLock,
    },
};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Args)]
pub(crate) struct CleanArgs {
    /// The plugins, one after the other
    #[arg(required = true, value_name = "NAME")]
    names: Vec<PluginName>,
    /// The data to remove, separated by commas
    #[arg(long, required = true, value_name = "WHAT", value_delimiter = ',')]
    what: Vec<KeptPart>,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

/// A part of the data that is kept for a plugin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum KeptPart {
    /// The files and the key-value store of a plugin that is stopped
    State,
    /// The compiled code
    Cache,
    /// The state for a handover of a plugin that is stopped
    Saved,
    /// All of this
    All,
}

/// The compiled files of a plugin.
struct CachedFiles {
    directory: PathBuf,
    components: BTreeSet<[u8; 32]>,
}

/// Something cannot be removed without the daemon.
#[derive(Debug, thiserror::Error)]
enum CleanFilesError {
    #[error("cannot remove the state of {name}: {source}")]
    State { name: PluginName, source: RemovalError },
    #[error("cannot remove compiled files of {name} from {}: {source}", path.display())]
    Cache { name: PluginName, path: PathBuf, source: io::Error },
    #[error(
        "--what=cache cannot be used with --socket, which does not lead to the compiled files; use --root"
    )]
    NoCache,
    #[error(
        "cannot remove the saved state of {name}{}: {source}",
        if *with_state { ", whose state was removed" } else { "" }
    )]
    Saved { name: PluginName, with_state: bool, source: io::Error },
    #[error(
        "no daemon runs, and there is no file with saved state; the file descriptor store of systemd may have some: \
         `systemctl clean --what=fdstore plugind.service` removes it for all plugins; nothing was removed"
    )]
    SavedWithoutDaemon,
}

impl CleanArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let mut status = ExitCode::SUCCESS;
        for name in &self.names {
            match self.clean(name) {
                Err(problem) if problem.is_refusal() => {
                    complain(&problem.to_string());
                    status = ExitCode::FAILURE;
                }
                cleaned => cleaned?,
            }
        }
        Ok(status)
    }

    fn has(&self, part: KeptPart) -> bool {
        self.what.contains(&part) || self.what.contains(&KeptPart::All)
    }

    fn clean(&self, name: &PluginName) -> Result<(), Problem> {
        // First, since nothing is removed if something cannot be.
        let cached = self.has(KeptPart::Cache).then(|| self.cached(name)).transpose()?;
        let parts = [(KeptPart::State, "state"), (KeptPart::Saved, "saved")];
        let parts = parts.into_iter().filter(|(part, _)| self.has(*part));
        let mut what: Vec<_> = parts.map(|(_, word)| word.to_owned()).collect();
        let mut reply = api::Cleaned::default();
        // Before the compiled files, since the daemon may refuse it.
        if !what.is_empty() {
            (what, reply) = self.clean_by_daemon(name, what)?;
        }
        let mut outcome = Ok(());
        if let Some(CachedFiles { directory, components }) = cached {
            let state = self.place.state().map_err(ClientError::from)?;
            if what.is_empty() && components.is_empty() && !self.is_known(name, &state)? {
                return Err(no_such_plugin(name));
            }
            match compiled_files::remove(&directory, &components) {
                Ok(_) => what.push("cache".to_owned()),
                Err(source) => {
                    let (name, path) = (name.clone(), directory);
                    let failed = CleanFilesError::Cache { name, path, source };
                    outcome = Err(Problem::failed(failed));
                }
            }
        }
        // Also if the compiled files stay: the state is lost all the same.
        if !what.is_empty() {
            let stays = reply.key_value_server.as_ref();
            let stays = stays.map(|kind| format!("; keys on the {kind} server stay"));
            let text = format!("{name}: removed {}{}", what.join(", "), stays.unwrap_or_default());
            print(&if self.json { json(&reply) } else { line(&text) })?;
        }
        outcome
    }

    /// Finds the compiled files that belong to a plugin: of the version that serves, of its files, and of the versions
    /// that are kept.
    fn cached(&self, name: &PluginName) -> Result<CachedFiles, Problem> {
        let directory = self.place.cache().map_err(ClientError::from)?;
        let directory = directory.ok_or_else(|| Problem::failed(CleanFilesError::NoCache))?;
        let search_path = self.place.search_path().map_err(ClientError::from)?;
        let state = self.place.state().map_err(ClientError::from)?;
        let mut components = compiled_files::components(&search_path, &state, name);
        let parameters = api::Name { name: name.to_string() };
        let described = wait_for(async {
            let mut client = Client::connect(&self.place)?;
            let described: api::Description = client.call(CallMethod::Describe(parameters)).await?;
            Ok(described)
        });
        // Without a daemon, or if it does not know the plugin, the files are what there is.
        let serving = described.ok().and_then(|described| described.digest);
        components.extend(serving.as_deref().and_then(compiled_files::parse_digest));
        Ok(CachedFiles { directory, components })
    }

    /// Has the daemon remove parts; if it does not run, removes them here. Returns those that were removed.
    fn clean_by_daemon(
        &self,
        name: &PluginName,
        what: Vec<String>,
    ) -> Result<(Vec<String>, api::Cleaned), Problem> {
        let parameters = api::CleanRequest { name: name.to_string(), what: what.clone() };
        let cleaned = wait_for(unless_interrupted(async {
            let mut client = Client::connect(&self.place)?;
            let cleaned: api::Cleaned = client.call(CallMethod::Clean(parameters)).await?;
            Ok(cleaned)
        }));
        match cleaned {
            Err(Problem::Client(error @ (ClientError::NotRunning { .. } | ClientError::Ended))) => {
                let removed = self.clean_without_daemon(name, what, error)?;
                Ok((removed, api::Cleaned::default()))
            }
            cleaned => Ok((what, cleaned?)),
        }
    }

    /// Whether the plugin has files, a directory of its state, a store, or a version that is kept. Files that cannot be read may
    /// be those of the plugin.
    fn is_known(&self, name: &PluginName, state: &Path) -> Result<bool, Problem> {
        let search_path = self.place.search_path().map_err(ClientError::from)?;
        let has_files = scan(&search_path)
            .map_or(true, |scanned| scanned.found.iter().any(|found| found.name == *name));
        let states = [state_files::directory(state, name), own_store(state, name)];
        let has_state = || states.iter().any(|path| path.symlink_metadata().is_ok());
        Ok(has_files || has_state() || !archive::components(state, name).is_empty())
    }

    fn clean_without_daemon(
        &self,
        name: &PluginName,
        mut what: Vec<String>,
        error: ClientError,
    ) -> Result<Vec<String>, Problem> {
        let state = self.place.state_without_daemon().map_err(ClientError::from)?;
        let Some(state) = state.filter(|state| state.is_dir()) else { return Err(error.into()) };
        let Ok(lock) = StateLock::acquire(&state) else { return Err(error.into()) };
        let is_known = self.is_known(name, &state)?;
        let failed =
            |source| Problem::failed(CleanFilesError::State { name: name.clone(), source });
        let [wants_state, wants_saved] =
            ["state", "saved"].map(|part| what.iter().any(|wanted| wanted == part));
        // Only a daemon that was idle leaves a file. Without it, nothing is removed unless everything is to be removed.
        let had_saved = wants_saved && has_saved(&state, name);
        let is_all = self.what.contains(&KeptPart::All);
        if wants_saved && !had_saved && !is_all {
            return Err(match is_known {
                true => Problem::failed(CleanFilesError::SavedWithoutDaemon),
                false => no_such_plugin(name),
            });
        }
        let detached = if wants_state { detach(&state, name).map_err(failed)? } else { None };
        let had_state = detached.is_some();
        let removed_saved = if had_saved { remove_saved(&state, name).map(drop) } else { Ok(()) };
        // A daemon that starts meanwhile does not wait until everything is deleted.
        drop(lock);
        detached.map_or(Ok(()), DetachedState::delete).map_err(failed)?;
        if !is_known && !had_state && !had_saved {
            return Err(no_such_plugin(name));
        }
        removed_saved.map_err(|source| {
            let (name, with_state) = (name.clone(), had_state);
            Problem::failed(CleanFilesError::Saved { name, with_state, source })
        })?;
        if !had_saved {
            what.retain(|part| part != "saved");
        }
        Ok(what)
    }
}

fn no_such_plugin(name: &PluginName) -> Problem {
    ClientError::Refused(CallRefused::NoSuchPlugin { name: name.to_string() }).into()
}
