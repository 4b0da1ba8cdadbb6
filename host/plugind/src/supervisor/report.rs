//! The condition of a plugin: one function decides it, and the log, STATUS=, lists, JSON and exit statuses
//! follow from that.

use crate::{
    api,
    supervisor::{
        board::PluginView,
        degraded::DegradedReason,
        lifecycle::{Demand, LifecycleState},
        plugin::ManagedPlugin,
        reload::Step,
        summary::{Failed, SummaryEntry},
    },
};
use plugind_artifact::hex::hex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The condition of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An instance serves.
    Running,
    /// An instance serves, or the program returned ok; and a new version has reached this step.
    Updating(Step),
    /// It is a program that returned ok.
    Exited,
    /// It was tried or has served, and its next request or connection starts it.
    OnDemand,
    /// The same, and a request or connection is starting it.
    Waking,
    /// Nothing of it serves, and a version has reached this step.
    Starting(Step),
    /// It did not start, and is tried again.
    Retrying,
    /// It served, its last instance failed, and the next one is not ready yet.
    Recovering,
    /// It failed for good.
    Failed,
    /// It finishes what it has.
    Stopping,
    /// An operator stopped it, or it does not start by itself and has not been started.
    Stopped,
}

impl Condition {
    /// Whether it serves, is a program that returned ok, or is started by the next request and did not fail so far.
    #[must_use]
    pub fn is_ready(self) -> bool {
        match self {
            Self::Running | Self::Updating(_) | Self::Exited | Self::OnDemand | Self::Waking => {
                true
            }
            Self::Starting(_)
            | Self::Retrying
            | Self::Recovering
            | Self::Failed
            | Self::Stopping
            | Self::Stopped => false,
        }
    }

    /// Whether it has no instance before its next request or connection.
    #[must_use]
    pub fn is_on_demand(self) -> bool {
        self == Self::OnDemand
    }

    /// One of systemd's six words.
    #[must_use]
    pub fn active_state(self) -> &'static str {
        match self {
            Self::Running => "active",
            Self::Updating(_) => "reloading",
            Self::Exited | Self::OnDemand | Self::Stopped => "inactive",
            Self::Waking | Self::Starting(_) | Self::Retrying | Self::Recovering => "activating",
            Self::Failed => "failed",
            Self::Stopping => "deactivating",
        }
    }

    /// A more exact word, as systemd's sub-states are, of a plugin that is degraded or not.
    #[must_use]
    pub fn sub_state(self, is_degraded: bool) -> String {
        match self {
            Self::Running if is_degraded => "degraded".to_owned(),
            Self::Running => "running".to_owned(),
            Self::Updating(step) | Self::Starting(step) => step.to_string(),
            Self::Exited => "exited".to_owned(),
            Self::OnDemand => "on demand".to_owned(),
            Self::Waking => Step::Starting.to_string(),
            Self::Retrying => "auto-restart".to_owned(),
            Self::Recovering => "recovering".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Stopping => "stopping".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }
}

/// The facts about the instances of a generation at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Number of instances that take work.
    pub workers: usize,
    /// The status that the plugin reports.
    pub status: Option<String>,
    /// Why the plugin is degraded, if they are those that serve and it is.
    pub degraded: Option<DegradedReason>,
    /// When it was ready.
    pub since: Option<SystemTime>,
    /// The figures of its requests.
    pub requests: Option<api::PluginRequests>,
}

impl ManagedPlugin {
    /// The condition.
    #[must_use]
    pub fn condition(&self) -> Condition {
        if self.removed {
            return Condition::Stopping;
        }
        if self.is_stopped() {
            let has_left = self.generations.leaving().is_empty();
            return if has_left { Condition::Stopped } else { Condition::Stopping };
        }
        let serves = self.serving().is_some() && self.down().is_none();
        let current = self.generations.current().map(|current| current.lifecycle.state());
        let is_done = current == Some(LifecycleState::Inactive);
        match self.step() {
            Some(step) if serves || is_done => Condition::Updating(step),
            None if serves => match self.demand() {
                Some(Demand::Idle) => Condition::OnDemand,
                Some(Demand::Waking) => Condition::Waking,
                Some(Demand::Running) | None => Condition::Running,
            },
            Some(_) if self.is_waiting() => Condition::Retrying,
            Some(step) => Condition::Starting(step),
            None => match current {
                Some(LifecycleState::Inactive) => Condition::Exited,
                Some(LifecycleState::Active | LifecycleState::Recovering) => Condition::Recovering,
                Some(LifecycleState::Starting) => Condition::Starting(Step::Starting),
                Some(LifecycleState::Waiting) => Condition::Retrying,
                Some(LifecycleState::Failed | LifecycleState::Leaving | LifecycleState::Gone)
                | None => Condition::Failed,
            },
        }
    }

    /// Returns its part of the summary of all plugins.
    #[must_use]
    pub fn standing(&self) -> SummaryEntry {
        let ready = self.condition().is_ready();
        let is_on_its_way = self.down().is_some() || self.is_in_progress() && !self.is_left_out();
        let awaited = !ready && self.is_required() && is_on_its_way;
        let (stopped, retried, failed) = (self.is_stopped(), self.retried(), self.failed());
        let on_demand = self.condition().is_on_demand();
        let (at_work, operated) = (self.is_at_own_work(), self.is_operated());
        SummaryEntry {
            ready,
            on_demand,
            at_work,
            stopped,
            operated,
            awaited,
            retried,
            failed,
            degraded: None,
        }
    }

