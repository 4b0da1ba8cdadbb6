//! `pluginctl drain` and `undrain`: take the daemon out of service, and put it back.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    print::{complain, json, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use plugind::api;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct DrainArgs {
    /// Print JSON: the reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

impl DrainArgs {
    pub(crate) fn drain(self) -> Result<ExitCode, Problem> {
        let drained: api::Drained = wait_for(unless_interrupted(async {
            Ok(Client::connect(&self.place)?.call(CallMethod::Drain).await?)
        }))?;
        if self.json {
            print(&json(&drained))?;
        }
        Ok(match drained.connections {
            0 => {
                if !self.json {
                    print(&line("drained: no connections are left"))?;
                }
                ExitCode::SUCCESS
            }
            left => {
                let are_left = if left == 1 {
                    "connection is left, and continues"
                } else {
                    "connections are left, and continue"
                };
                complain(&format!("draining: {left} {are_left}"));
                ExitCode::FAILURE
            }
        })
    }

    pub(crate) fn undrain(self) -> Result<ExitCode, Problem> {
        let ended: api::EmptyReply = wait_for(unless_interrupted(async {
            Ok(Client::connect(&self.place)?.call(CallMethod::Undrain).await?)
        }))?;
        print(&if self.json { json(&ended) } else { line("in service again") })?;
        Ok(ExitCode::SUCCESS)
    }
}
