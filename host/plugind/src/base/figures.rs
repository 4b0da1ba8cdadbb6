//! The figures of the daemon: counted where the work is done, without a lock, and read by those who publish them.

use crate::base::name::PluginName;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The upper bounds of the histogram of response times, in µs. What is longer is in one more bucket.
pub const DURATION_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
const BUCKETS: usize = DURATION_BOUNDS.len() + 1;
/// What happened in this time happened lately.
const LATELY: Duration = Duration::from_secs(60);

/// The classes of statuses that responses are counted by.
pub const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one core counts of one plugin. Others hardly ever write here, so that it stays in the core's own cache.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreFigures {
    responses: [Count; STATUS_CLASSES.len()],
    durations: [Count; BUCKETS],
    /// The sum of all durations, in ns.
    duration: Count,
    waits: [Count; BUCKETS],
    /// The sum of all waits, in ns.
    wait: Count,
    /// How long instances ran, in ns.
    busy: Count,
    /// Bytes of request bodies and of connections that instances received.
    pub received: Count,
    /// Bytes of response bodies and of connections that instances sent.
    pub sent: Count,
    /// Connections that instances were given.
    pub connections: Count,
    /// Datagrams that instances were given.
    pub datagrams: Count,
}

impl CoreFigures {
    /// Counts a response, and how long it took to begin. A status below 200 counts as that of the response that the
    /// client gets in its place.
    pub fn response(&self, status: u16, duration: Duration) {
        self.class(status);
        self.durations[bucket(duration)].add(1);
        self.duration.add(nanoseconds(duration));
    }

    /// Counts a call that an instance took, and how long it waited for that.
    pub fn waited(&self, wait: Duration) {
        self.waits[bucket(wait)].add(1);
        self.wait.add(nanoseconds(wait));
    }

    /// Counts a response of the host's own, for which no instance was asked.
    pub fn refusal(&self, status: u16) {
        self.class(status);
    }

    fn class(&self, status: u16) {
        let class = match status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            _ => 3,
        };
        self.responses[class].add(1);
    }

    /// Counts how long an instance ran.
    pub fn ran(&self, time: Duration) {
        self.busy.add(nanoseconds(time));
    }
}

/// The bucket of a time.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bucket = DURATION_BOUNDS.iter().position(|bound| micros <= *bound);
    bucket.unwrap_or(DURATION_BOUNDS.len())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is counted of one plugin, over all its versions.
#[derive(Debug)]
pub struct PluginFigures {
    cores: Box<[Arc<CoreFigures>]>,
    /// Entries of its instances that went to the journal.
    pub log_entries: Count,
    /// Entries that its log rate dropped.
    pub log_dropped: Count,
    /// Datagrams to it, and answers of it, that were dropped.
    pub datagrams_dropped: Count,
    /// How its instances failed: few kinds, and seldom.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    /// What was counted at moments of the last minute, the oldest first.
    recent: Mutex<VecDeque<FigureSample>>,
    /// How long its newest version took to be compiled, in ns; 0 is unknown.
    compile: AtomicU64,
    /// How long its newest version took from its creation to ready, in ns; 0 is unknown.
    start: AtomicU64,
}

