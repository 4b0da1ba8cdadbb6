//! All-or-nothing reloads: new versions wait for each other, and take over together or not at all.

use crate::supervisor::Supervisor;
use crate::{
    base::{name::PluginName, text::cut},
    journal::messages,
    supervisor::{
        compare::Change,
        plugin::PluginProblem,
        reloads::BundleStep,
        rollout::{HoldPoint, RolloutProgress},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{collections::BTreeMap, time::Instant};
use tracing::{error, warn};

impl Supervisor {
    /// Whether this very set was refused as a whole before, and no other try is asked for.
    pub(super) fn is_refused_already(&mut self) -> bool {
        let Some(failed) = self.reloads.refused_before() else { return false };
        let plugins: Vec<_> = failed.iter().map(|failed| failed.plugin.to_string()).collect();
        warn!(
            failed = plugins.join(" "),
            "nothing is reloaded: all or nothing was asked for, and is not to be had; `pluginctl reload` tries again"
        );
        true
    }

    /// Whether something was found that cannot be used, so that nothing is begun.
    pub(super) fn is_refused(&mut self, changes: &[(PluginName, Change)]) -> bool {
        let mut refused = false;
        for (name, change) in changes {
            if let Change::Bad(problem) | Change::KnownToFail(problem) = change {
                refused = true;
                self.log_failure(name, problem);
                self.reloads.note(|reload| reload.failed(problem.failed(name)));
                if let Some(kept) = self.plugins.get_mut(name) {
                    kept.problem = Some(problem.clone());
                }
            }
        }
        refused
    }

    /// Lets all take over when all are ready, or none when one has failed.
    pub(super) fn settle_bundle(&mut self) {
        match self.bundle_step() {
            BundleStep::Wait => return,
            BundleStep::TakeBack => return self.take_back(),
            BundleStep::Commit(names) => return self.commit(&names),
            BundleStep::HandOver(names) => {
                for name in &names {
                    self.open(name, HoldPoint::HandOver);
                }
            }
        }
        // Where nothing is handed over all have got what they get.
        if let BundleStep::Commit(names) = self.bundle_step() {
            self.commit(&names);
        }
    }

    fn bundle_step(&mut self) -> BundleStep {
        let progress: BTreeMap<_, _> =
            self.plugins.keys().map(|name| (name.clone(), self.progress_of(name))).collect();
        self.reloads
            .bundle_step(|name| progress.get(name).copied().unwrap_or(RolloutProgress::Starting))
    }

    fn progress_of(&self, name: &PluginName) -> RolloutProgress {
        let kept = self.plugins.get(name).filter(|kept| kept.generations.candidate().is_some());
        kept.map_or(RolloutProgress::Starting, |kept| kept.generations.progress())
    }

    fn open(&mut self, name: &PluginName, hold_point: HoldPoint) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let orders = kept.generations.open(hold_point, Instant::now());
        self.carry_out(name, orders);
    }

    /// All take over in one swap, and those that are not there any more are removed.
    fn commit(&mut self, pending: &[PluginName]) {
        let now = Instant::now();
        let mut orders = Vec::new();
        for name in pending {
            if let Some(kept) = self.plugins.get_mut(name) {
                orders.push((name.clone(), kept.generations.open(HoldPoint::Open, now)));
            }
        }
        for name in self.reloads.commit() {
            let removal = self.removal(&name, StopReason::Removed);
            orders.push((name, removal));
        }
        // The first of these publishes what all of them have come to.
        for (name, orders) in orders {
            self.carry_out(&name, orders);
        }
        self.publish();
    }

    /// What was begun is given up, and what was added is forgotten, also if an earlier reading for the same reload added
    /// it.
    fn take_back(&mut self) {
        let added = self.reloads.take_back();
        // What is in progress for another reason continues.
        let held = self.plugins.iter().filter(|(_, kept)| kept.is_at_hold_point());
        for name in held.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.cancel_pending(&name);
        }
        for name in added {
            self.cancel_pending(&name);
            self.forget(&name);
        }
        self.publish();
    }

    /// A plugin that was not there before is not there.
    pub(super) fn forget(&mut self, name: &PluginName) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        (kept.removed, kept.problem) = (true, None);
        if kept.is_gone() {
            self.plugins.remove(name);
        }
    }

    /// Says that the newest version of a plugin cannot be used.
    pub(super) fn log_failure(&self, name: &PluginName, problem: &PluginProblem) {
        let remedy = problem.failed(name).remedy();
        error!(
            message_id = messages::PLUGIN_FAILED,
            plugin = %name,
            generation = problem.generation,
            stage = %problem.stage,
            error = %cut(&problem.error, super::transitions::ERROR_MAX),
            remedy,
            "plugin failed"
        );
    }
}
