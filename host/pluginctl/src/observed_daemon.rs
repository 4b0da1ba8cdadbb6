//! The connection of commands that only look at the daemon, which must not start it.

use crate::{
    client::{Client, ClientError, ControlAddress},
    daemon_state,
    problem::Problem,
};

/// Where the daemon is found, by a command that does not change anything.
#[derive(clap::Args)]
pub(crate) struct ObservedDaemon {
    /// Start the daemon if it does not run (default: fail)
    #[arg(long)]
    start: bool,
    #[command(flatten)]
    place: ControlAddress,
}

impl ObservedDaemon {
    /// Connects to the daemon if it runs, or if it is to be started, within a runtime.
    pub(crate) fn connect(&self) -> Result<Client, Problem> {
        let manager = self.place.manager().filter(|_| !self.start);
        if let Some(down) = manager.and_then(daemon_state::down) {
            return Err(Problem::Down(Box::new(down)));
        }
        Client::connect(&self.place).map_err(|error| match error {
            ClientError::NotRunning { .. } => Problem::Down(Box::new(error)),
            other => other.into(),
        })
    }
}
