//! One version of a plugin while it lives: its instances and where it is in its life.

use crate::{
    journal::Journal,
    plugin::manifest::Manifest,
    pool::{
        failure::Failure,
        instances::Pool,
        workers::{InstanceStage, WorkerEvent},
    },
    route::owners::{RouteRequest, route_requests},
    runtime::executors::Executors,
    supervisor::{
        lifecycle::{Event, Lifecycle, StartPolicy},
        restart::{FailureKind, Restarts},
        rollout::Stage,
    },
    world::{bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use std::{sync::Arc, time::SystemTime};

/// One version of a plugin.
pub struct Generation {
    /// Grows with every version that is started, over the daemon's life.
    pub number: u64,
    /// Its instances.
    pub pool: Arc<Pool>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// The reason that its instances get when they have to stop.
    pub reason: StopReason,
    /// The last thing that went wrong with one of its instances.
    pub failure: Option<Failure>,
    /// How many of its instances failed since it was ready.
    pub failures: u64,
    /// When it was ready.
    pub since: Option<SystemTime>,
}

impl Generation {
    /// One that is not started yet; `notify` receives the events of its workers.
    #[must_use]
    pub fn new(
        number: u64,
        linked: Linked,
        policy: StartPolicy,
        journal: Journal,
        executors: Executors,
        notify: impl Fn(WorkerEvent) + Send + Sync + 'static,
    ) -> Self {
        let lifecycle = Lifecycle::new(policy, Restarts::new(&linked.manifest.service));
        let pool = Pool::new(linked, number, journal, executors, notify);
        Self {
            number,
            pool,
            lifecycle,
            reason: StopReason::Stop,
            failure: None,
            failures: 0,
            since: None,
        }
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.pool.linked().manifest
    }

    /// The routes it asks for.
    #[must_use]
    pub fn route_requests(&self) -> Vec<RouteRequest> {
        let linked = self.pool.linked();
        route_requests(&linked.name, &linked.manifest, Some(&linked.inspection))
    }

    /// Whether it was made from the same component and the same manifest.
    #[must_use]
    pub fn is_made_from(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        self.pool.linked().digest == *digest && self.manifest() == manifest
    }

    /// What an event of a worker means for the generation.
    pub fn event(&mut self, event: WorkerEvent) -> Option<Event> {
        Some(match event {
            WorkerEvent::Ready { .. } => Event::Ready,
            WorkerEvent::Retired { .. } | WorkerEvent::Aged => Event::Retired,
            WorkerEvent::Returned => Event::Returned,
            WorkerEvent::Gone => {
                self.pool.shared().journal.report_dropped();
                Event::AllGone
            }
            // These concern the rollout.
            WorkerEvent::Saved { .. } | WorkerEvent::Restored { .. } => return None,
            WorkerEvent::Failed { stage: InstanceStage::Starting, .. }
                if self.pool.workers() > 0 =>
            {
                Event::NoWorkerAdded
            }
            WorkerEvent::Failed { failure, stage, .. } => {
                self.failures += u64::from(stage != InstanceStage::Starting);
                let stable_after = self.manifest().service.start_limit_interval;
                let kind = FailureKind::of(&failure, stage, stable_after);
                self.failure = Some(failure);
                Event::InstanceFailed { kind, others: self.pool.workers() > 0 }
            }
        })
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
        self.pool.hands_over()
    }

    fn leave_for(&mut self, reason: StopReason) {
        self.reason = reason;
    }
}
