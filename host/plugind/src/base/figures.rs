//! The figures of the daemon: counted where the work is done, without a lock except for failures, and read by those
//! who publish them.

mod per_core;
mod durations;
mod messages;
mod plugin;
mod uses;

pub use durations::{DURATION_BOUNDS, DurationCounts};
pub use messages::{MessageFigures, MessageInFlight, MessageTotals};
pub use per_core::{CoreFigures, Count, STATUS_CLASSES};
pub use plugin::{LatelyCounted, PluginFigures, PluginTotals};
pub use uses::{UseFigures, UseTotals};

use crate::base::name::PluginName;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The outcomes of reloads, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// All that changed serves.
    Success,
    /// At least one plugin failed.
    Failed,
    /// The configuration could not be read, and nothing changed.
    Unreadable,
}

impl ReloadOutcome {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("success", Self::Success), ("failed", Self::Failed), ("unreadable", Self::Unreadable)];
}

/// The figures of the daemon and of all plugins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Figures(Arc<AllFigures>);

#[derive(Debug)]
struct AllFigures {
    started: Instant,
    cores: usize,
    plugins: Mutex<BTreeMap<PluginName, Arc<PluginFigures>>>,
    reloads: [Count; ReloadOutcome::ALL.len()],
    /// Times that memory pressure was reported.
    pressure: Count,
    /// Instances that were ended because of it.
    ended_under_pressure: Count,
    /// The timeout of the watchdog.
    watchdog: OnceLock<Duration>,
    /// The time of the last notification of the watchdog, in ms since the start.
    watchdog_notified: AtomicU64,
}

impl Figures {
    /// Returns figures for this number of cores, all zero.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self(Arc::new(AllFigures {
            started: Instant::now(),
            cores,
            plugins: Mutex::default(),
            reloads: Default::default(),
            pressure: Count::default(),
            ended_under_pressure: Count::default(),
            watchdog: OnceLock::new(),
            watchdog_notified: AtomicU64::new(0),
        }))
    }

    /// Those of a plugin.
    #[must_use]
    pub fn of(&self, plugin: &PluginName) -> Arc<PluginFigures> {
        if let Some(figures) = self.plugins().get(plugin) {
            return figures.clone();
        }
        let fresh = Arc::new(PluginFigures::new(self.0.cores));
        self.plugins().entry(plugin.clone()).or_insert(fresh).clone()
    }

    /// Notes what was counted so far of all plugins; to be called every few seconds.
    pub fn sample(&self, now: Instant) {
        let all: Vec<_> = self.plugins().values().cloned().collect();
        all.iter().for_each(|figures| figures.sample(now));
    }

    /// Forgets a plugin that was removed.
    pub fn forget(&self, plugin: &PluginName) {
        self.plugins().remove(plugin);
    }

    /// Counts a reload with this outcome.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.0.reloads[outcome as usize].add(1);
    }

    /// Returns the number of reloads with this outcome.
    #[must_use]
    pub fn reloads(&self, outcome: ReloadOutcome) -> u64 {
        self.0.reloads[outcome as usize].get()
    }

    /// Counts a report of memory pressure, for which so many instances were ended.
    pub fn count_pressure(&self, ended: u64) {
        self.0.pressure.add(1);
        self.0.ended_under_pressure.add(ended);
    }

    /// Returns the number of reports of memory pressure, and of instances that were ended because of them.
    #[must_use]
    pub fn pressure(&self) -> (u64, u64) {
        (self.0.pressure.get(), self.0.ended_under_pressure.get())
    }

    /// Sets the timeout of the watchdog.
    pub fn watched(&self, within: Duration) {
        // There is one watchdog.
        self.0.watchdog.set(within).ok();
        self.notified();
    }

    /// Notes that the watchdog was notified.
    pub fn notified(&self) {
        let now = u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX);
        self.0.watchdog_notified.store(now, Relaxed);
    }

    /// Returns the time that is left until systemd ends the daemon; none without a watchdog.
    #[must_use]
    pub fn watchdog_slack(&self) -> Option<Duration> {
        let notified = Duration::from_millis(self.0.watchdog_notified.load(Relaxed));
        let silent = self.uptime().saturating_sub(notified);
        self.0.watchdog.get().map(|within| within.saturating_sub(silent))
    }

    /// Returns the uptime of the daemon.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn plugins(&self) -> MutexGuard<'_, BTreeMap<PluginName, Arc<PluginFigures>>> {
        self.0.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_count() {
        let figures = Figures::new(1);
        for (number, (_, outcome)) in (1..).zip(ReloadOutcome::ALL) {
            (0..number).for_each(|_| figures.reloaded(outcome));
        }
        let counts = ReloadOutcome::ALL.map(|(_, outcome)| figures.reloads(outcome));
        assert_eq!(counts, [1, 2, 3]);
    }

    #[test]
    fn the_figures_of_a_plugin_last_until_it_is_removed() {
        let (figures, name) = (Figures::new(1), "a".parse().unwrap());
        figures.of(&name).log_entries.add(1);
        assert_eq!(figures.of(&name).log_entries.get(), 1);
        figures.forget(&name);
        assert_eq!(figures.of(&name).log_entries.get(), 0);
    }
}
