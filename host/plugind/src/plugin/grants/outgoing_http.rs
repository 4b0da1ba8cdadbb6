//! `grants.outgoing-http`: the servers to which HTTP requests may be sent.

use crate::{
    base::endpoint::{Endpoint, Host},
    config::Table,
    plugin::grants::{call::PLUGIN_DOMAIN, unit_need::UnitNeed},
};

pub(super) fn read(table: &Table<'_>) -> Vec<Endpoint> {
    table.list("outgoing-http", check)
}

pub(super) fn needs(endpoints: &[Endpoint]) -> Vec<UnitNeed<'_>> {
    endpoints.iter().map(UnitNeed::Connection).collect()
}

/// The names of plugins are not names of servers.
fn check(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| format!("{error}"))?;
    if let Host::Name(name) = &endpoint.host
        && let Some(plugin) = name.strip_suffix(PLUGIN_DOMAIN)
    {
        return Err(format!(
            "{text:?} is a plugin and not a server; write call = [\"{plugin}\"] instead"
        ));
    }
    Ok(endpoint)
}
