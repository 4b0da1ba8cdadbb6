//! `grants.outgoing-http`: to whom HTTP requests may be sent.

use crate::{base::endpoint::Endpoint, config::Table, plugin::grants::unit_need::UnitNeed};

pub(super) fn read(table: &Table<'_>) -> Vec<Endpoint> {
    table.list("outgoing-http", str::parse)
}

pub(super) fn needs(endpoints: &[Endpoint]) -> Vec<UnitNeed<'_>> {
    endpoints.iter().map(UnitNeed::Connection).collect()
}
