//! `pluginctl restart`: has the instances of plugins replaced by new ones.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use plugind::{api, base::name::PluginName};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct RestartArgs {
    /// Restart these plugins, one after the other
    #[arg(required = true, value_name = "NAME")]
    names: Vec<PluginName>,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

impl RestartArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        wait_for(unless_interrupted(async {
            let mut client = Client::connect(&self.place)?;
            let mut status = ExitCode::SUCCESS;
            for name in &self.names {
                match self.restart(&mut client, name).await {
                    Err(problem) if problem.is_refusal() => {
                        complain(&problem.to_string());
                        status = ExitCode::FAILURE;
                    }
                    restarted => restarted?,
                }
            }
            Ok(status)
        }))
    }

    async fn restart(&self, client: &mut Client, name: &PluginName) -> Result<(), Problem> {
        let asked = CallMethod::Restart(api::Name { name: name.to_string() });
        let restarted: api::Restarted = client.call(asked).await?;
        let reported = format!("{name}: restarted, generation {}", restarted.generation);
        Ok(print(&if self.json { json(&restarted) } else { line(&reported) })?)
    }
}
