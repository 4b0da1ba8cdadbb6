//! `pluginctl restart`, `rollback`, `pin`, `unpin`, `start` and `stop`: operations on single plugins.

use crate::{
    client::{CallMethod, Client, ClientError, ControlAddress},
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use plugind::{api, base::name::PluginName, plugin::archive, systemd::state_lock::StateLock};
use std::{io, process::ExitCode};

#[derive(clap::Args)]
pub(crate) struct VerbArgs {
    /// The plugins, one after the other
    #[arg(required = true, value_name = "NAME")]
    names: Vec<PluginName>,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

/// A pin cannot be removed without the daemon.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the pin of {name}: {source}")]
struct UnpinError {
    name: PluginName,
    source: io::Error,
}

/// An operation on a plugin.
#[derive(Clone, Copy)]
pub(crate) enum Verb {
    Restart,
    Rollback,
    Pin,
    Unpin,
    Start,
    Stop,
}

impl VerbArgs {
    pub(crate) fn run(self, verb: Verb) -> Result<ExitCode, Problem> {
        match (verb, self.ask(verb)) {
            // A pinned version can be the reason that the daemon does not start.
            (
                Verb::Unpin,
                Err(Problem::Client(error @ (ClientError::NotRunning { .. } | ClientError::Ended))),
            ) => self.unpin_without_daemon(error),
            (_, status) => status,
        }
    }

    /// Removes the pins from the state, if no daemon uses it.
    fn unpin_without_daemon(&self, error: ClientError) -> Result<ExitCode, Problem> {
        let Some(state) = self.place.state_without_daemon().map_err(ClientError::from)? else {
            return Err(error.into());
        };
        if !state.is_dir() {
            return Err(error.into());
        }
        let Ok(_lock) = StateLock::acquire(&state) else { return Err(error.into()) };
        let mut status = ExitCode::SUCCESS;
        for name in &self.names {
            let failed = |source| Problem::failed(UnpinError { name: name.clone(), source });
            if !archive::unpin(&state, name).map_err(failed)? {
                complain(&format!("{name}: it is not pinned"));
                status = ExitCode::FAILURE;
                continue;
            }
            let unpinned = api::EmptyReply {};
            let text = format!("{name}: unpinned; the next start of plugind uses its files");
            print(&self.shown(&unpinned, text))?;
        }
        Ok(status)
    }

    /// Has the daemon act.
    fn ask(&self, verb: Verb) -> Result<ExitCode, Problem> {
        wait_for(unless_interrupted(async {
            let mut client = Client::connect(&self.place)?;
            let mut status = ExitCode::SUCCESS;
            for name in &self.names {
                match self.act(verb, &mut client, name).await {
                    Err(problem) if problem.is_refusal() => {
                        complain(&problem.to_string());
                        status = ExitCode::FAILURE;
                    }
                    acted => acted?,
                }
            }
            Ok(status)
        }))
    }

    async fn act(&self, verb: Verb, client: &mut Client, name: &PluginName) -> Result<(), Problem> {
        let parameters = api::Name { name: name.to_string() };
        let reported = match verb {
            Verb::Restart => {
                let restarted: api::ServingVersion =
                    client.call(CallMethod::Restart(parameters)).await?;
                self.shown(
                    &restarted,
                    format!("{name}: restarted, generation {}", restarted.generation),
                )
            }
            Verb::Rollback => {
                let serving: api::ServingVersion =
                    client.call(CallMethod::Rollback(parameters)).await?;
                self.shown(
                    &serving,
                    format!("{name}: rolled back, generation {}", serving.generation),
                )
            }
            Verb::Start => {
                let started: api::ServingVersion =
                    client.call(CallMethod::Start(parameters)).await?;
                self.shown(&started, format!("{name}: started, generation {}", started.generation))
            }
            Verb::Pin => {
                let pinned: api::EmptyReply = client.call(CallMethod::Pin(parameters)).await?;
                self.shown(&pinned, format!("{name}: pinned to the version that serves"))
            }
            Verb::Unpin => {
                let unpinned: api::EmptyReply = client.call(CallMethod::Unpin(parameters)).await?;
                self.shown(&unpinned, format!("{name}: unpinned; a reload takes over its files"))
            }
            Verb::Stop => {
                let stopped: api::EmptyReply = client.call(CallMethod::Stop(parameters)).await?;
                self.shown(&stopped, format!("{name}: stopped"))
            }
        };
        Ok(print(&reported)?)
    }

    fn shown(&self, reply: &impl serde::Serialize, text: String) -> String {
        if self.json { json(reply) } else { line(&text) }
    }
}
