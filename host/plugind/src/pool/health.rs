//! The periodic health check of an instance.

use crate::{
    base::{name::PluginName, text::one_line},
    pool::deadline::{Deadline, GuestCall},
    world::{
        HostState,
        bindings::exports::plugind::plugin::lifecycle::Condition,
        link::Exports,
        notify::{self, STATUS_MAX},
    },
};
use futures::{FutureExt, future::BoxFuture};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{info, warn};
use wasmtime::component::Accessor;

/// The periodic health check of an instance.
pub(crate) struct Health<'a> {
    plugin: &'a PluginName,
    worker: u32,
    interval: Option<Interval>,
    /// It is time to ask.
    is_due: bool,
    asked: Option<BoxFuture<'a, wasmtime::Result<Condition>>>,
    degraded: Option<String>,
    has_changed: bool,
    notify: &'a notify::Shared,
}

impl<'a> Health<'a> {
    /// Checks `worker` of `plugin` at this interval, if it can answer; never, if `every` is zero.
    pub(crate) fn new(
        plugin: &'a PluginName,
        worker: u32,
        every: Duration,
        exports: &Exports,
        notify: &'a notify::Shared,
    ) -> Self {
        let interval = (exports.lifecycle.is_some() && !every.is_zero()).then(|| {
            let mut interval = interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self {
            plugin,
            worker,
            interval,
            is_due: false,
            asked: None,
            degraded: None,
            has_changed: false,
            notify,
        }
    }

    /// Whether the instance is to be asked, as soon as it can be.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether the reason that it is degraded has changed since this was taken last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Returns the reason that the instance cannot serve, once it reports one. An instance that is occupied cannot be
    /// asked: it would not answer before its call has returned, and its time would be up.
    pub(crate) fn poll(
        &mut self,
        accessor: &'a Accessor<HostState>,
        exports: &'a Exports,
        deadline: &Deadline,
        is_occupied: bool,
        cx: &mut Context<'_>,
    ) -> wasmtime::Result<Option<String>> {
        let (Some(interval), Some(lifecycle)) = (&mut self.interval, &exports.lifecycle) else {
            return Ok(None);
        };
        if self.asked.is_none() {
            self.is_due |= interval.poll_tick(cx).is_ready();
        }
        if self.is_due && !is_occupied && !deadline.is_running() {
            self.is_due = false;
            deadline.begin(GuestCall::Health, interval.period());
            self.asked = Some(lifecycle.call_health(accessor).boxed());
        }
        let Some(asked) = &mut self.asked else { return Ok(None) };
        let Poll::Ready(condition) = asked.poll_unpin(cx) else { return Ok(None) };
        self.asked = None;
        deadline.end(GuestCall::Health);
        // The next one is waited for.
        let _: Poll<_> = interval.poll_tick(cx);
        let said = match condition? {
            Condition::Unhealthy(why) => return Ok(Some(one_line(&why, STATUS_MAX))),
            Condition::Degraded(why) => Some(one_line(&why, STATUS_MAX)),
            Condition::Healthy => None,
        };
        if said != self.degraded {
            let (plugin, worker) = (self.plugin, self.worker);
            match &said {
                Some(why) => warn!(%plugin, worker, why, "plugin degraded"),
                None => info!(%plugin, worker, "plugin recovered"),
            }
            self.notify.set_degraded(worker, said.clone());
            self.degraded = said;
            self.has_changed = true;
        }
        Ok(None)
    }
}

impl Drop for Health<'_> {
    fn drop(&mut self) {
        // An instance that has ended is not degraded. Most never were, and have no part in the lock of all.
        if self.degraded.is_some() {
            self.notify.set_degraded(self.worker, None);
        }
    }
}
