//! `pluginctl log-level`: how much the daemon says.

use crate::{
    client::{Client, Method, Place},
    problem::{Problem, wait_for},
};
use plugind::{api, arguments::priorities, journal::Priority};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct LogLevel {
    /// Discard log entries that are less important
    #[arg(value_name = "PRIORITY", value_parser = priorities())]
    priority: Priority,
    #[command(flatten)]
    place: Place,
}

impl LogLevel {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let asked = Method::SetLogLevel(api::LogLevel { level: self.priority.number().into() });
        wait_for(async { Ok(Client::connect(&self.place)?.tell(asked).await?) })?;
        Ok(ExitCode::SUCCESS)
    }
}
