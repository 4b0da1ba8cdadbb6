//! `pluginctl log-level`: the least important priority that the daemon logs.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    problem::{Problem, wait_for},
};
use plugind::{api, base::priority::Priority, cli::priorities};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct LogLevelArgs {
    /// Discard log entries that are less important than this priority
    #[arg(value_name = "PRIORITY", value_parser = priorities())]
    priority: Priority,
    #[command(flatten)]
    place: ControlAddress,
}

impl LogLevelArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let asked = CallMethod::SetLogLevel(api::LogLevel { level: self.priority.number().into() });
        wait_for(async { Ok(Client::connect(&self.place)?.request(asked).await?) })?;
        Ok(ExitCode::SUCCESS)
    }
}
