//! The phase of the daemon, and its status in one line.

use crate::supervisor::summary::Summary;

/// The phase of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonPhase {
    /// It waits for required plugins.
    Starting,
    /// It serves.
    Running,
    /// An operator takes it out of service: load balancers get 503, and then no connections are accepted.
    Draining,
    /// It finishes what is in progress, and ends.
    Stopping,
}

impl DaemonPhase {
    /// Returns systemd's word for it.
    #[must_use]
    pub fn active_state(self, summary: &Summary) -> &'static str {
        match self {
            Self::Starting => "activating",
            Self::Running | Self::Draining if summary.reloading => "reloading",
            Self::Running | Self::Draining => "active",
            Self::Stopping => "deactivating",
        }
    }

    /// Returns the status of the daemon, in one line.
    #[must_use]
    pub fn line(self, summary: &Summary) -> String {
        match self {
            Self::Starting if summary.awaited.is_empty() => "starting".to_owned(),
            Self::Starting => {
                let awaited: Vec<_> = summary.awaited.iter().map(ToString::to_string).collect();
                let (ready, plugins) = (summary.ready, summary.plugins);
                let failures = summary.failed.iter().chain(&summary.retried);
                let failures =
                    failures.map(|failed| format!("; {}: {}", failed.plugin, failed.error));
                let failures = failures.take(3).collect::<String>();
                let awaited = awaited.join(", ");
                format!("starting: {ready} of {plugins} ready (waiting for {awaited}){failures}")
            }
            Self::Running => summary.to_string(),
            Self::Draining => format!("draining; {summary}"),
            Self::Stopping => "stopping: finishing requests in progress".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_starts_it_says_what_it_waits_for() {
        let awaited = vec!["greeter".parse().unwrap()];
        let summary = Summary { plugins: 5, ready: 3, awaited, ..Summary::default() };
        let line = DaemonPhase::Starting.line(&summary);
        assert_eq!(line, "starting: 3 of 5 ready (waiting for greeter)");
        assert_eq!(DaemonPhase::Starting.active_state(&summary), "activating");
    }

    #[test]
    fn while_it_drains_it_is_active_and_its_status_says_so() {
        let summary = Summary { plugins: 1, ready: 1, ..Summary::default() };
        let line = DaemonPhase::Draining.line(&summary);
        assert_eq!(line, "draining; 1 of 1 plugins ready");
        assert_eq!(DaemonPhase::Draining.active_state(&summary), "active");
    }

    #[test]
    fn while_a_reload_is_in_progress_the_daemon_reloads() {
        let summary = Summary { reloading: true, ..Summary::default() };
        assert_eq!(DaemonPhase::Running.active_state(&summary), "reloading");
        let summary = Summary { reloading: false, ..summary };
        assert_eq!(DaemonPhase::Running.active_state(&summary), "active");
    }
}
