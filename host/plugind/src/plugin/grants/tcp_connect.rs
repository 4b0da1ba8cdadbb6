//! `grants.tcp-connect`: the servers to which connections may be opened.

use crate::{base::endpoint::Endpoint, config::Table, plugin::grants::unit_need::UnitNeed};

pub(super) fn read(table: &Table<'_>) -> Vec<Endpoint> {
    table.list("tcp-connect", str::parse)
}

pub(super) fn needs(endpoints: &[Endpoint]) -> Vec<UnitNeed<'_>> {
    endpoints.iter().map(UnitNeed::Connection).collect()
}
