//! A plugin that starts on demand: a version is tried before it takes over, and its instances come and go with the work.

use crate::supervisor::{
    lifecycle::{Demand, Event, LifecycleState},
    plugin::{Action, Fact, ManagedPlugin, Turn},
    rollout::{SavedState, Stage as _},
};

impl ManagedPlugin {
    /// Its next version is started, and not only tried, as an operator asks for.
    pub fn start_now(&mut self) {
        self.starts_now = true;
    }

    /// Whether the version that is to serve has an instance, if it starts on demand.
    #[must_use]
    pub fn demand(&self) -> Option<Demand> {
        Some(self.serving()?.lifecycle.demand())
    }

    /// Whether a version that starts on demand is only tried. A version that takes the place of one with instances is
    /// started, since its predecessor has to keep serving where that fails.
    pub(super) fn tries_only(&mut self) -> bool {
        let is_at_work = self.serving().is_some() && self.demand() != Some(Demand::Idle);
        !std::mem::take(&mut self.starts_now) && !is_at_work
    }

    /// Whether this generation is to be tried now, and not started.
    pub(super) fn is_only_tried(&mut self, number: u64) -> bool {
        let generation = self.generations.get_mut(number);
        generation.is_some_and(|it| it.is_tried && it.lifecycle.state() == LifecycleState::Starting)
    }

    /// The last instance of this generation has ended, for lack of work. The next one takes over its state, be it of
    /// this daemon or of the next one.
    pub(super) fn keep_idle_state(
        &mut self,
        number: u64,
        state: Option<SavedState>,
        turn: &mut Turn,
    ) {
        let is_current = self.serving().is_some_and(|serving| serving.number == number);
        let hands_over = self.generations.get_mut(number).is_some_and(|it| it.hands_over());
        if is_current && hands_over {
            self.generations.set_saved(state.clone());
            turn.actions.push(Action::Keep(state));
        }
    }

    /// A version that waits for others must not be started by calls before it has the state that it takes over.
    pub(super) fn hold_idle_candidate(&mut self, number: u64, turn: &mut Turn) {
        let is_candidate = self.generations.candidate().is_some_and(|it| it.number == number);
        if is_candidate && let Some(generation) = self.generations.get_mut(number) {
            generation.is_tried = true;
            turn.actions.push(Action::Hold(number));
        }
    }

    /// Whether the version of this number has an instance, if it serves.
    pub(super) fn demand_of(&self, number: u64) -> Option<Demand> {
        self.demand().filter(|_| self.serving().is_some_and(|serving| serving.number == number))
    }

    /// Reports that the version that serves has lost its last instance for lack of work, or has one again.
    pub(super) fn report_demand(
        &self,
        number: u64,
        before: Option<Demand>,
        event: Event,
        turn: &mut Turn,
    ) {
        let generation = number;
        match (before, self.demand_of(number), event) {
            (Some(Demand::Running | Demand::Waking), Some(Demand::Idle), _) => {
                turn.report(Fact::Idle { generation });
            }
            (Some(Demand::Idle | Demand::Waking), Some(Demand::Running), Event::Ready) => {
                turn.report(Fact::StartedOnDemand { generation });
            }
            _ => (),
        }
    }

    /// Calls may start instances of this generation from now on, since it has the state that it takes over.
    pub(super) fn release_tried(&mut self, number: u64, turn: &mut Turn) {
        if self.generations.get_mut(number).is_some_and(|it| it.is_tried) {
            turn.actions.push(Action::Release(number));
        }
    }
}
