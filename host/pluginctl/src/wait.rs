//! `pluginctl wait`: waits until a plugin serves, or until nothing of it runs.

use crate::{
    client::CallMethod,
    observed_daemon::ObservedDaemon,
    problem::{Problem, unless_interrupted, wait_for},
};
use plugind::{
    api,
    base::{name::PluginName, quantity::Span},
};
use std::{process::ExitCode, time::Duration};
use tokio::time::timeout;

#[derive(clap::Args)]
pub(crate) struct WaitArgs {
    /// The plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    /// Wait until the plugin serves (default)
    #[arg(long)]
    ready: bool,
    /// Wait until the plugin is stopped or removed, and its instances have ended
    #[arg(long, conflicts_with = "ready")]
    gone: bool,
    /// Wait for at most this time, such as 30s
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    #[command(flatten)]
    daemon: ObservedDaemon,
}

/// Why a plugin is not waited for any longer.
#[derive(Debug, thiserror::Error)]
enum WaitError {
    #[error("{name}: failed at {stage}: {error}; {remedy}", name = .0.plugin, stage = .0.stage, error = .0.error, remedy = .0.remedy)]
    Failed(api::PluginFailure),
    #[error("{name}: failed", name = .0)]
    FailedWithoutReason(PluginName),
    #[error("{name}: {wanted} within {time}", time = humantime::format_duration(*.time))]
    TimedOut { name: PluginName, wanted: &'static str, time: Duration },
}

impl WaitArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        wait_for(unless_interrupted(async {
            let Some(Span(time)) = self.timeout else { return self.wait().await };
            timeout(time, self.wait()).await.unwrap_or_else(|_| {
                let wanted = if self.gone { "did not end" } else { "was not ready" };
                let name = self.name.clone();
                Err(Problem::failed(WaitError::TimedOut { name, wanted, time }))
            })
        }))
    }

    async fn wait(&self) -> Result<ExitCode, Problem> {
        let mut client = self.daemon.connect()?;
        client.begin(CallMethod::Follow(api::Name { name: self.name.to_string() })).await?;
        loop {
            let (api::Followed { plugin }, _) = client.next().await?;
            let is_so = match &plugin {
                None => self.gone,
                Some(plugin) if self.gone => plugin.sub_state == "stopped",
                Some(plugin) if plugin.active_state == "failed" => {
                    return Err(Problem::failed(match plugin.failure.clone() {
                        Some(failure) => WaitError::Failed(failure),
                        None => WaitError::FailedWithoutReason(self.name.clone()),
                    }));
                }
                Some(plugin) => is_ready(plugin),
            };
            if is_so {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Whether it serves, is a background program that has done its work, or is started by its next request.
pub(crate) fn is_ready(plugin: &api::Plugin) -> bool {
    matches!(&*plugin.active_state, "active" | "reloading")
        || ["exited", "on demand"].contains(&&*plugin.sub_state)
}
