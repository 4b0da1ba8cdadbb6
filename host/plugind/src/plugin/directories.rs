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
pub type JudgedPlugin = Result<Verified, Box<Rejected>>;

/// The contents of the plugin directories.
pub struct ScanReport {
    /// The plugins, in the order of their names.
    pub plugins: Vec<JudgedPlugin>,
    /// Plugins that a link to `/dev/null` or an empty file masks.
    pub masked: Vec<Masked>,
    /// Files that belong to no plugin.
    pub strays: Vec<Ignored>,
}

/// Reads the plugin directories and verifies the plugins. Blocks.
///
/// # Errors
/// When a directory cannot be read.
pub fn read_plugins(search_path: &SearchPath) -> Result<ScanReport, ListError> {
    let Scanned { found, masked, ignored: strays } = scan(search_path)?;
    Ok(ScanReport { plugins: found.into_iter().map(verify).collect(), masked, strays })
}

/// The name of a plugin, whether it was verified or rejected.
#[must_use]
pub fn name_of(judged: &JudgedPlugin) -> &PluginName {
    match judged {
        Ok(verified) => verified.name(),
        Err(rejected) => &rejected.name,
    }
}
