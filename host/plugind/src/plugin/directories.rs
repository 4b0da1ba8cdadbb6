//! Reads the plugin directories, and verifies each plugin in them.

use crate::{
    base::name::PluginName,
    config::{ListError, SearchPath},
    plugin::{
        scan::{Ignored, Masked, Scanned, scan},
        verify::{Rejected, Verified, verify},
    },
};

/// A plugin that was found, verified or rejected.
pub type VerifyResult = Result<Verified, Box<Rejected>>;

/// The contents of the plugin directories.
pub struct ScanReport {
    /// The plugins, in the order of their names.
    pub plugins: Vec<VerifyResult>,
    /// Plugins that a link to `/dev/null` or an empty file masks.
    pub masked: Vec<Masked>,
    /// Files that belong to no plugin.
    pub ignored: Vec<Ignored>,
}

/// Reads the plugin directories and verifies the plugins. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read_plugins(search_path: &SearchPath) -> Result<ScanReport, ListError> {
    let Scanned { found, masked, ignored } = scan(search_path)?;
    Ok(ScanReport { plugins: found.into_iter().map(verify).collect(), masked, ignored })
}

/// The name of a plugin, whether it was verified or rejected.
#[must_use]
pub fn name_of(outcome: &VerifyResult) -> &PluginName {
    match outcome {
        Ok(verified) => verified.name(),
        Err(rejected) => &rejected.name,
    }
}
