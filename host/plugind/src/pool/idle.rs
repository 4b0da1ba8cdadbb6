//! Stops the workers of a pool that have had no work for long and are not needed, or have none under memory pressure:
//! gathers what [`surplus`](scaling::surplus) decides on, and asks the workers. Each of them looks again whether it has
//! work.

use crate::pool::{
    scaling::{self, QUIET_LOOKS, QuietWorker},
    worker_event::WorkerEvent,
    worker_handle::WorkerHandle,
    workers::WorkerSet,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};

/// The looks at the workers of one pool.
#[derive(Default)]
struct Looks {
    /// Of each worker: its activity at the last look, and the number of looks since then at which it had no work.
    workers: HashMap<u32, (usize, u32)>,
    /// The same for a pool whose workers are made for one call each: calls that it had served, and looks.
    per_call: (u64, u32),
}

/// The activity of the workers of a pool at a moment, by their numbers.
pub struct PoolActivity(HashMap<u32, usize>);

/// Instances that were asked to end.
pub struct EndingInstances {
    set: Weak<WorkerSet>,
    workers: Vec<u32>,
}

impl PoolActivity {
    /// The activity of the workers at this moment.
    pub(crate) fn of(set: &WorkerSet) -> Self {
        Self(set.snapshot().iter().map(|worker| (worker.number, worker.activity())).collect())
    }

    /// A worker as [`scaling::surplus`] takes it. One without work now, and since this activity was read, counts as
    /// quiet for long.
    fn look_at(&self, worker: &WorkerHandle) -> QuietWorker {
        let is_quiet =
            worker.in_flight() == 0 && self.0.get(&worker.number) == Some(&worker.activity());
        QuietWorker {
            number: worker.number,
            looks: if is_quiet { QUIET_LOOKS } else { 0 },
            is_asked: worker.is_asked_to_end_idle(),
        }
    }
}

impl EndingInstances {
    /// Asks the workers of a pool to end that have had no work since `before`. As many as the manifest asks for are left.
    pub(crate) fn ask(set: &Arc<WorkerSet>, before: &PoolActivity) -> Self {
        let may_end = set.config.shrinks() && set.draining().is_none();
        let handles = if may_end { set.snapshot() } else { Vec::new() };
        let workers: Vec<_> = handles.iter().map(|worker| before.look_at(worker)).collect();
        let workers = scaling::surplus(&workers, set.stats().active, set.config.min);
        for worker in handles.iter().filter(|worker| workers.contains(&worker.number)) {
            worker.ask_to_end_idle();
        }
        Self { set: Arc::downgrade(set), workers }
    }

    /// The number of those that have ended. One that got a call meanwhile continues.
    #[must_use]
    pub fn ended(&self) -> u64 {
        let left = self.set.upgrade().map(|set| set.snapshot()).unwrap_or_default();
        let is_left = |number: &&u32| left.iter().any(|worker| worker.number == **number);
        let ended = self.workers.iter().filter(|number| !is_left(number)).count();
        u64::try_from(ended).unwrap_or(u64::MAX)
    }

    /// Whether none of them is left.
    #[must_use]
    pub fn have_ended(&self) -> bool {
        usize::try_from(self.ended()) == Ok(self.workers.len())
    }
}

/// Stops workers without work until the pool drains or is gone.
pub(crate) async fn stop_idle_workers(set: Weak<WorkerSet>, idle_timeout: Duration) {
    let mut looks = Looks::default();
    let mut due = interval(idle_timeout / QUIET_LOOKS);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let Some(set) = set.upgrade().filter(|set| set.draining().is_none()) else { return };
        match set.config.worker_per_call {
            true => looks.look_at_calls(&set),
            false => looks.look_at_workers(&set),
        }
    }
}

impl Looks {
    fn look_at_workers(&mut self, set: &WorkerSet) {
        let handles = set.snapshot();
        let workers: Vec<_> = handles.iter().map(|worker| self.look_at(worker)).collect();
        self.workers.retain(|number, _| workers.iter().any(|worker| worker.number == *number));
        for number in scaling::surplus(&workers, set.stats().active, set.config.min) {
            if let Some(worker) = handles.iter().find(|worker| worker.number == number) {
                worker.ask_to_end_idle();
            }
        }
    }

    fn look_at(&mut self, worker: &Arc<WorkerHandle>) -> QuietWorker {
        let (number, activity) = (worker.number, worker.activity());
        let (before, looks) = self.workers.entry(number).or_insert((activity, 0));
        let is_quiet = worker.in_flight() == 0 && *before == activity;
        (*before, *looks) = (activity, if is_quiet { looks.saturating_add(1) } else { 0 });
        QuietWorker { number, looks: *looks, is_asked: worker.is_asked_to_end_idle() }
    }

    /// Where each call has a worker of its own, the pool rests when there was none for long.
    fn look_at_calls(&mut self, set: &WorkerSet) {
        let served = set.resting.calls();
        let (before, looks) = &mut self.per_call;
        let is_quiet = set.present() == 0 && *before == served;
        (*before, *looks) = (served, if is_quiet { looks.saturating_add(1) } else { 0 });
        if *looks >= QUIET_LOOKS {
            set.resting.rest(served, || set.report(WorkerEvent::Idle { state: None }));
        }
    }
}
