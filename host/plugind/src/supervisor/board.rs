//! The published state of the plugins, which can be read without waiting for the supervisor. The supervisor writes it
//! in each of its turns.

use crate::{
    base::{
        figures::{Figures, PluginFigures},
        name::PluginName,
    },
    plugin::release::Release,
    pool::{gauges::PoolGauges, instances::Pool},
    supervisor::{degraded::DegradedReason, plugin::ManagedPlugin},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// The interval at which the figures are sampled.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// The published state of the plugins. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    plugins: Arc<Mutex<BTreeMap<PluginName, BoardEntry>>>,
    figures: Figures,
    /// Grows when something has changed.
    changes: watch::Sender<u64>,
}

/// The published state of one plugin.
#[derive(Clone)]
struct BoardEntry {
    state: &'static str,
    /// The more exact word, and since when it is that.
    sub_state: String,
    since: SystemTime,
    is_ready: bool,
    is_on_demand: bool,
    has_failed_version: bool,
    /// The error of its last failure, if its newest version failed or is tried again.
    failure: Option<String>,
    /// Why it is degraded, if it serves and is.
    degraded: Option<DegradedReason>,
    is_required: bool,
    /// The version that serves.
    generation: Option<u64>,
    release: Option<Arc<Release>>,
    /// The instances of every generation that has some.
    pools: Vec<Weak<Pool>>,
    figures: Arc<PluginFigures>,
}

/// A plugin at a moment.
#[derive(Clone, Debug)]
pub struct PluginView {
    /// Its name.
    pub name: PluginName,
    /// One of systemd's six words.
    pub state: &'static str,
    /// The more exact word.
    pub sub_state: String,
    /// Whether it serves, is a program that returned ok, or is started by its next request.
    pub is_ready: bool,
    /// Whether it has no instance before its next request or connection.
    pub is_on_demand: bool,
    /// Whether its newest version cannot be used, whatever serves.
    pub has_failed_version: bool,
    /// The error of its last failure, if its newest version failed or is tried again.
    pub failure: Option<String>,
    /// Why it is degraded, if it serves and is.
    pub degraded: Option<DegradedReason>,
    /// Whether the daemon is not ready without it.
    pub is_required: bool,
    /// The version that serves.
    pub generation: Option<u64>,
    /// What that version was made of.
    pub release: Option<Arc<Release>>,
    /// The state of all its instances, including those of versions that finish their work.
    pub gauges: PoolGauges,
    /// Its figures.
    pub figures: Arc<PluginFigures>,
}

/// Whether a plugin serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStanding {
    /// Its name.
    pub name: PluginName,
    /// One of systemd's six words.
    pub state: &'static str,
    /// Whether it serves, is a program that returned ok, or is started by its next request.
    pub is_ready: bool,
    /// Whether the daemon is not ready without it.
    pub is_required: bool,
}

/// Samples the figures every few seconds, so that recent changes are known.
pub async fn keep_sampling(figures: Figures) {
    let mut due = interval(SAMPLE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        figures.sample(Instant::now());
    }
}

impl Board {
    /// A board without plugins.
    #[must_use]
    pub fn new(figures: Figures) -> Self {
        Self { plugins: Arc::default(), figures, changes: watch::Sender::new(0) }
    }

    /// Returns a receiver that is notified when a plugin may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notifies those who follow plugins.
    pub(super) fn notify(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// The figures of the daemon and of all plugins.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// All plugins, in the order of their names.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginView> {
        // Out of the lock before pools are looked at.
        let entries = self.entries().clone();
        entries.into_iter().map(|(name, entry)| entry.view(name)).collect()
    }

    /// A plugin, if it is there, and the time at which its state changed last.
    #[must_use]
    pub fn plugin(&self, name: &PluginName) -> Option<(PluginView, SystemTime)> {
        let entry = self.entries().get(name).cloned()?;
        let since = entry.since;
        Some((entry.view(name.clone()), since))
    }

    /// The instances of the version of a plugin that serves, if one does.
    #[must_use]
    pub fn serving_pool(&self, name: &PluginName) -> Option<Arc<Pool>> {
        self.entries().get(name)?.serving_pool()
    }

