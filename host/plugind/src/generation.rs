//! One version of a plugin while it lives: its instances and where it is in its life.

use crate::{
    claims::{Wish, wishes},
    crew::News,
    failure::Failure,
    journal::Journal,
    lifecycle::{Event, Hope, Lifecycle, Trial},
    link::Linked,
    plugin::manifest::Manifest,
    pool::Pool,
    restart::Restarts,
    succession::Member,
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
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
        trial: Trial,
        journal: Journal,
        tell: impl Fn(News) + Send + Sync + 'static,
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
    pub fn wishes(&self) -> Vec<Wish> {
        let linked = self.pool.linked();
        wishes(&linked.name, &linked.manifest, Some(&linked.offers))
    }

    /// Whether it was made from the same component and the same manifest.
    #[must_use]
    pub fn is_made_from(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        self.pool.linked().digest == *digest && self.manifest() == manifest
    }

    /// What news of a worker mean for the generation.
    pub fn event(&mut self, news: News) -> Event {
        match news {
            News::Ready { .. } => Event::Ready,
            News::Retired { .. } | News::Aged => Event::Retired,
            News::Returned => Event::Returned,
            News::Gone => Event::AllGone,
            // What these mean is for the plugin to say.
            News::Saved { .. } | News::Restored { .. } => Event::Due,
            News::Failed { starting: true, .. } if self.pool.workers() > 0 => Event::NoOneMore,
            News::Failed { failure, starting, .. } => {
                self.failures += u64::from(!starting);
                let hope = match &failure {
                    Failure::Configuration(_) => Hope::None,
                    Failure::Unavailable(_) | Failure::Resources(_) => Hope::Soon,
                    _ => Hope::Some,
                };
                self.failure = Some(failure);
                Event::InstanceFailed { hope, others: self.pool.workers() > 0 }
            }
        }
    }
}

impl Member for Generation {
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
