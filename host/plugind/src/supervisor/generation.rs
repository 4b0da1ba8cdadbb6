//! One version of a plugin while it lives: its instances and where it is in its life.

use crate::{
    journal::Journal,
    plugin::manifest::Manifest,
    pool::{failure::Failure, instances::Pool, workers::WorkerEvent},
    route::owners::{RouteRequest, wishes},
    supervisor::{
        lifecycle::{Event, Lifecycle, Retry, StartPolicy},
        restart::Restarts,
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
    pub life: Lifecycle,
    /// What it will be told when it has to go.
    pub reason: StopReason,
    /// The last thing that went wrong with one of its instances.
    pub failure: Option<Failure>,
    /// How many of its instances failed since it was ready.
    pub failures: u64,
    /// When it was ready.
    pub since: Option<SystemTime>,
}

impl Generation {
    /// One that is not started yet; `tell` hears the news of its workers.
    #[must_use]
    pub fn new(
        number: u64,
        linked: Linked,
        trial: StartPolicy,
        journal: Journal,
        tell: impl Fn(WorkerEvent) + Send + Sync + 'static,
    ) -> Self {
        let life = Lifecycle::new(trial, Restarts::new(&linked.manifest.service));
        let pool = Pool::new(linked, number, journal, tell);
        Self {
            number,
            pool,
            life,
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
    pub fn wishes(&self) -> Vec<RouteRequest> {
        let linked = self.pool.linked();
        wishes(&linked.name, &linked.manifest, Some(&linked.offers))
    }

    /// Whether it was made from the same component and the same manifest.
    #[must_use]
    pub fn is_made_from(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        self.pool.linked().digest == *digest && self.manifest() == manifest
    }

    /// What news of a worker mean for the generation.
    pub fn event(&mut self, news: WorkerEvent) -> Event {
        match news {
            WorkerEvent::Ready { .. } => Event::Ready,
            WorkerEvent::Retired { .. } | WorkerEvent::Aged => Event::Retired,
            WorkerEvent::Returned => Event::Returned,
            WorkerEvent::Gone => Event::AllGone,
            // What these mean is for the plugin to say.
            WorkerEvent::Saved { .. } | WorkerEvent::Restored { .. } => Event::Due,
            WorkerEvent::Failed { starting: true, .. } if self.pool.workers() > 0 => {
                Event::NoOneMore
            }
            WorkerEvent::Failed { failure, starting, .. } => {
                self.failures += u64::from(!starting);
                let hope = match &failure {
                    Failure::Configuration(_) => Retry::None,
                    Failure::Unavailable(_) | Failure::Resources(_) => Retry::Soon,
                    _ => Retry::Some,
                };
                self.failure = Some(failure);
                Event::InstanceFailed { hope, others: self.pool.workers() > 0 }
            }
        }
    }
}

impl Stage for Generation {
    fn number(&self) -> u64 {
        self.number
    }

    fn life(&self) -> &Lifecycle {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Lifecycle {
        &mut self.life
    }

    fn hands_over(&self) -> bool {
        self.pool.hands_over()
    }

    fn leave_for(&mut self, reason: StopReason) {
        self.reason = reason;
    }
}