    /// The instances that serve, of each plugin that is ready, and the reason that is published for which it is degraded.
    pub(super) fn ready_pools(&self) -> Vec<(Arc<Pool>, Option<DegradedReason>)> {
        let entries = self.entries();
        let ready = entries.values().filter(|entry| entry.is_ready);
        ready.filter_map(|entry| Some((entry.serving_pool()?, entry.degraded.clone()))).collect()
    }

    /// The status that each generation of a plugin with instances reports.
    #[must_use]
    pub fn statuses(&self, name: &PluginName) -> Vec<String> {
        let pools = self.entries().get(name).map(|entry| entry.pools.clone()).unwrap_or_default();
        let pools = pools.iter().filter_map(Weak::upgrade);
        pools.map(|pool| pool.shared().notify.status()).collect()
    }

    /// The instances of every generation of all plugins.
    #[must_use]
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = |entry: &BoardEntry| entry.pools.clone();
        let pools: Vec<_> = self.entries().values().flat_map(pools).collect();
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether each plugin serves, in the order of their names.
    #[must_use]
    pub fn standings(&self) -> Vec<PluginStanding> {
        let standing = |(name, entry): (&PluginName, &BoardEntry)| PluginStanding {
            name: name.clone(),
            state: entry.state,
            is_ready: entry.is_ready,
            is_required: entry.is_required,
        };
        self.entries().iter().map(standing).collect()
    }

    /// Publishes the state of a plugin and why it is degraded, if it is, or that it is not there any more.
    pub(super) fn set(
        &self,
        name: &PluginName,
        plugin: Option<&ManagedPlugin>,
        degraded: Option<DegradedReason>,
    ) {
        let Some(plugin) = plugin else {
            self.entries().remove(name);
            return self.figures.forget(name);
        };
        let condition = plugin.condition();
        let mut entries = self.entries();
        let entry = entries.entry(name.clone()).or_insert_with(|| self.fresh(name));
        let sub_state = condition.sub_state(degraded.is_some());
        if entry.sub_state != sub_state {
            (entry.sub_state, entry.since) = (sub_state, SystemTime::now());
        }
        entry.state = condition.active_state();
        entry.is_ready = condition.is_ready();
        entry.is_on_demand = condition.is_on_demand();
        entry.has_failed_version = plugin.failed().is_some();
        entry.failure = plugin.reported_problem().map(|problem| problem.error);
        entry.degraded = degraded;
        entry.is_required = plugin.is_required();
        entry.generation = plugin.serving().map(|serving| serving.number);
        entry.release = plugin.serving().map(|serving| Arc::clone(&serving.release));
        entry.pools.retain(|pool| pool.strong_count() > 0);
    }

    /// A generation has instances.
    pub(super) fn add_pool(&self, name: &PluginName, pool: &Arc<Pool>) {
        let mut entries = self.entries();
        let entry = entries.entry(name.clone()).or_insert_with(|| self.fresh(name));
        entry.pools.push(Arc::downgrade(pool));
    }

    fn fresh(&self, name: &PluginName) -> BoardEntry {
        BoardEntry {
            state: "inactive",
            sub_state: String::new(),
            since: SystemTime::now(),
            is_ready: false,
            is_on_demand: false,
            has_failed_version: false,
            failure: None,
            degraded: None,
            is_required: false,
            generation: None,
            release: None,
            pools: Vec::new(),
            figures: self.figures.of(name),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<PluginName, BoardEntry>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoardEntry {
    fn serving_pool(&self) -> Option<Arc<Pool>> {
        let mut pools = self.pools.iter().filter_map(Weak::upgrade);
        pools.find(|pool| Some(pool.shared().identity.generation) == self.generation)
    }

    fn view(self, name: PluginName) -> PluginView {
        let pools: Vec<_> = self.pools.iter().filter_map(Weak::upgrade).collect();
        let gauges = pools.iter().map(|pool| pool.gauges());
        PluginView {
            name,
            state: self.state,
            sub_state: self.sub_state,
            is_ready: self.is_ready,
            is_on_demand: self.is_on_demand,
            has_failed_version: self.has_failed_version,
            failure: self.failure,
            degraded: self.degraded,
            is_required: self.is_required,
            generation: self.generation,
            release: self.release,
            gauges: gauges.fold(PoolGauges::default(), PoolGauges::beside),
            figures: self.figures,
        }
    }
}
