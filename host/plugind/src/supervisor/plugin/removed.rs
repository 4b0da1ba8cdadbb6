//! A plugin that ends: its files are gone, or the daemon ends.

use crate::{
    supervisor::plugin::{Action, Fact, Fallback, ManagedPlugin, Turn},
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::mem::replace;

impl ManagedPlugin {
    pub(super) fn remove(&mut self, reason: StopReason, turn: &mut Turn) {
        let was_there = !replace(&mut self.removed, true);
        (self.preparing, self.fallback) = (None, Fallback::Unused);
        let serving = self.generations.current().map(|current| current.number);
        turn.steps.extend(self.generations.remove(reason, turn.now));
        if was_there && reason == StopReason::Removed {
            turn.actions.push(Action::Keep(None));
            turn.report(Fact::Removed { serving });
        }
    }

    pub(super) fn shut_down(&mut self, turn: &mut Turn) {
        // Whether it saves before or not, it has ended when no worker is left.
        (self.preparing, self.removed, self.fallback) = (None, true, Fallback::Unused);
        turn.steps.extend(self.generations.save_and_stop(StopReason::Shutdown, turn.now));
    }
}
