//! The lifecycle of an instance, as a trait with defaults.

use crate::bindings::exports::plugind::plugin::lifecycle::Guest;
use core::fmt;

pub use crate::bindings::exports::plugind::plugin::lifecycle::{Condition, StartError};
pub use crate::bindings::plugind::plugin::types::StopReason;

/// The reason by its name in the WIT.
impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "shutdown",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Removed => "removed",
            Self::Idle => "idle",
            Self::Recycle => "recycle",
        })
    }
}

/// The lifecycle of an instance: `start`, then work and `health`, then `stop`.
///
/// Export it with [`export!`](crate::export).
///
/// There is no `self`: each instance has memory of its own, so its state may be in a `static`.
/// A panic in any function ends the instance, with all work in progress in it.
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Lifecycle {
    /// Called once, before any work. The instance is ready when this returns `Ok`.
    ///
    /// Must return within `timeout-start-sec`, or call [`notify::extend_timeout`](crate::notify::extend_timeout).
    async fn start() -> Result<(), StartError> {
        Ok(())
    }

    /// Called every `watchdog-sec`, also while work is in progress. The default is [`Condition::Healthy`].
    ///
    /// Must return within `watchdog-sec`, so do not wait for anything.
    async fn health() -> Condition {
        Condition::Healthy
    }

    /// Called once, when the instance gets no more work. The instance is dropped when this has returned and the tasks
    /// of the plugin have ended, or after `timeout-stop-sec`.
    ///
    /// Do not rely on it: an instance that trapped or missed a deadline gets no `stop`.
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
        #[cfg(feature = "tasks")]
        crate::tasks::stop().await;
        T::stop(reason).await;
    }
}
