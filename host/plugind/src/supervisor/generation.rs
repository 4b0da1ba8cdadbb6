//! One version of a plugin while it runs, without its instances: where it is in its lifecycle, and how it failed.

use crate::{
    plugin::release::Release,
    pool::{failure::Failure, worker_event::InstanceStage},
    route::owners::{RouteRequest, route_requests},
    supervisor::{
        lifecycle::{Event, Lifecycle, StartPolicy},
        restart::{FailureKind, Restarts},
        rollout::Stage,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::sync::Arc;

/// One version of a plugin that was started.
pub struct Generation {
    /// Grows with every version that is started, over the daemon's life.
    pub number: u64,
    /// The release from which it is made.
    pub release: Arc<Release>,
    /// The routes it asks for.
    pub requests: Vec<RouteRequest>,
    /// Where it is in its lifecycle.
    pub lifecycle: Lifecycle,
    /// The reason that its instances get when they have to stop.
    pub reason: StopReason,
    /// The last thing that went wrong with one of its instances.
    pub failure: Option<Failure>,
    /// Number of its instances that failed after they were ready.
    pub failures: u64,
    /// It has new instances of the version that was there already.
    pub is_restart: bool,
    /// The last failure was that of restoring the state that was saved last.
    pub failed_to_restore: bool,
    /// One instance of it is tried; after that, instances start only when there is work.
    pub is_tried: bool,
    /// It starts on demand, and the last failure was that of a start.
    pub failed_on_demand: bool,
}

impl Generation {
    /// One that is not started yet.
    #[must_use]
    pub fn new(number: u64, release: Arc<Release>, policy: StartPolicy) -> Self {
        let lifecycle = Lifecycle::new(policy, Restarts::new(&release.manifest.service));
        let requests = route_requests(&release.name, &release.manifest, Some(&release.inspection));
        let (reason, failure, failures) = (StopReason::Stop, None, 0);
        let (is_restart, is_tried) = (false, false);
        let (failed_on_demand, failed_to_restore) = (false, false);
        Self {
            number,
            release,
            requests,
            lifecycle,
            reason,
            failure,
            failures,
            is_restart,
            is_tried,
            failed_on_demand,
            failed_to_restore,
        }
    }

    /// Returns the event for the failure of one of its instances. `others`: further instances take work.
    pub fn failed(&mut self, failure: Failure, stage: InstanceStage, others: bool) -> Event {
        let stable_after = self.release.manifest.service.start_limit_interval;
        let kind = FailureKind::of(&failure, stage, stable_after);
        let event = match stage {
            InstanceStage::Starting | InstanceStage::Restoring => {
                Event::StartFailed { kind, others }
            }
            InstanceStage::Ready { .. } => {
                self.failures += 1;
                Event::InstanceFailed { kind, others }
            }
        };
        if event != (Event::StartFailed { kind, others: true }) {
            self.failed_on_demand = stage.is_start() && self.release.manifest.on_demand;
            self.failed_to_restore = stage == InstanceStage::Restoring;
            self.failure = Some(failure);
        }
        event
    }
}

impl Stage for Generation {
    fn number(&self) -> u64 {
        self.number
    }

    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn lifecycle_mut(&mut self) -> &mut Lifecycle {
        &mut self.lifecycle
    }

    fn hands_over(&self) -> bool {
        self.release.inspection.handover
    }

    fn leave_for(&mut self, reason: StopReason) {
        self.reason = reason;
    }
}