    /// Whether it does something for which no socket could start the daemon: it starts, stops or changes, it waits for
    /// messages, or it has no handler, so that all it does is its own work.
    fn is_at_own_work(&self) -> bool {
        let works_alone = || {
            self.newest().is_some_and(|it| {
                !it.release.inspection.serves() || !it.release.manifest.subscribe.is_empty()
            })
        };
        match self.condition() {
            Condition::Updating(_)
            | Condition::Starting(_)
            | Condition::Waking
            | Condition::Stopping => true,
            Condition::Running | Condition::Retrying | Condition::Recovering => works_alone(),
            Condition::Exited | Condition::OnDemand | Condition::Failed | Condition::Stopped => {
                false
            }
        }
    }

    /// Returns its entry in a list. `serving` and `newest` are the facts of these generations.
    #[must_use]
    pub fn report(
        &self,
        serving: Option<InstanceFacts>,
        newest: Option<InstanceFacts>,
    ) -> api::Plugin {
        let condition = self.condition();
        let problem = self.reported_problem();
        let failure = problem.as_ref().map(|problem| problem.failed(&self.name));
        let previous_since = self.failed().and_then(|failed| failed.previous_since);
        let failure = failure.map(|failure| Failed { previous_since, ..failure });
        let serves = self.serving().is_some() && self.down().is_none();
        let ended = problem.filter(|_| !serves);
        let release = self.serving().map(|serving| &serving.release);
        let digests = release.map(|release| release.digests());
        let next = self.newest().filter(|_| self.preparing.is_none());
        let since = serving.as_ref().and_then(|facts| facts.since?.duration_since(UNIX_EPOCH).ok());
        let facts = serving.as_ref().or(newest.as_ref());
        let status = facts.and_then(|facts| facts.status.clone());
        let degraded = serving.as_ref().and_then(|facts| facts.degraded.as_ref());
        api::Plugin {
            name: self.name.to_string(),
            active_state: condition.active_state().to_owned(),
            sub_state: condition.sub_state(degraded.is_some()),
            result: ended.map_or("success", |problem| problem.result).to_owned(),
            required: self.is_required(),
            status: status.filter(|status| !status.is_empty()),
            degraded: degraded.map(ToString::to_string),
            generation: self.serving().map(|serving| serving.number),
            since: since.map(whole_microseconds),
            workers: serving.as_ref().map_or(0, |facts| facts.workers as u64),
            failures: self.serving().map_or(0, |serving| serving.failures),
            routes: self.routes().0.iter().map(|(route, _)| route.to_string()).collect(),
            failure: failure.as_ref().map(Into::into),
            next_attempt: next.and_then(|next| next.lifecycle.next_attempt()).map(microseconds),
            requests: serving.as_ref().and_then(|facts| facts.requests.clone()),
            pinned: false,
            sub_state_since: None,
            start_timeout: self.newest().map(|newest| {
                let timeout = newest.release.manifest.service.timeout_start;
                u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
            }),
            usage: None,
            version: release.and_then(|release| release.inspection.version.clone()),
            component_digest: digests.map(|digests| hex(&digests.component)),
            configuration_digest: digests.map(|digests| hex(&digests.configuration)),
        }
    }

    /// Returns its description.
    #[must_use]
    pub fn describe(&self, plugin: api::Plugin) -> api::Description {
        let release = self.generations.current().map(|current| &current.release);
        let imports = release.map(|release| release.inspection.imports.clone());
        let exports = release.map(|release| release.inspection.exports.clone());
        api::Description {
            plugin,
            component: release.map(|release| release.path.display().to_string()),
            digest: release.map(|release| hex(&release.digest)),
            imports: imports.unwrap_or_default(),
            exports: exports.unwrap_or_default(),
            kept: api::PluginKept::default(),
        }
    }
}

/// Returns the resource usage and the load of a plugin.
pub(super) fn usage(view: &PluginView, now: Instant) -> api::PluginUsage {
    let (gauges, lately) = (&view.gauges, view.figures.lately(now));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    api::PluginUsage {
        instances: gauges.instances as u64,
        in_flight: gauges.in_flight as u64,
        memory: gauges.memory as u64,
        memory_peak: gauges.memory_peak as u64,
        memory_max: gauges.memory_max as u64,
        period: millis(lately.period),
        busy: millis(lately.busy),
        responses: lately.responses,
        p50: lately.durations.quantile(50).map(whole_microseconds),
        p99: lately.durations.quantile(99).map(whole_microseconds),
    }
}

/// A moment in the past, in µs since 1970.
pub(super) fn moment(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, whole_microseconds)
}

/// A moment to come, in µs since 1970.
fn microseconds(moment: Instant) -> u64 {
    let moment = SystemTime::now() + moment.saturating_duration_since(Instant::now());
    moment.duration_since(UNIX_EPOCH).map_or(0, whole_microseconds)
}

fn whole_microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
