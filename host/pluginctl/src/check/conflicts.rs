//! Plugins whose grants, and settings that the unit of the daemon does not permit, and the drop-in that would.

use crate::{
    sandbox_conflict::{DropIn, SandboxConflict, find_conflicts, find_settings_conflicts},
    unit::Unit,
};
use plugind::{
    api::FailedStage, base::name::PluginName, check::Checked, config::settings::Settings,
};
use std::collections::BTreeMap;

/// Plugins whose grants the unit of the daemon does not permit.
#[derive(Default)]
pub(super) struct Conflicts {
    /// Plugins that link and then cannot use their grants.
    later: BTreeMap<PluginName, Vec<String>>,
    /// Servers and files of the settings that the daemon cannot use.
    pub(super) settings: Vec<SandboxConflict>,
    /// The drop-in that would permit all of them.
    pub(super) drop_in: Option<String>,
}

impl Conflicts {
    /// Finds them, and those of the `settings`, if there are some. Plugins that the daemon could not even link have
    /// failed.
    pub(super) fn find(plugins: &mut [Checked], settings: Option<&Settings>, unit: &Unit) -> Self {
        let (mut all, mut drop_in) = (BTreeMap::new(), DropIn::default());
        let settings = settings
            .map(|settings| find_settings_conflicts(settings, unit, &mut drop_in))
            .unwrap_or_default();
        for checked in plugins {
            let Some(verified) = &checked.verified else { continue };
            let found =
                find_conflicts(&checked.name, &verified.manifest().grants, unit, &mut drop_in);
            let (at_link, later): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|conflict| conflict.at_link);
            let reported =
                |found: Vec<SandboxConflict>| found.into_iter().map(|conflict| conflict.reported);
            if !at_link.is_empty() {
                let (_, lines) =
                    checked.failed.get_or_insert_with(|| (FailedStage::Link, Vec::new()));
                lines.extend(reported(at_link));
            }
            if !later.is_empty() {
                all.insert(checked.name.clone(), reported(later).collect());
            }
        }
        Self { later: all, settings, drop_in: drop_in.text() }
    }

    /// Returns the messages about a plugin.
    pub(super) fn of(&self, checked: &Checked) -> &[String] {
        self.later.get(&checked.name).map_or(&[], Vec::as_slice)
    }
}
