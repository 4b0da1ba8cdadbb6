//! The calls that take the daemon out of service and back.

use crate::{
    api,
    base::error_chain::ErrorChain,
    control::{
        interfaces::VarlinkError,
        service::{CallOutcome, ControlContext, reported},
    },
    listen::draining::DrainError,
};
use serde_json::json;

impl ControlContext {
    pub(super) async fn drain(&self) -> CallOutcome {
        self.draining.begin().map_err(|error| failed(&error))?;
        let connections = self.draining.drained().await.map_err(|error| failed(&error))?;
        Ok(reported(api::Drained { connections: connections as u64 }))
    }

    pub(super) fn undrain(&self) -> CallOutcome {
        self.draining.end().map_err(|error| failed(&error))?;
        Ok(json!({}))
    }
}

fn failed(error: &DrainError) -> VarlinkError {
    let reason = ErrorChain(error).to_string();
    VarlinkError::own("io.plugind.DrainFailed", api::DrainFailed { reason })
}
