//! The conditions that a client waits for during a request: a number of turns, or the end.

use std::sync::{Condvar, Mutex, MutexGuard};

#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    turns: usize,
    enough: bool,
}

impl Turns {
    /// Returns the number of turns.
    pub(super) fn now(&self) -> usize {
        self.state().turns
    }

    pub(super) fn turn(&self) {
        self.state().turns += 1;
        self.changed.notify_all();
    }

    /// Ends the load: no client begins another request.
    pub(super) fn end(&self) {
        self.state().enough = true;
        self.changed.notify_all();
    }

    pub(super) fn is_enough(&self) -> bool {
        self.state().enough
    }

    /// Waits until there were more turns than that, or the load ends. The test decides how long that takes.
    pub(super) fn wait_for_more_than(&self, turns: usize) {
        let waits = |state: &mut State| state.turns <= turns && !state.enough;
        drop(self.changed.wait_while(self.state(), waits).expect("nobody panics while having it"));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while having it")
    }
}
