//! The reaction to memory pressure: instances without work end, and memory that the heap has freed goes back to the
//! system, before the kernel slows the daemon down or kills it.

use crate::{
    base::{error_chain::ErrorChain, figures::Figures},
    journal::messages,
    pool::idle::EndingInstances,
    runtime::heap,
    supervisor::board::Board,
    systemd::{
        environment::PressureVariables,
        memory_pressure::{PressureError, PressureWatch},
    },
};
use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Time without a call after which an instance has no work.
const QUIET: Duration = Duration::from_millis(250);
/// Time that the instances have to end before the heap is looked at.
const END_MAX: Duration = Duration::from_secs(5);
/// Interval at which it is checked whether they have ended.
const LOOK: Duration = Duration::from_millis(20);
/// The shortest interval between two log entries about memory pressure.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// The outcome of reactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PressureReaction {
    /// Reports of pressure.
    reports: u64,
    /// Instances that were ended.
    instances: u64,
    /// Bytes by which the resident memory has shrunk.
    freed: u64,
}

impl AddAssign for PressureReaction {
    fn add_assign(&mut self, other: Self) {
        self.reports += other.reports;
        self.instances += other.instances;
        self.freed += other.freed;
    }
}

/// The reactions since the last line of the log.
#[derive(Debug, Default)]
struct ReactionLog {
    logged: Option<Instant>,
    since: PressureReaction,
}

impl ReactionLog {
    /// Notes a reaction. If a line is to be logged now, the sum of those since the last line.
    fn note(&mut self, reaction: PressureReaction, now: Instant) -> Option<PressureReaction> {
        self.since += reaction;
        if self.logged.is_some_and(|logged| now.duration_since(logged) < LOG_EVERY) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Reacts to memory pressure whenever it is reported, for as long as the daemon runs.
pub(super) async fn react_to_pressure(
    variables: PressureVariables,
    board: Board,
    figures: Figures,
) {
    if let Err(error) = follow(&variables, &board, &figures).await {
        let error = ErrorChain(&error).to_string();
        warn!(error, "memory pressure not watched");
    }
}

async fn follow(
    variables: &PressureVariables,
    board: &Board,
    figures: &Figures,
) -> Result<(), PressureError> {
    let Some(mut watch) = PressureWatch::open(variables)? else { return Ok(()) };
    let mut log = ReactionLog::default();
    loop {
        watch.reported().await?;
        let reaction = react(board).await;
        figures.count_pressure(reaction.instances);
        if let Some(PressureReaction { reports, instances, freed }) =
            log.note(reaction, Instant::now())
        {
            info!(
                message_id = messages::MEMORY_PRESSURE,
                instances, freed, reports, "memory pressure"
            );
        }
    }
}

async fn react(board: &Board) -> PressureReaction {
    let before = heap::resident();
    let pools: Vec<_> = board.pools().into_iter().map(|pool| (pool.activity(), pool)).collect();
    sleep(QUIET).await;
    let ending: Vec<_> =
        pools.into_iter().map(|(activity, pool)| pool.end_idle(&activity)).collect();
    let ended = async {
        while !ending.iter().all(EndingInstances::have_ended) {
            sleep(LOOK).await;
        }
    };
    // Those that take longer free their memory when they end, and are not counted.
    timeout(END_MAX, ended).await.ok();
    let instances = ending.iter().map(EndingInstances::ended).sum();
    heap::give_back().await;
    PressureReaction { reports: 1, instances, freed: before.saturating_sub(heap::resident()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_logged_at_once_and_further_ones_as_a_sum_each_minute() {
        let (start, mut log) = (Instant::now(), ReactionLog::default());
        let mut note = |seconds, instances| {
            let reaction = PressureReaction { reports: 1, instances, freed: 10 };
            log.note(reaction, start + Duration::from_secs(seconds))
        };
        assert_eq!(note(0, 3), Some(PressureReaction { reports: 1, instances: 3, freed: 10 }));
        assert_eq!(note(2, 1), None);
        assert_eq!(note(59, 0), None);
        assert_eq!(note(60, 2), Some(PressureReaction { reports: 3, instances: 3, freed: 30 }));
        assert_eq!(note(61, 2), None);
    }
}
