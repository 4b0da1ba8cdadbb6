//! Clients that send requests without end and repeat none that fails: a failure that one of them sees is one that any
//! client could see.

mod client;
mod right;
mod tally;
mod turns;
mod wire;

pub use client::{Client, Way};
pub use right::{Right, Versions};
pub use tally::Tally;

use crate::Machine;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{Scope, ScopedJoinHandle},
};
use turns::Turns;

/// Clients at work.
pub struct Load<'scope> {
    turns: Arc<Turns>,
    answered: Arc<AtomicUsize>,
    clients: Vec<(String, ScopedJoinHandle<'scope, Tally>)>,
}

impl<'scope> Load<'scope> {
    /// Sets clients to work, each in a thread of its own, until [`Load::end`].
    pub fn begin<'env>(
        scope: &'scope Scope<'scope, 'env>,
        machine: &'env Machine,
        clients: &[Client<'env>],
    ) -> Self {
        let (turns, answered) = (Arc::<Turns>::default(), Arc::default());
        let clients = clients.iter().map(|client| {
            let (client, turns, answered) = (*client, Arc::clone(&turns), Arc::clone(&answered));
            let works = scope.spawn(move || {
                machine.enter();
                client.work(&turns, &answered)
            });
            (client.to_string(), works)
        });
        Self { clients: clients.collect(), turns, answered }
    }

    /// Waits until this many more requests have been answered.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn wait_for(&self, more: usize) {
        let before = self.answered.load(Relaxed);
        crate::eventually("more answers", || {
            (self.answered.load(Relaxed) >= before + more).then_some(())
        });
    }

    /// Lets clients continue that wait in the middle of a request.
    pub fn turn(&self) {
        self.turns.turn();
    }

    /// Lets each client finish its request, and returns the sum of all outcomes.
    ///
    /// # Panics
    /// When a client does.
    #[must_use]
    pub fn end(self) -> Tally {
        let each = self.end_each().into_iter();
        each.map(|(_, tally)| tally).fold(Tally::default(), Tally::and)
    }

    /// Lets each client finish its request, and returns the outcomes of each.
    ///
    /// # Panics
    /// When a client does.
    #[must_use]
    pub fn end_each(mut self) -> Vec<(String, Tally)> {
        self.turns.end();
        let each = self.clients.drain(..);
        each.map(|(who, client)| (who, client.join().expect("clients count"))).collect()
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // The scope waits for its threads, even when a test panics in it.
        self.turns.end();
    }
}
