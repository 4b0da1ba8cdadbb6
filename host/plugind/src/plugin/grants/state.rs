//! `grants.state`: a directory of the plugin's own.

use crate::{
    config::Table,
    plugin::{grants::unit_need::UnitNeed, interfaces::Grant},
};
use std::path::{Path, PathBuf};

/// Where a plugin finds the directory of its own.
pub const STATE: &str = "/state";

/// Reads the key; `directories` are those that the key `read` grants.
pub(super) fn read(table: &Table<'_>, directories: &[PathBuf]) -> bool {
    let state = table.boolean("state").unwrap_or(false);
    if state && directories.iter().any(|path| path == Path::new(STATE)) {
        table.complain_about(
            Grant::Read.key(),
            format!("grants.read must not contain {STATE}, the directory that grants.state gives to the plugin"),
        );
    }
    state
}

pub(super) fn needs<'a>(state: bool) -> Vec<UnitNeed<'a>> {
    state.then_some(UnitNeed::StateDirectory).into_iter().collect()
}
