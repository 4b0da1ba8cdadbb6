//! `grants.credentials`: secrets.

use crate::{base::name::PluginName, config::Table, plugin::grants::unit_need::UnitNeed};

/// The longest name of a credential: with what comes before it, it is the name of a file.
const NAME_MAX: usize = 128;

/// The name of a credential's file. Two plugins may each have one of this name, so the plugin's own is part of it.
#[must_use]
pub fn credential_file(plugin: &PluginName, key: &str) -> String {
    format!("plugind.{plugin}.{key}")
}

pub(super) fn read(table: &Table<'_>) -> Vec<String> {
    table.list("credentials", check)
}

pub(super) fn needs<'a>(keys: &'a [String], plugin: &PluginName) -> Vec<UnitNeed<'a>> {
    keys.iter()
        .map(|key| UnitNeed::Credential { key, file: credential_file(plugin, key) })
        .collect()
}

/// A credential is a file of this name with `plugind.PLUGIN.` before it.
fn check(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(allowed) {
        return Err(format!(
            "{text:?} is not a name of a credential; a name must have 1 to {NAME_MAX} letters, digits, \"-\", \"_\" and \".\""
        ));
    }
    Ok(text.to_owned())
}
