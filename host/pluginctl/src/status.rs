//! `pluginctl status`: the state of the daemon, or of one plugin.

mod daemon;
mod failure;
mod plugin;

use crate::{
    client::{CallMethod, Client},
    observed_daemon::ObservedDaemon,
    print::{complain, json, line, print},
    problem::{NOT_ACTIVE, NOT_THERE, Problem, wait_for},
};
use plugind::{api, base::name::PluginName};
use std::{process::ExitCode, time::SystemTime};

#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Show this plugin (default: the daemon)
    #[arg(value_name = "NAME")]
    name: Option<PluginName>,
    /// Print a line for each change of the state of the daemon, until it exits
    #[arg(short, long, conflicts_with = "name")]
    follow: bool,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: ObservedDaemon,
}

impl StatusArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        wait_for(async {
            let client = self.daemon.connect()?;
            match &self.name {
                Some(name) => self.describe(client, name).await,
                None if self.follow => self.follow(client).await,
                None => self.daemon(client).await,
            }
        })
    }

    async fn daemon(&self, mut client: Client) -> Result<ExitCode, Problem> {
        let status: api::Status = client.call(CallMethod::Status).await?;
        print(&if self.json { json(&status) } else { daemon::text(&status) })?;
        Ok(if daemon::is_well(&status) { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }

    async fn follow(&self, mut client: Client) -> Result<ExitCode, Problem> {
        client.begin(CallMethod::Status).await?;
        loop {
            let (status, more) = client.next::<api::Status>().await?;
            print(&if self.json {
                json(&status)
            } else {
                line(&format!("{}: {}", status.active_state, status.status))
            })?;
            if !more {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    async fn describe(&self, mut client: Client, name: &PluginName) -> Result<ExitCode, Problem> {
        let asked = CallMethod::Describe(api::Name { name: name.to_string() });
        let described: api::Description = match client.call(asked).await.map_err(Problem::from) {
            Err(problem) if problem.is_no_such_plugin() => {
                complain(&problem.to_string());
                return Ok(ExitCode::from(NOT_THERE));
            }
            described => described?,
        };
        print(&if self.json {
            json(&described)
        } else {
            plugin::text(&described, SystemTime::now())
        })?;
        let is_well = serves(&described.plugin);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }
}

/// Whether the newest version of a plugin serves the next request, even if that starts an instance on demand.
fn serves(plugin: &api::Plugin) -> bool {
    let takes_requests = match &*plugin.active_state {
        "active" | "reloading" => true,
        "inactive" => plugin.sub_state == "on demand",
        // Only a plugin that is started on demand has a generation already.
        "activating" => plugin.generation.is_some(),
        _ => false,
    };
    takes_requests && plugin.failure.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failure, greeter};

    #[test]
    fn a_plugin_serves_while_it_has_no_instance_only_if_a_request_starts_one() {
        let plugin = |active: &str, sub: &str, generation, failure| api::Plugin {
            active_state: active.to_owned(),
            sub_state: sub.to_owned(),
            generation,
            failure,
            ..greeter()
        };
        for (active, sub) in [
            ("active", "running"),
            ("active", "degraded"),
            ("reloading", "compiling"),
            ("inactive", "on demand"),
            ("activating", "starting"),
        ] {
            assert!(serves(&plugin(active, sub, Some(1), None)), "{active} {sub}");
            assert!(!serves(&plugin(active, sub, Some(1), Some(failure()))), "{active} {sub}");
        }
        for (active, sub) in [
            ("inactive", "exited"),
            ("inactive", "stopped"),
            ("activating", "starting"),
            ("activating", "auto-restart"),
            ("deactivating", "stopping"),
            ("failed", "failed"),
        ] {
            assert!(!serves(&plugin(active, sub, None, None)), "{active} {sub}");
        }
    }
}
