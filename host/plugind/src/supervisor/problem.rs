//! Why the newest version of a plugin does not serve, or was not restarted.

use crate::{
    api::FailedStage,
    base::name::PluginName,
    plugin::{manifest::FailureAction, release::Release, verify_error::Rejected},
    pool::failure::Failure,
    route::owners::RouteRequest,
    supervisor::{generation::Generation, prepare::PrepareError, summary::Failed},
};
use std::{sync::Arc, time::SystemTime};

/// Why the newest version of a plugin does not serve.
#[derive(Clone, Debug)]
pub struct PluginProblem {
    /// The result in one word, systemd's where it has one.
    pub result: &'static str,
    /// The version, if it was worth a try.
    pub release: Option<Arc<Release>>,
    /// The number of its generation, if it came that far.
    pub generation: Option<u64>,
    /// A client waited for the outcome of this try, and got it.
    pub reported: bool,
    /// The stage that failed.
    pub stage: FailedStage,
    /// The error.
    pub error: String,
    /// Trying again helps only after something was changed.
    pub configuration: bool,
    /// Whether the daemon is not ready without the plugin.
    pub required: bool,
    /// The routes it asks for, as far as that is known.
    pub requests: Vec<RouteRequest>,
    /// When the first of several failures in a row was reported.
    pub since: Option<SystemTime>,
    /// The daemon starts without it, since it has never served and others have.
    pub left_out: bool,
    /// The version waited for others when it failed, so nothing has changed, and the daemon does not end for it.
    pub held_back: bool,
}

impl PluginProblem {
    /// Why this plugin was not even tried.
    #[must_use]
    pub fn of_rejected(rejected: &Rejected, requests: Vec<RouteRequest>) -> Self {
        Self {
            result: "configuration",
            release: None,
            generation: None,
            reported: false,
            stage: FailedStage::Verify,
            error: rejected.lines().join("; "),
            configuration: rejected.is_configuration(),
            required: rejected.required,
            requests,
            since: None,
            left_out: false,
            held_back: false,
        }
    }

    /// Why this version gets no route.
    #[must_use]
    pub fn of_routes(release: &Release, error: String, requests: Vec<RouteRequest>) -> Self {
        Self {
            result: "configuration",
            release: None,
            generation: None,
            reported: false,
            stage: FailedStage::Route,
            error,
            configuration: true,
            required: release.manifest.required,
            requests,
            since: None,
            left_out: false,
            held_back: false,
        }
    }

    /// Why this version may not call what it wants to.
    #[must_use]
    pub fn of_calls(release: &Release, error: String, requests: Vec<RouteRequest>) -> Self {
        Self { stage: FailedStage::Verify, ..Self::of_routes(release, error, requests) }
    }

    /// Why this version, and the one that serves, does not have the credentials that it needs.
    #[must_use]
    pub fn of_credentials(release: &Release, error: String, requests: Vec<RouteRequest>) -> Self {
        Self { stage: FailedStage::Link, ..Self::of_routes(release, error, requests) }
    }

    /// Why this version could not be compiled or linked.
    #[must_use]
    pub fn of_preparation(
        release: Arc<Release>,
        error: PrepareError,
        requests: Vec<RouteRequest>,
    ) -> Self {
        let PrepareError { stage, error, configuration } = error;
        Self {
            result: if configuration { "configuration" } else { "resources" },
            required: release.manifest.required,
            release: Some(release),
            generation: None,
            reported: false,
            stage,
            error,
            configuration,
            requests,
            since: None,
            left_out: false,
            held_back: false,
        }
    }

    /// The problem of a generation that cannot follow the one that serves, even if other failures are known.
    #[must_use]
    pub fn of_handover(generation: &Generation, result: &'static str, error: String) -> Self {
        Self { result, error, configuration: false, ..Self::of(generation, FailedStage::Handover) }
    }

