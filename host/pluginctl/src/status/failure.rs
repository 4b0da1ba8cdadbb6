//! The failure of a plugin, in a line of a status.

use plugind::api;

/// Returns the stage at which it failed, the cause and the remedy.
pub(super) fn at(failure: &api::PluginFailure) -> String {
    format!("at {}: {}; {}", failure.stage, failure.error, failure.remedy)
}
