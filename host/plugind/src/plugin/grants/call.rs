//! `grants.call`: the plugins to which requests may be sent within the daemon.

use crate::{base::name::PluginName, config::Table};

/// Behind its name, the host of a plugin in a URL.
pub const PLUGIN_DOMAIN: &str = ".plugind";

pub(super) fn read(table: &Table<'_>) -> Vec<PluginName> {
    table.list("call", str::parse)
}
