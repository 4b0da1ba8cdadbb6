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
    supervisor::{board::PluginView, handle::SupervisorHandle},
};
use std::{sync::Weak, time::Duration};

/// Where figures come from. Cheap to clone.
#[derive(Clone)]
pub struct MetricSources {
    /// Who sees the plugins.
    pub supervisor: SupervisorHandle,
    /// Who sees the connections. They are not kept by this, since their files go with them.
    pub listeners: Weak<Listeners>,
    /// The writer of the log.
    pub journal: Journal,
    /// The sink of spans, if traces are exported.
    pub spans: Option<SpanSink>,
    /// The sizes of the states of plugins.
    pub state_sizes: StateSizes,
}

/// A plugin at a moment.
#[derive(Clone, Debug)]
pub struct PluginSnapshot {
    /// The status.
    pub view: PluginView,
    /// What was counted of it.
    pub totals: PluginTotals,
    /// The size of its state in bytes, as far as that is known.
    pub state_size: Option<u64>,
}

/// The daemon at a moment.
#[derive(Clone, Debug)]
pub struct DaemonSnapshot {
    /// How long it has run.
    pub uptime: Duration,
    /// How many reloads there were of each outcome.
    pub reloads: [(&'static str, u64); ReloadOutcome::ALL.len()],
    /// Whether one is in progress.
    pub is_reloading: bool,
    /// The sockets that are accepted from.
    pub sockets: Vec<SocketUsage>,
    /// How many sockets nothing is served on.
    pub unused_sockets: usize,
    /// How many files are open.
    pub open_files: Option<u64>,
    /// How many may be.
    pub max_files: Option<u64>,
    /// How many entries of the log were lost.
    pub lost_entries: u64,
    /// The numbers of spans that were exported and dropped, if traces are exported.
    pub spans: Option<(u64, u64)>,
    /// How much time is left until systemd would end the daemon.
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
            watchdog_slack: figures.watchdog_slack(),
        }
    }
}
