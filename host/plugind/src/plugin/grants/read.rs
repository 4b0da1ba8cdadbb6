//! `grants.read`: directories of the machine.

use crate::{base::text::is_harmful, config::Table, plugin::grants::unit_need::UnitNeed};
use std::path::PathBuf;

pub(super) fn read(table: &Table<'_>) -> Vec<PathBuf> {
    table.list("read", check)
}

pub(super) fn needs(paths: &[PathBuf]) -> Vec<UnitNeed<'_>> {
    paths.iter().map(|path| UnitNeed::Directory(path)).collect()
}

/// A directory is found under the same path by the plugin, so there must be one way to write it.
fn check(text: &str) -> Result<PathBuf, String> {
    let mut segments = text.strip_prefix('/').unwrap_or("..").split('/');
    let plain = |segment| !matches!(segment, "" | "." | "..");
    if (text != "/" && !segments.all(plain)) || text.contains(is_harmful) {
        let what = "is not an absolute path without \".\" and \"..\"; write one";
        return Err(format!("{text:?} {what}, as in \"/usr/share/zoneinfo\""));
    }
    Ok(PathBuf::from(text))
}
