//! All figures at a moment. Taking them waits for nobody: neither the supervisor nor a guest is asked.

use crate::{
    base::{
        descriptors,
        figures::{Figures, PluginTotals, ReloadOutcome},
    },
    journal::Journal,
    listen::{
        listeners::{Listeners, SocketUsage},
        spans::SpanSink,
    },
    metrics::state_sizes::StateSizes,
    runtime::engine,
    supervisor::{board::PluginView, handle::SupervisorHandle},
    world::host_runtime::PendingHostRuntime,
};
use std::{sync::Weak, time::Duration};

/// Where figures come from. Cheap to clone.
#[derive(Clone)]
pub struct MetricSources {
    /// The supervisor of the plugins.
    pub supervisor: SupervisorHandle,
    /// The listeners, for the connections. The reference is weak, because their files must be removed with them.
    pub listeners: Weak<Listeners>,
    /// The writer of the log.
    pub journal: Journal,
    /// The sink of spans, if traces are exported.
    pub spans: Option<SpanSink>,
    /// The sizes of the states of plugins.
    pub state_sizes: StateSizes,
    /// The runtime of the plugins.
    pub host: PendingHostRuntime,
}

/// A plugin at a moment.
#[derive(Clone, Debug)]
pub struct PluginSnapshot {
    /// The status.
    pub view: PluginView,
    /// The counts of the plugin.
    pub totals: PluginTotals,
    /// The size of its state in bytes, as far as that is known.
    pub state_size: Option<u64>,
}

/// The daemon at a moment.
#[derive(Clone, Debug)]
pub struct DaemonSnapshot {
    /// The uptime.
    pub uptime: Duration,
    /// The number of reloads of each outcome.
    pub reloads: [(&'static str, u64); ReloadOutcome::ALL.len()],
    /// Whether one is in progress.
    pub is_reloading: bool,
    /// The sockets that are accepted from.
    pub sockets: Vec<SocketUsage>,
    /// The number of sockets that nothing is served on.
    pub unused_sockets: usize,
    /// The number of open files.
    pub open_files: Option<u64>,
    /// The most files that may be open.
    pub max_files: Option<u64>,
    /// The number of lost log entries.
    pub lost_entries: u64,
    /// The numbers of spans that were exported and dropped, if traces are exported.
    pub spans: Option<(u64, u64)>,
    /// The number of reports of memory pressure, and of instances that were ended because of them.
    pub pressure: (u64, u64),
    /// Bytes that places of the instance pool keep for the next instances; none before there is a pool.
    pub pool_unused: Option<u64>,
    /// The time that is left until systemd ends the daemon.
    pub watchdog_slack: Option<Duration>,
}

/// All figures at a moment.
#[derive(Clone, Debug)]
pub struct MetricSnapshot {
    /// The daemon.
    pub daemon: DaemonSnapshot,
    /// All plugins, in the order of their names.
    pub plugins: Vec<PluginSnapshot>,
}

impl MetricSources {
    /// All figures of this moment.
    #[must_use]
    pub fn take(&self) -> MetricSnapshot {
        let board = self.supervisor.board();
        let figures = board.figures();
        let plugins = board.plugins();
        let mut sizes = self.state_sizes.take(plugins.iter().map(|view| view.name.clone()));
        let plugins = plugins.into_iter().map(|view| {
            let (totals, state_size) = (view.figures.totals(), sizes.remove(&view.name));
            PluginSnapshot { view, totals, state_size }
        });
        MetricSnapshot { daemon: self.daemon(figures), plugins: plugins.collect() }
    }

    fn daemon(&self, figures: &Figures) -> DaemonSnapshot {
        let (is_reloading, unused_sockets) = {
            let summary = self.supervisor.summary();
            let summary = summary.borrow();
            (summary.reloading, summary.unused_sockets.len())
        };
        DaemonSnapshot {
            uptime: figures.uptime(),
            reloads: ReloadOutcome::ALL.map(|(name, outcome)| (name, figures.reloads(outcome))),
            is_reloading,
            sockets: self.listeners.upgrade().map(|all| all.usage()).unwrap_or_default(),
            unused_sockets,
            open_files: descriptors::open(),
            max_files: descriptors::limit(),
            lost_entries: self.journal.lost(),
            spans: self.spans.as_ref().map(|sink| {
                let counts = sink.counts();
                (counts.exported.get(), counts.dropped.get())
            }),
            pressure: figures.pressure(),
            pool_unused: self.host.made().and_then(|host| engine::pool_unused(&host.engine)),
            watchdog_slack: figures.watchdog_slack(),
        }
    }
}