impl PluginFigures {
    /// Nothing is counted yet, on so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores.max(1)).map(|_| Arc::default()).collect(),
            log_entries: Count::default(),
            log_dropped: Count::default(),
            datagrams_dropped: Count::default(),
            failures: Mutex::default(),
            recent: Mutex::new(VecDeque::from([FigureSample::new(Instant::now())])),
            compile: AtomicU64::new(0),
            start: AtomicU64::new(0),
        }
    }

    /// What a core counts.
    #[must_use]
    pub fn core(&self, core: usize) -> &Arc<CoreFigures> {
        // A number from elsewhere is one of these at the least.
        &self.cores[core % self.cores.len()]
    }

    /// An instance failed in this way.
    pub fn failed(&self, result: &'static str) {
        *self.failures().entry(result).or_default() += 1;
    }

    /// Its newest version was compiled in this time.
    pub fn compiled_in(&self, time: Duration) {
        self.compile.store(nanoseconds(time).max(1), Relaxed);
    }

    /// Its newest version was ready after this time.
    pub fn started_in(&self, time: Duration) {
        self.start.store(nanoseconds(time).max(1), Relaxed);
    }

    /// What was counted so far, of all cores together.
    #[must_use]
    pub fn totals(&self) -> PluginTotals {
        let known = |time: &AtomicU64| Some(time.load(Relaxed)).filter(|time| *time > 0);
        let mut totals = PluginTotals {
            log_entries: self.log_entries.get(),
            log_dropped: self.log_dropped.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
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

    /// Notes what was counted so far, to be compared with later.
    fn sample(&self, now: Instant) {
        let totals = self.totals();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is a minute old is kept until there is another one.
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

    /// What was counted in about the last minute.
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

/// What was counted of a plugin up to a moment.
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

/// What was counted of a plugin in about the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatelyCounted {
    /// In which time.
    pub period: Duration,
    /// Responses.
    pub responses: u64,
    /// How long instances ran.
    pub busy: Duration,
    /// How long responses took to begin.
    pub durations: DurationCounts,
}

/// What was counted of a plugin so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginTotals {
    /// Responses by [`STATUS_CLASSES`].
    pub responses: [u64; STATUS_CLASSES.len()],
    /// How long responses took to begin.
    pub durations: DurationCounts,
    /// The sum of these times.
    pub duration: Duration,
    /// The times for which calls waited for an instance.
    pub waits: DurationCounts,
    /// The sum of these times.
    pub wait: Duration,
    /// How long instances ran.
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
    /// Entries of instances in the journal.
    pub log_entries: u64,
    /// Entries that the log rate dropped.
    pub log_dropped: u64,
    /// How instances failed.
    pub failures: BTreeMap<&'static str, u64>,
    /// How long the newest version took to be compiled, if it was.
    pub compile: Option<Duration>,
    /// How long the newest version took to be ready, if it was.
    pub start: Option<Duration>,
}

/// How many response times are in each bucket of [`DURATION_BOUNDS`], and beyond them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts(pub [u64; BUCKETS]);

impl DurationCounts {
    /// The total.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so many percent of them do not exceed, as far as the buckets show it: times are taken to be evenly
    /// distributed within a bucket, as in Prometheus' `histogram_quantile`.
    #[must_use]
    pub fn quantile(&self, percent: u64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).max(1);
        let (mut below, mut low) = (0, 0);
        for (number, high) in self.0.iter().zip(DURATION_BOUNDS) {
            let inside = u128::from(*number);
            if below + inside >= rank {
                let part = u128::from(high - low) * (rank - below) / inside.max(1);
                return Some(Duration::from_micros(low + u64::try_from(part).unwrap_or(0)));
            }
            (below, low) = (below + inside, high);
        }
        Some(Duration::from_micros(low))
    }
}

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
    /// Within which time systemd must hear of the daemon.
    watchdog: OnceLock<Duration>,
    /// When it heard of it last, in ms since the start.
    watchdog_notified: AtomicU64,
}

impl Figures {
    /// Nothing is counted yet, on so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self(Arc::new(AllFigures {
            started: Instant::now(),
            cores,
            plugins: Mutex::default(),
            reloads: Default::default(),
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

    /// A reload came to this.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.0.reloads[outcome as usize].add(1);
    }

    /// How many reloads came to this.
    #[must_use]
    pub fn reloads(&self, outcome: ReloadOutcome) -> u64 {
        self.0.reloads[outcome as usize].get()
    }

    /// systemd must hear of the daemon within this time.
    pub fn watched(&self, within: Duration) {
        // There is one watchdog.
        self.0.watchdog.set(within).ok();
        self.notified();
    }

    /// systemd heard of the daemon.
    pub fn notified(&self) {
        let now = u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX);
        self.0.watchdog_notified.store(now, Relaxed);
    }

    /// How much time is left until systemd would end the daemon; none without a watchdog.
    #[must_use]
    pub fn watchdog_slack(&self) -> Option<Duration> {
        let notified = Duration::from_millis(self.0.watchdog_notified.load(Relaxed));
        let silent = self.uptime().saturating_sub(notified);
        self.0.watchdog.get().map(|within| within.saturating_sub(silent))
    }

    /// How long the daemon has run.
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
    fn what_all_cores_counted_is_summed_up() {
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
    fn a_quantile_lies_within_the_bucket_that_has_it() {
        let mut counts = DurationCounts::default();
        assert_eq!(counts.quantile(50), None);
        counts.0[3] = 98;
        counts.0[6] = 2;
        let within = |percent| counts.quantile(percent).unwrap().as_micros();
        assert!((500..=1_000).contains(&within(50)), "{}", within(50));
        assert!((5_000..=10_000).contains(&within(99)), "{}", within(99));
        let beyond = DurationCounts(std::array::from_fn(|bucket| u64::from(bucket == 16)));
        assert_eq!(beyond.quantile(1), Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_happened_lately_is_what_was_counted_since_a_minute_ago() {
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
