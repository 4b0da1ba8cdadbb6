//! A plugin's life, as a trait with defaults.

use crate::bindings::exports::plugind::plugin::lifecycle::Guest;

pub use crate::bindings::exports::plugind::plugin::lifecycle::{Condition, StartError};
pub use crate::bindings::plugind::plugin::types::StopReason;

/// A plugin's life: `start`, then work and `health`, then `stop`. Export it with [`export!`](crate::export).
///
/// There is no `self`: each instance has a memory of its own, so what it keeps may stand in a `static`.
/// A function that panics ends the instance, with all that is under way in it.
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Lifecycle {
    /// Called once, before any work. Returning `Ok` says that this instance is ready.
    async fn start() -> Result<(), StartError> {
        Ok(())
    }

    /// Called every `watchdog-sec`, while work goes on, and must return within it. Healthy unless a plugin knows better.
    async fn health() -> Condition {
        Condition::Healthy
    }

    /// Called once, when no new work comes. The instance is dropped when it returns, or at the deadline.
    async fn stop(_reason: StopReason) {}
}

impl<T: Lifecycle> Guest for T {
    async fn start() -> Result<(), StartError> {
        T::start().await
    }

    async fn health() -> Condition {
        T::health().await
    }

    async fn stop(reason: StopReason) {
        T::stop(reason).await;
    }
}
