//! All-or-nothing reloads: new versions wait for each other, and take over together or not at all.

use crate::{
    base::name::PluginName,
    supervisor::{
        Supervisor,
        compare::Change,
        execute::log_failure,
        plugin::PluginEvent,
        reloads::AllOrNothingStep,
        rollout::{HoldPoint, RolloutProgress},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::time::SystemTime;
use tracing::warn;

impl Supervisor {
    /// Whether this very set was refused as a whole before, and no other try is asked for.
    pub(super) fn is_refused_already(&mut self) -> bool {
        let Some(failed) = self.reloads.refused_before() else { return false };
        let plugins: Vec<_> = failed.iter().map(|failed| failed.plugin.to_string()).collect();
        warn!(failed = plugins.join(" "), "reload failed, nothing changed");
        true
    }

    /// Whether something was found that cannot be used, so that nothing is begun.
    pub(super) fn is_refused(&mut self, changes: &[(PluginName, Change)]) -> bool {
        let mut refused = false;
        for (name, change) in changes {
            if let Change::Bad(problem)
            | Change::KnownToFail(problem)
            | Change::Withdrawn(problem) = change
            {
                refused = true;
                log_failure(name, problem);
                self.reloads.note(|reload| reload.failed(problem.failed(name)));
                if let Some(plugin) = self.plugins.get_mut(name) {
                    plugin.note_problem(*problem.clone(), SystemTime::now());
                    self.touched.insert(name.clone());
                }
            }
        }
        refused
    }

    /// Lets all take over when all are ready, or none when one has failed.
    pub(super) fn settle_all_or_nothing(&mut self) {
        if !self.reloads.options().all_or_nothing {
            return;
        }
        match self.all_or_nothing_step() {
            AllOrNothingStep::Wait => return,
            AllOrNothingStep::TakeBack => return self.take_back(),
            AllOrNothingStep::Commit(names) => return self.commit(&names),
            AllOrNothingStep::HandOver(names) => {
                for name in &names {
                    self.decide(name, PluginEvent::Open(HoldPoint::HandOver));
                }
                self.execute();
            }
        }
        // Without a handover, all are settled already.
        if let AllOrNothingStep::Commit(names) = self.all_or_nothing_step() {
            self.commit(&names);
        }
    }

    fn all_or_nothing_step(&mut self) -> AllOrNothingStep {
        let plugins = &self.plugins;
        self.reloads.all_or_nothing_step(|name| {
            let plugin = plugins.get(name).filter(|it| it.generations.candidate().is_some());
            plugin.map_or(RolloutProgress::Starting, |plugin| plugin.generations.progress())
        })
    }

    /// All take over in one swap, and those that are not there any more are removed.
    fn commit(&mut self, pending: &[PluginName]) {
        for name in pending {
            self.decide(name, PluginEvent::Open(HoldPoint::Open));
        }
        for name in self.reloads.commit() {
            self.decide(&name, PluginEvent::Remove(StopReason::Removed));
        }
        // One table for all of them.
        self.execute();
        self.publish();
    }

    /// Cancels the pending changes, and forgets each added plugin, even if an earlier reading for the same reload added
    /// it.
    fn take_back(&mut self) {
        let added = self.reloads.take_back();
        // A change in progress for another reason continues.
        let held = self.plugins.values().filter(|plugin| plugin.is_at_hold_point());
        for name in held.map(|plugin| plugin.name.clone()).collect::<Vec<_>>() {
            self.decide(&name, PluginEvent::NotWanted);
        }
        for name in added {
            self.decide(&name, PluginEvent::Forget);
        }
        self.execute();
        self.publish();
    }
}
