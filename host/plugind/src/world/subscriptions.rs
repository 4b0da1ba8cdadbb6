//! The state of a generation's subscriptions: which are not established, and why.

use crate::plugin::subscribe::Subscribe;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The reason for each subscription that is not established, by its position in the manifest.
#[derive(Debug, Default)]
pub struct SubscriptionFailures(Mutex<BTreeMap<usize, String>>);

impl SubscriptionFailures {
    /// Those of a generation whose subscriptions are still to be established.
    #[must_use]
    pub fn of(subscriptions: &[Subscribe]) -> Self {
        let pending = |it: &Subscribe| {
            format!("the subscription to {:?} is not established yet", it.subject.as_str())
        };
        Self(Mutex::new(subscriptions.iter().map(pending).enumerate().collect()))
    }

    /// Sets the reason why the subscription at this position is not established; none: it is. True if that is a change.
    pub fn set(&self, nth: usize, why: Option<String>) -> bool {
        let mut failures = self.lock();
        let before = match &why {
            Some(why) => failures.insert(nth, why.clone()),
            None => failures.remove(&nth),
        };
        before != why
    }

    /// Why one of the subscriptions is not established, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().values().next().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