    /// Why this generation does not serve.
    #[must_use]
    pub fn of(generation: &Generation, stage: FailedStage) -> Self {
        let failure = generation.failure.as_ref();
        let mut error = failure.map_or_else(|| "it failed".to_owned(), ToString::to_string);
        let names_restore = matches!(failure, Some(Failure::Restore(_) | Failure::Timeout(_)));
        if generation.failed_to_restore && !names_restore {
            error = format!("its `restore` failed: {error}");
        }
        let mut result = failure.map_or("failed", Failure::result);
        if generation.lifecycle.limit_hit() {
            result = "start-limit-hit";
            error =
                format!("start-limit-hit: it was restarted too often; the last failure: {error}");
        }
        let release = generation.release.clone();
        let never_served = stage == FailedStage::Start && !generation.failed_on_demand;
        Self {
            result,
            generation: Some(generation.number),
            reported: false,
            stage,
            error,
            configuration: matches!(failure, Some(Failure::Configuration(_))),
            // A plugin that cannot restore its own state must not keep the restarted daemon from becoming ready.
            required: release.manifest.required && !(generation.failed_to_restore && never_served),
            release: Some(release),
            requests: generation.requests.clone(),
            since: None,
            left_out: false,
            held_back: false,
        }
    }

    /// Whether the outcome of this generation takes its place. New instances of the previous version do not fix the
    /// newest one.
    #[must_use]
    pub fn is_replaced_by(&self, generation: &Generation) -> bool {
        let is_same = |failed: &Arc<Release>| failed.is_same(&generation.release);
        !generation.is_restart
            || self.stage == FailedStage::Run
            || self.release.as_ref().is_some_and(is_same)
    }

    /// Whether it is one with this very version, and a client got it.
    #[must_use]
    pub fn is_of(&self, release: &Arc<Release>) -> bool {
        self.reported && self.release.as_ref().is_some_and(|failed| failed.is_same(release))
    }

    /// Returns it in the form that the summary of all plugins has.
    #[must_use]
    pub fn failed(&self, name: &PluginName) -> Failed {
        let started = self.release.as_ref().filter(|_| self.generation.is_some());
        let action = started.map(|release| release.manifest.service.failure_action);
        Failed {
            plugin: name.clone(),
            required: self.required && !self.left_out,
            exit: action == Some(FailureAction::Exit) && !self.held_back,
            stage: self.stage,
            error: self.error.clone(),
            configuration: self.configuration,
            stopped: false,
            previous_since: None,
        }
    }
}

/// The daemon is about to end, and does nothing else any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is about to end")]
pub struct Stopping;

/// Why a plugin was not stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// No plugin has this name.
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// An operator started it before its instances had ended.
    #[error("it was started meanwhile")]
    StartedMeanwhile,
    /// All plugins stop.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Why a plugin was not pinned or unpinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No plugin has this name.
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// There is no version that it could keep.
    #[error("no version of it serves; only a version that serves can be pinned")]
    NotServing,
    /// The version that serves may be replaced.
    #[error("another version of it is on its way; try again when it serves or has failed")]
    InProgress,
    /// Another client has pinned or unpinned it, and that is not written yet.
    #[error("its pin is being changed; try again")]
    BeingChanged,
    /// The pin would not outlive the daemon, or could not be removed.
    #[error("{0}")]
    NotKept(String),
    /// All plugins stop.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Why a plugin was not restarted, started, reloaded or rolled back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// No plugin has this name.
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// Its new instances did not become ready. The previous ones, if there are any, keep serving.
    #[error("{}", .0.error)]
    Failed(Failed),
    /// The pending version is not wanted any more.
    #[error("its new version was given up before it took over")]
    TakenBack,
    /// It is stopped: an operator stopped it, or it does not start by itself and has not been started.
    #[error("it is stopped")]
    Stopped,
    /// Another change of it has begun.
    #[error("another change of it is in progress")]
    InProgress,
    /// There is nothing to roll it back to.
    #[error("{0}")]
    NoRollback(String),
    /// An operator pinned it to the version that serves.
    #[error("it is pinned")]
    Pinned,
    /// Its files cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Nothing is restarted any more.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}
