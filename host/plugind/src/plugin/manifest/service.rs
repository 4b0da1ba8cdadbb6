//! `[service]` of a manifest: how a plugin starts, stops and is restarted.

use crate::{base::quantity::Span, config::Table};
use std::time::Duration;

/// `[service]`: how a plugin starts, stops and is restarted. The names are those of systemd.service(5).
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words of systemd.service(5)")]
pub struct Service {
    /// Whether it starts with the daemon, or only when an operator or a unit starts it.
    pub autostart: bool,
    pub timeout_start: Duration,
    /// A background program is ready when it has run for so long, or has ended well.
    pub ready: Duration,
    pub timeout_stop: Duration,
    pub watchdog: Duration,
    pub restart: RestartPolicy,
    pub restart_sec: Duration,
    pub restart_steps: u32,
    pub restart_max_delay: Duration,
    pub start_limit_burst: u32,
    pub start_limit_interval: Duration,
    pub failure_action: FailureAction,
}

/// Whether an instance that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it failed.
    OnFailure,
    /// However it ended.
    Always,
}

/// The effect on the daemon of a plugin that failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Nothing: the other plugins continue.
    None,
    /// The daemon finishes the work in progress, and ends.
    Exit,
}

impl Service {
    /// Whether the plugin starts with the daemon, if the table says that.
    pub(super) fn autostart(table: &Table<'_>) -> Option<bool> {
        table.boolean("autostart")
    }

    pub(super) fn read(table: &Table<'_>) -> Self {
        let span = |key, default| table.parsed::<Span>(key).map_or(default, |span| span.0);
        let seconds = Duration::from_secs;
        Self {
            autostart: Self::autostart(table).unwrap_or(true),
            timeout_start: span("timeout-start-sec", seconds(30)),
            ready: span("ready-sec", seconds(1)),
            timeout_stop: span("timeout-stop-sec", seconds(10)),
            watchdog: span("watchdog-sec", seconds(10)),
            restart: table
                .choice(
                    "restart",
                    &[
                        ("no", RestartPolicy::No),
                        ("on-failure", RestartPolicy::OnFailure),
                        ("always", RestartPolicy::Always),
                    ],
                )
                .unwrap_or(RestartPolicy::OnFailure),
            restart_sec: span("restart-sec", Duration::from_millis(100)),
            restart_steps: table.number("restart-steps", 0).unwrap_or(6),
            restart_max_delay: span("restart-max-delay-sec", seconds(30)),
            start_limit_burst: table.number("start-limit-burst", 1).unwrap_or(5),
            start_limit_interval: span("start-limit-interval-sec", seconds(60)),
            failure_action: table
                .choice(
                    "failure-action",
                    &[("none", FailureAction::None), ("exit", FailureAction::Exit)],
                )
                .unwrap_or(FailureAction::None),
        }
    }
}
