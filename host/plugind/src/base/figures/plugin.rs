//! The figures of one plugin, summed over all cores: the totals, and those of about the last minute.

use crate::base::figures::{
    durations::{DurationCounts, nanoseconds},
    messages::{MessageFigures, MessageTotals},
    per_core::{CoreFigures, Count, STATUS_CLASSES},
    uses::{UseFigures, UseTotals},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The period of recent figures.
const LATELY: Duration = Duration::from_secs(60);

/// The figures of one plugin, over all its versions.
#[derive(Debug)]
pub struct PluginFigures {
    cores: Box<[Arc<CoreFigures>]>,
    /// Entries of its instances that went to the journal.
    pub log_entries: Count,
    /// Entries that its log rate dropped.
    pub log_dropped: Count,
    /// Datagrams to it, and answers of it, that were dropped.
    pub datagrams_dropped: Count,
    /// Its messages.
    pub messages: MessageFigures,
    /// Its operations on key-value stores.
    pub keyvalue: UseFigures,
    /// Its requests to other plugins.
    pub calls: UseFigures,
    /// The number of failures by result. There are few results, and failures are rare.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    /// Samples of the last minute, the oldest first.
    recent: Mutex<VecDeque<FigureSample>>,
    /// The time to compile its newest version, in ns; 0 if unknown.
    compile: AtomicU64,
    /// The time from the creation of the version that was ready last until it was ready, in ns; 0 if none was.
    start: AtomicU64,
}

impl PluginFigures {
    /// Returns figures for this number of cores, all zero.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores.max(1)).map(|_| Arc::default()).collect(),
            log_entries: Count::default(),
            log_dropped: Count::default(),
            datagrams_dropped: Count::default(),
            messages: MessageFigures::default(),
            keyvalue: UseFigures::default(),
            calls: UseFigures::default(),
            failures: Mutex::default(),
            recent: Mutex::new(VecDeque::from([FigureSample::new(Instant::now())])),
            compile: AtomicU64::new(0),
            start: AtomicU64::new(0),
        }
    }

    /// Returns the figures of a core.
    #[must_use]
    pub fn core(&self, core: usize) -> &Arc<CoreFigures> {
        // Any number is mapped to an existing core.
        &self.cores[core % self.cores.len()]
    }

    /// An instance failed in this way.
    pub fn failed(&self, result: &'static str) {
        *self.failures().entry(result).or_default() += 1;
    }

    /// Its newest version was compiled in this time, or was not compiled, because it came from the cache.
    pub fn compiled_in(&self, time: Option<Duration>) {
        self.compile.store(time.map_or(0, |time| nanoseconds(time).max(1)), Relaxed);
    }

    /// A version of it became ready after this time.
    pub fn started_in(&self, time: Duration) {
        self.start.store(nanoseconds(time).max(1), Relaxed);
    }

    /// Returns the totals so far, of all cores together.
    #[must_use]
    pub fn totals(&self) -> PluginTotals {
        let known = |time: &AtomicU64| Some(time.load(Relaxed)).filter(|time| *time > 0);
        let mut totals = PluginTotals {
            log_entries: self.log_entries.get(),
            log_dropped: self.log_dropped.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
            messages: self.messages.totals(),
            keyvalue: self.keyvalue.totals(),
            calls: self.calls.totals(),
            failures: self.failures().clone(),
            compile: known(&self.compile).map(Duration::from_nanos),
            start: known(&self.start).map(Duration::from_nanos),
            ..PluginTotals::default()
        };
        for core in &self.cores {
            for (sum, count) in totals.responses.iter_mut().zip(&core.responses) {
                *sum += count.get();
            }
            for (sum, count) in totals.durations.0.iter_mut().zip(&core.durations) {
                *sum += count.get();
            }
            totals.duration += Duration::from_nanos(core.duration.get());
            for (sum, count) in totals.waits.0.iter_mut().zip(&core.waits) {
                *sum += count.get();
            }
            totals.wait += Duration::from_nanos(core.wait.get());
            totals.busy += Duration::from_nanos(core.busy.get());
            totals.received += core.received.get();
            totals.sent += core.sent.get();
            totals.connections += core.connections.get();
            totals.datagrams += core.datagrams.get();
        }
        totals
    }

    /// Adds a sample, for later comparison.
    pub(super) fn sample(&self, now: Instant) {
        let totals = self.totals();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // The sample that is a minute old is kept until the next one is.
        while recent.get(1).is_some_and(|it| now.saturating_duration_since(it.at) >= LATELY) {
            recent.pop_front();
        }
        recent.push_back(FigureSample {
            at: now,
            busy: totals.busy,
            responses: totals.responses,
            durations: totals.durations,
        });
    }

    /// Returns the counts of about the last minute.
    #[must_use]
    pub fn lately(&self, now: Instant) -> LatelyCounted {
        let totals = self.totals();
        let first = {
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.front().copied().unwrap_or_else(|| FigureSample::new(now))
        };
        let less = |(now, before): (u64, u64)| now.saturating_sub(before);
        let durations = totals.durations.0.into_iter().zip(first.durations.0).map(less);
        let mut counts = DurationCounts::default();
        counts.0.iter_mut().zip(durations).for_each(|(count, number)| *count = number);
        LatelyCounted {
            period: now.saturating_duration_since(first.at),
            responses: totals.responses.into_iter().zip(first.responses).map(less).sum(),
            busy: totals.busy.saturating_sub(first.busy),
            durations: counts,
        }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sample: the counts of a plugin up to a moment.
#[derive(Clone, Copy, Debug)]
struct FigureSample {
    at: Instant,
    responses: [u64; STATUS_CLASSES.len()],
    busy: Duration,
    durations: DurationCounts,
}

impl FigureSample {
    fn new(at: Instant) -> Self {
        let (responses, busy, durations) = Default::default();
        Self { at, responses, busy, durations }
    }
}

/// The counts of a plugin in about the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatelyCounted {
    /// The length of the period.
    pub period: Duration,
    /// Responses.
    pub responses: u64,
    /// The time for which instances ran.
    pub busy: Duration,
    /// The response times.
    pub durations: DurationCounts,
}

