//! A plugin that an operator stopped: nothing of it is prepared or serves, and it keeps its routes, which answer 503.

use crate::{
    route::owners::RouteRequest,
    supervisor::{
        operated::StoppedPlugin,
        plugin::{Action, Fact, Fallback, ManagedPlugin, Turn},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};

impl ManagedPlugin {
    /// Whether an operator stopped it, or it does not start by itself and has not been started.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether an operator stopped it, rolled it back, or started it although it does not start by itself: all of that ends
    /// with the daemon.
    #[must_use]
    pub fn is_operated(&self) -> bool {
        let is_stopped = self.stopped.as_ref().is_some_and(|stopped| stopped.by_operator);
        let was_started =
            || self.serving().is_some_and(|it| !it.release.manifest.service.autostart);
        is_stopped || self.is_rolled_back() || was_started()
    }

    /// The routes that no other plugin may have: those that it serves, or had when it was stopped.
    #[must_use]
    pub fn held_routes(&self) -> Option<&[RouteRequest]> {
        let stopped = self.stopped.as_ref().map(|stopped| &*stopped.requests);
        self.serving().map(|serving| &*serving.requests).or(stopped)
    }

    /// It may be prepared and serve again; whether it does is another decision. Returns the routes that it had.
    pub fn clear_stopped(&mut self) -> Vec<RouteRequest> {
        self.stopped.take().map(|stopped| stopped.requests).unwrap_or_default()
    }

    /// The state that it saved is not restored any more. False if there is none.
    pub fn forget_saved(&mut self) -> bool {
        let was_saved = self.generations.saved().is_some();
        self.generations.set_saved(None);
        was_saved
    }

    /// It is there, and does not start by itself. Nothing of it runs.
    pub(super) fn rest(&mut self, requests: Vec<RouteRequest>, turn: &mut Turn) {
        (self.preparing, self.fallback) = (None, Fallback::Unused);
        self.forget_problem();
        turn.steps.extend(self.generations.remove(StopReason::Stop, turn.now));
        // The daemon must not wait for a plugin that does not start by itself.
        self.stopped = Some(StoppedPlugin { requests, required: false, by_operator: false });
        turn.actions.push(Action::Publish);
    }

    /// Stops it. Its state in memory is not saved, as with a service that is stopped.
    pub(super) fn stop(&mut self, turn: &mut Turn) {
        if self.removed || self.is_stopped() {
            return;
        }
        let (requests, required) = (self.routes().0.to_vec(), self.is_required());
        (self.preparing, self.fallback) = (None, Fallback::Unused);
        self.forget_problem();
        turn.steps.extend(self.generations.remove(StopReason::Stop, turn.now));
        self.generations.set_saved(None);
        self.stopped = Some(StoppedPlugin { requests, required, by_operator: true });
        turn.actions.extend([Action::Keep(None), Action::Publish]);
        turn.report(Fact::Stopped);
    }
}
