//! The plan of the sockets: the supervisor changes it, and the sockets follow before the supervisor does anything else.
//! So a reload has not finished before its sockets are in use.

use crate::route::sockets::SocketPlan;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The current plan. Clones are the same one.
#[derive(Clone)]
pub struct PublishedPlan {
    current: Arc<Mutex<SocketPlan>>,
    follow: Arc<dyn Fn(&SocketPlan) + Send + Sync>,
}

impl PublishedPlan {
    /// Begins with this plan, which the sockets follow already. `follow` makes them follow another one.
    pub fn new(plan: SocketPlan, follow: impl Fn(&SocketPlan) + Send + Sync + 'static) -> Self {
        Self { current: Arc::new(Mutex::new(plan)), follow: Arc::new(follow) }
    }

    /// The current plan. Nobody can change it before this is dropped.
    pub(super) fn borrow(&self) -> MutexGuard<'_, SocketPlan> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the plan, and makes the sockets follow it if `change` returns true.
    pub(super) fn update(&self, change: impl FnOnce(&mut SocketPlan) -> bool) {
        let mut plan = self.borrow();
        if change(&mut plan) {
            (self.follow)(&plan);
        }
    }
}