/// The counts of a plugin so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginTotals {
    /// Responses by [`STATUS_CLASSES`].
    pub responses: [u64; STATUS_CLASSES.len()],
    /// The response times.
    pub durations: DurationCounts,
    /// The sum of these times.
    pub duration: Duration,
    /// The times for which calls waited for an instance.
    pub waits: DurationCounts,
    /// The sum of these times.
    pub wait: Duration,
    /// The time for which instances ran.
    pub busy: Duration,
    /// Bytes that instances received.
    pub received: u64,
    /// Bytes that instances sent.
    pub sent: u64,
    /// Connections that instances were given.
    pub connections: u64,
    /// Datagrams that instances were given.
    pub datagrams: u64,
    /// Datagrams and answers that were dropped.
    pub datagrams_dropped: u64,
    /// Messages.
    pub messages: MessageTotals,
    /// Operations on key-value stores.
    pub keyvalue: UseTotals,
    /// Requests to other plugins.
    pub calls: UseTotals,
    /// Entries of instances in the journal.
    pub log_entries: u64,
    /// Entries that the log rate dropped.
    pub log_dropped: u64,
    /// The number of failures by result.
    pub failures: BTreeMap<&'static str, u64>,
    /// The time to compile the newest version, if it was compiled.
    pub compile: Option<Duration>,
    /// The time from the creation of the version that was ready last until it was ready.
    pub start: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::figures::durations::BUCKETS;

    #[test]
    fn the_counts_of_all_cores_are_summed_up() {
        let figures = PluginFigures::new(2);
        figures.core(0).response(200, Duration::from_micros(100));
        figures.core(1).response(404, Duration::from_micros(101));
        figures.core(7).response(103, Duration::from_secs(60));
        figures.core(0).refusal(503);
        figures.failed("trap");
        let totals = figures.totals();
        assert_eq!(totals.responses, [1, 0, 1, 2]);
        assert_eq!(totals.durations.count(), 3);
        assert_eq!((totals.durations.0[0], totals.durations.0[1]), (1, 1));
        assert_eq!(totals.durations.0[BUCKETS - 1], 1);
        assert_eq!(totals.duration, Duration::from_micros(60_000_201));
        assert_eq!(totals.failures, BTreeMap::from([("trap", 1)]));
    }

    #[test]
    fn recent_figures_are_the_counts_since_a_minute_ago() {
        let (figures, start) = (PluginFigures::new(1), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let count = || figures.core(0).response(200, Duration::from_millis(1));
        count();
        figures.sample(at(10));
        count();
        count();
        assert_eq!(figures.lately(at(30)).responses, 3);
        figures.sample(at(40));
        figures.sample(at(75));
        let lately = figures.lately(at(80));
        assert_eq!((lately.responses, lately.period), (2, Duration::from_secs(70)));
        assert_eq!(lately.durations.count(), 2);
        figures.sample(at(200));
        assert_eq!(figures.lately(at(201)).responses, 0);
    }
}
