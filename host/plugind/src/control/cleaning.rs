//! The call that removes the data kept for a plugin, and the sizes of that data.

use crate::{
    api,
    base::name::PluginName,
    control::{
        interfaces::VarlinkError,
        service::{CallOutcome, ControlContext, Method, no_such_plugin, reported, stopping},
    },
    plugin::state_files,
    supervisor::{
        clean_outcome::{CleanError, CleanParts},
        problem::Stopping,
    },
};
use std::time::Duration;
use tokio::time::timeout;

/// The time limit for measuring the files of a plugin.
const MEASURE_DEADLINE: Duration = Duration::from_secs(1);

impl ControlContext {
    pub(super) async fn clean(&self, method: &Method) -> CallOutcome {
        let api::CleanRequest { name, what } = method.parameters()?;
        let name: PluginName = name.parse().map_err(|_| VarlinkError::bad_parameter("name"))?;
        let mut parts = CleanParts::default();
        for part in &what {
            match part.as_str() {
                "state" => parts.state = true,
                "saved" => parts.saved = true,
                _ => return Err(VarlinkError::bad_parameter("what")),
            }
        }
        match self.supervisor.clean(name.clone(), parts).await {
            Ok(()) => {
                let server = self.key_value_server.filter(|_| parts.state).map(str::to_owned);
                Ok(reported(api::Cleaned { key_value_server: server }))
            }
            Err(CleanError::NoSuchPlugin) => Err(no_such_plugin(&name)),
            Err(CleanError::Stopping(Stopping)) => Err(stopping()),
            Err(why) => {
                let failed = api::CleanFailed { name: name.to_string(), reason: why.to_string() };
                Err(VarlinkError::own("io.plugind.CleanFailed", failed))
            }
        }
    }

    /// The description with the sizes of files, unless their file system takes too long to answer.
    pub(super) async fn with_sizes(
        &self,
        name: PluginName,
        mut description: api::Description,
    ) -> api::Description {
        let state = self.storage.state.clone();
        let plugin = name.clone();
        let measured = self.measurements.join(name, move || state_files::measure(&state, &plugin));
        if let Ok(Some(size)) = timeout(MEASURE_DEADLINE, measured).await {
            description.kept.state = size.files;
            // A file from before the stores moved to a server is not its store.
            description.kept.key_value = size.store.filter(|_| self.key_value_server.is_none());
        }
        description
    }
}
