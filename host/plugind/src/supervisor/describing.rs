//! What clients and reports get to know about plugins.

use crate::{
    api,
    base::name::PluginName,
    supervisor::{
        Supervisor,
        degraded::DegradedReason,
        plugin::ManagedPlugin,
        report::{moment, usage},
    },
};
use std::time::Instant;

impl Supervisor {
    pub(super) fn list(&self) -> Vec<api::Plugin> {
        self.plugins.values().map(|plugin| self.report_of(plugin)).collect()
    }

    pub(super) fn describe(&self, name: &PluginName) -> Option<api::Description> {
        let plugin = self.plugins.get(name)?;
        let running = plugin.serving().and_then(|serving| self.running.get(&serving.number));
        let mut described = plugin.describe(self.report_of(plugin));
        described.kept.cache = running.map(|running| running.pool.linked().image_size());
        described.kept.saved = plugin.generations.saved().map(|saved| saved.len() as u64);
        Some(described)
    }

    fn report_of(&self, plugin: &ManagedPlugin) -> api::Plugin {
        let facts = |number| self.facts(number);
        let mut serving = plugin.serving().and_then(|serving| facts(serving.number));
        if let Some(facts) = &mut serving {
            facts.degraded = self.degraded_reason(plugin);
        }
        let newest = plugin.newest().and_then(|newest| facts(newest.number));
        let mut reported = plugin.report(serving, newest);
        reported.pinned = self.pins.contains_key(&plugin.name);
        if let Some((view, since)) = self.board.plugin(&plugin.name) {
            reported.sub_state_since = Some(moment(since));
            let has_instances = view.gauges.memory_max > 0;
            reported.usage = has_instances.then(|| usage(&view, Instant::now()));
        }
        reported
    }

    /// Why a plugin is degraded, if it serves and is.
    pub(super) fn degraded_reason(&self, plugin: &ManagedPlugin) -> Option<DegradedReason> {
        let serving = plugin.serving().filter(|_| plugin.down().is_none())?;
        let pool = || DegradedReason::of_pool(&self.running.get(&serving.number)?.pool);
        let previous = || plugin.failed()?.previous_since.map(DegradedReason::PreviousVersion);
        let rolled_back = || plugin.is_rolled_back().then_some(DegradedReason::RolledBack);
        let is_missing = |link: &&PluginName| {
            self.plugins.get(*link).is_none_or(|link| !link.condition().is_ready())
        };
        let missing = serving.release.manifest.middleware.links.iter().find(is_missing);
        let missing = missing.cloned().map(DegradedReason::Middleware);
        missing.or_else(pool).or_else(previous).or_else(rolled_back)
    }
}
