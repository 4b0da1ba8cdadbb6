//! All or nothing: new versions wait for each other, and take over together or not at all.

use crate::supervisor::Supervisor;
use crate::{
    base::{name::PluginName, text::cut},
    journal::messages,
    supervisor::{
        compare::Change,
        plugin::PluginProblem,
        reload::{ReloadOptions, ReloadState},
        rollout::{HoldPoint, RolloutProgress},
        summary::Failed,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{mem::take, time::Instant};
use tracing::{error, warn};

impl Supervisor {
    /// Whether this very set was refused as a whole before, and nobody asks for another try: systemd 257 sends SIGHUP
    /// after `ExecReload=`, which must not do by halves what that did not do.
    pub(super) fn is_refused_already(&mut self, terms: ReloadOptions) -> bool {
        if !terms.again
            && let Some((found, failed)) = &self.refused
            && *found == self.found
        {
            let failed = failed.clone();
            let plugins: Vec<_> = failed.iter().map(|failed| failed.plugin.to_string()).collect();
            warn!(
                failed = plugins.join(" "),
                "nothing is reloaded: all or nothing was asked for, and is not to be had; `pluginctl reload` tries again"
            );
            self.note(|reload| failed.into_iter().for_each(|failed| reload.failed(failed)));
            return true;
        }
        self.refused = None;
        false
    }

    /// Whether something was found that cannot be used, so that nothing is begun.
    pub(super) fn is_refused(&mut self, verdicts: &[(PluginName, Change)]) -> bool {
        let mut refused = false;
        for (name, verdict) in verdicts {
            if let Change::Bad(problem) | Change::KnownToFail(problem) = verdict {
                refused = true;
                self.tell_of(name, problem);
                self.note(|reload| reload.failed(problem.failed(name)));
                if let Some(kept) = self.plugins.get_mut(name) {
                    kept.problem = Some(problem.clone());
                }
            }
        }
        refused
    }

    /// Lets all take over when all are ready, or none when one has failed.
    pub(super) fn settle_bundle(&mut self) {
        let Some(reload) = &self.reload else { return };
        let (failed, is_unreadable, pending): (Vec<Failed>, bool, Vec<PluginName>) = {
            let reload = reload.borrow();
            if !reload.terms.all_or_nothing || !reload.is_compared() || reload.taken_back {
                return;
            }
            let pending = reload.pending().map(|(name, _)| name.clone());
            let failed = reload.failed.values().cloned();
            (failed.collect(), reload.unreadable.is_some(), pending.collect())
        };
        if is_unreadable {
            return self.take_back();
        }
        if !failed.is_empty() {
            self.take_back();
            self.refused = Some((self.found.clone(), failed));
            return;
        }
        let have = |bundle: &Self, progress| {
            pending.iter().all(|name| bundle.progress_of(name) >= progress)
        };
        if have(self, RolloutProgress::Ready) {
            for name in &pending {
                self.open(name, HoldPoint::HandOver);
            }
        }
        if have(self, RolloutProgress::Settled) {
            self.commit(&pending);
        }
    }

    fn progress_of(&self, name: &PluginName) -> RolloutProgress {
        let kept = self.plugins.get(name).filter(|kept| kept.generations.candidate().is_some());
        kept.map_or(RolloutProgress::Starting, |kept| kept.generations.progress())
    }

    fn open(&mut self, name: &PluginName, gate: HoldPoint) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let orders = kept.generations.open(gate, Instant::now());
        self.carry_out(name, orders);
    }

    /// All take over in one swap, and what vanished goes.
    fn commit(&mut self, pending: &[PluginName]) {
        let now = Instant::now();
        let mut orders = Vec::new();
        for name in pending {
            if let Some(kept) = self.plugins.get_mut(name) {
                orders.push((name.clone(), kept.generations.open(HoldPoint::Open, now)));
            }
        }
        for name in take(&mut self.vanished) {
            let removal = self.removal(&name, StopReason::Removed);
            orders.push((name, removal));
        }
        self.newcomers.clear();
        // The first of these publishes what all of them have come to.
        for (name, orders) in orders {
            self.carry_out(&name, orders);
        }
        self.publish();
    }

    /// What was begun is given up, and what was new is forgotten; also what an earlier reading for the same reload began.
    fn take_back(&mut self) {
        self.note(ReloadState::take_back);
        self.vanished.clear();
        // What is on its way for another reason goes on.
        let behind_a_gate = self.plugins.iter().filter(|(_, kept)| kept.is_behind_a_gate());
        for name in behind_a_gate.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.want_nothing_else(&name);
        }
        for name in take(&mut self.newcomers) {
            self.want_nothing_else(&name);
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
    pub(super) fn tell_of(&self, name: &PluginName, problem: &PluginProblem) {
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
