//! The calls about one plugin that change it, or follow it.

use crate::{
    api::{self, FailedStage},
    base::name::PluginName,
    control::{
        interfaces::VarlinkError,
        service::{
            CallOutcome, ControlContext, Method, Replies, no_such_plugin, reported, stopping,
        },
    },
    supervisor::{
        board::Board,
        degraded::DegradedReason,
        phase::DaemonPhase,
        problem::{PinError, RestartError, StopError, Stopping},
    },
};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// Interval at which a plugin that is followed is looked at: what an instance says of itself notifies nobody.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl ControlContext {
    pub(super) async fn restart(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        let outcome = self.supervisor.restart(name.clone()).await;
        started(&name, outcome, "io.plugind.RestartFailed")
    }

    pub(super) async fn start(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        let outcome = self.supervisor.start_plugin(name.clone()).await;
        started(&name, outcome, "io.plugind.StartFailed")
    }

    pub(super) async fn reload_plugin(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        let outcome = self.supervisor.reload_plugin(name.clone()).await;
        started(&name, outcome, "io.plugind.PluginNotReloaded")
    }

    pub(super) async fn rollback(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        let outcome = self.supervisor.rollback(name.clone()).await;
        started(&name, outcome, "io.plugind.RollbackFailed")
    }

    pub(super) async fn pin(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        pinned(&name, self.supervisor.pin(name.clone()).await)
    }

    pub(super) async fn unpin(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        pinned(&name, self.supervisor.unpin(name.clone()).await)
    }

    pub(super) async fn stop(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        match self.supervisor.stop_plugin(name.clone()).await {
            Ok(()) => Ok(json!({})),
            Err(StopError::NoSuchPlugin) => Err(no_such_plugin(&name)),
            Err(StopError::Stopping(Stopping)) => Err(stopping()),
            Err(StopError::StartedMeanwhile) => Err(VarlinkError::own(
                "io.plugind.StartedMeanwhile",
                api::Name { name: name.to_string() },
            )),
        }
    }

    /// Reports a plugin; if the client wants more, each time that it has changed, until the daemon ends.
    pub(super) async fn follow(
        &self,
        method: &Method,
        replies: &mut Replies<'_>,
    ) -> zlink::Result<CallOutcome> {
        let name = match method.name() {
            Ok(name) => name,
            Err(complaint) => return Ok(Err(complaint)),
        };
        let board = self.supervisor.board();
        let mut changes = board.changes();
        let mut sent = None;
        loop {
            changes.mark_unchanged();
            let state = FollowedState::of(board, &name);
            // Plugins that end with the daemon were not removed.
            if *self.phase.borrow() == DaemonPhase::Stopping {
                return Ok(Err(stopping()));
            }
            if sent.as_ref() != Some(&state) {
                let Ok(described) = self.supervisor.describe(name.clone()).await else {
                    return Ok(Err(stopping()));
                };
                let followed = api::Followed { plugin: described.map(|it| it.plugin) };
                if !replies.more || replies.oneway {
                    return Ok(Ok(reported(followed)));
                }
                replies.send(followed).await?;
                sent = Some(state);
            }
            if let Ok(Err(_)) = timeout(LOOK_EVERY, changes.changed()).await {
                return Ok(Err(stopping()));
            }
        }
    }
}

/// The facts of a plugin that are worth another reply when they change.
#[derive(PartialEq, Eq)]
struct FollowedState {
    state: &'static str,
    sub_state: String,
    generation: Option<u64>,
    has_failed_version: bool,
    failure: Option<String>,
    degraded: Option<DegradedReason>,
    statuses: Vec<String>,
}

impl FollowedState {
    /// The facts at present; none, if it is not there.
    fn of(board: &Board, name: &PluginName) -> Option<Self> {
        board.plugin(name).map(|(view, _)| Self {
            state: view.state,
            sub_state: view.sub_state,
            generation: view.generation,
            has_failed_version: view.has_failed_version,
            failure: view.failure,
            degraded: view.degraded,
            statuses: board.statuses(name),
        })
    }
}

fn pinned(name: &PluginName, outcome: Result<(), PinError>) -> CallOutcome {
    match outcome {
        Ok(()) => Ok(json!({})),
        Err(PinError::NoSuchPlugin) => Err(no_such_plugin(name)),
        Err(PinError::Stopping(Stopping)) => Err(stopping()),
        Err(why) => {
            let failed = api::PinFailed { name: name.to_string(), reason: why.to_string() };
            Err(VarlinkError::own("io.plugind.PinFailed", failed))
        }
    }
}

fn started(
    name: &PluginName,
    outcome: Result<u64, RestartError>,
    error: &'static str,
) -> CallOutcome {
    let failed = |stage: FailedStage, why: &RestartError, remedy: &str| api::PluginFailure {
        plugin: name.to_string(),
        stage: stage.to_string(),
        error: why.to_string(),
        remedy: remedy.to_owned(),
        configuration: false,
        previous_since: None,
    };
    let failure = match outcome {
        Ok(generation) => return Ok(reported(api::ServingVersion { generation })),
        Err(RestartError::NoSuchPlugin) => return Err(no_such_plugin(name)),
        Err(RestartError::Stopping(Stopping)) => return Err(stopping()),
        Err(RestartError::Failed(failed)) => (&failed).into(),
        Err(why @ RestartError::TakenBack) => failed(FailedStage::Start, &why, "try again"),
        Err(why @ RestartError::Stopped) => {
            failed(FailedStage::Start, &why, &format!("`pluginctl start {name}` starts it"))
        }
        Err(why @ RestartError::Pinned) => {
            failed(FailedStage::Scan, &why, &format!("`pluginctl unpin {name}` ends that"))
        }
        Err(why @ RestartError::InProgress) => {
            failed(FailedStage::Scan, &why, "try again when it serves or has failed")
        }
        Err(why @ RestartError::NoRollback(_)) => {
            failed(FailedStage::Scan, &why, "install the version that is wanted, and reload")
        }
        Err(why @ RestartError::Unreadable(_)) => {
            failed(FailedStage::Scan, &why, "fix the directories or settings and try again")
        }
    };
    Err(VarlinkError::own(error, api::NotServing { failure }))
}
