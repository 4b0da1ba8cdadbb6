//! `pluginctl follow`: the process of plugind-plugin@NAME.service, which is active as long as the plugin serves, and of
//! plugind-job@NAME.service, which is activating as long as the program runs.
//!
//! It does not start the daemon: a connection to the control socket would do that, so the instance of systemd that has
//! the daemon is asked for its state before each connection. Nothing is asked if an option says where the daemon is.

use crate::{
    client::{CallMethod, CallRefused, Client, ClientError, ControlAddress},
    daemon_state::{self, Manager},
    print::complain,
    problem::{Problem, wait_for},
    unit::UNIT,
    wait::is_ready,
};
use plugind::{
    api,
    base::name::PluginName,
    systemd::notify::{Notice, Notifier},
};
use std::{env, ffi::OsString, process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

/// The interval at which systemd is asked whether the daemon is back.
const ASK_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct FollowArgs {
    /// The plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    /// Fail unless the plugin is a program that runs to its end, and never run it twice
    #[arg(long)]
    job: bool,
    #[command(flatten)]
    place: ControlAddress,
}

/// Why a plugin is not followed any longer.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("failed at {stage}: {error}; {remedy}", stage = .0.stage, error = .0.error, remedy = .0.remedy)]
    Failed(api::PluginFailure),
    #[error("failed")]
    FailedWithoutReason,
    #[error("the job was interrupted: {0}")]
    Interrupted(&'static str),
    #[error("{UNIT} has failed; see `{0} status {UNIT}`")]
    DaemonFailed(Manager),
    #[error("{UNIT} does not run; `{0} start {UNIT}` starts it")]
    NoDaemon(Manager),
    #[error("cannot ask systemd for the state of {UNIT}: {0}")]
    Systemd(String),
}

/// The way in which it ends.
enum FollowOutcome {
    /// The background program has run to its end.
    Completed,
    /// The plugin ended as intended, with a status.
    Ended(&'static str),
    /// The daemon has ended.
    DaemonLeft,
}

struct Follower {
    name: PluginName,
    is_job: bool,
    place: ControlAddress,
    /// It starts and stops the daemon; none: nothing says whether the daemon returns.
    manager: Option<Manager>,
    notifier: Notifier,
    /// The daemon has started the plugin at least once.
    was_started: bool,
    /// READY=1 was sent.
    is_ready: bool,
}

impl FollowArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let Self { name, job: is_job, place } = self;
        let socket = notify_socket();
        wait_for(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(Problem::Wait)?;
            let notifier = Notifier::connect(socket);
            let (was_started, is_ready) = (false, false);
            let manager = place.manager();
            let mut follower =
                Follower { name, is_job, place, manager, notifier, was_started, is_ready };
            let outcome = follower.run(&mut terminate).await;
            let status = match &outcome {
                Ok(status) => (*status).to_owned(),
                Err(problem) => problem.to_string(),
            };
            follower.notifier.notify(Notice::Status(&status));
            follower.notifier.flush().await;
            if let Err(problem) = &outcome {
                complain(&format!("{}: {problem}", follower.name));
                return Ok(ExitCode::FAILURE);
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The socket on which systemd receives the state of the unit.
#[expect(clippy::disallowed_methods, reason = "no thread was started")]
fn notify_socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

impl Follower {
    /// Follows the plugin to its end, over restarts of the daemon.
    async fn run(&mut self, terminate: &mut Signal) -> Result<&'static str, Problem> {
        if let Some(manager) = self.manager
            && !daemon_returns(manager).await?
        {
            return Err(Problem::failed(FollowError::NoDaemon(manager)));
        }
        loop {
            let outcome = tokio::select! {
                biased;
                _ = terminate.recv() => return self.stop().await,
                outcome = self.follow() => outcome?,
            };
            match outcome {
                FollowOutcome::Completed => return Ok("the background program has ended"),
                FollowOutcome::Ended(why) if self.is_job => {
                    return Err(Problem::failed(FollowError::Interrupted(why)));
                }
                // Its progress is unknown, so only its owner can decide to run it again.
                FollowOutcome::DaemonLeft if self.is_job => {
                    return Err(Problem::failed(FollowError::Interrupted("plugind has ended")));
                }
                FollowOutcome::Ended(status) => return Ok(status),
                FollowOutcome::DaemonLeft => {
                    self.notifier.notify(Notice::Status("plugind has ended"))
                }
            }
            let Some(manager) = self.manager else { return Ok("plugind has ended") };
            let is_back = tokio::select! {
                biased;
                _ = terminate.recv() => return Ok("stopped with plugind"),
                is_back = daemon_returns_later(manager) => is_back?,
            };
            if !is_back {
                return Ok("plugind was stopped");
            }
        }
    }

    /// Follows the plugin until it, or the daemon, has ended.
    async fn follow(&mut self) -> Result<FollowOutcome, Problem> {
        match self.follow_once().await {
            Err(Problem::Client(
                ClientError::Ended | ClientError::Refused(CallRefused::Stopping),
            )) => Ok(FollowOutcome::DaemonLeft),
            outcome => outcome,
        }
    }

    async fn follow_once(&mut self) -> Result<FollowOutcome, Problem> {
        let parameters = || api::Name { name: self.name.to_string() };
        // On each connection, because a daemon that has returned does not start every plugin by itself.
        let mut client = Client::connect(&self.place)?;
        let started: Result<api::ServingVersion, _> =
            client.call(CallMethod::Start(parameters())).await;
        match started {
            Err(ClientError::Refused(CallRefused::StartFailed { failure })) => {
                return Err(Problem::failed(FollowError::Failed(*failure)));
            }
            Err(ClientError::Refused(CallRefused::NoSuchPlugin { .. })) if self.was_started => {
                return Ok(FollowOutcome::Ended("the plugin was removed"));
            }
            started => _ = started?,
        }
        self.was_started = true;
        let mut client = Client::connect(&self.place)?;
        client.begin(CallMethod::Follow(parameters())).await?;
        loop {
            let (api::Followed { plugin }, _) = client.next().await?;
            let Some(plugin) = plugin else {
                return Ok(FollowOutcome::Ended("the plugin was removed"));
            };
            let status = status(&plugin);
            if is_ready(&plugin) && !self.is_ready {
                self.is_ready = true;
                self.notifier.notify(Notice::Ready { status: &status });
                self.notifier.flush().await;
            }
            match (&*plugin.active_state, &*plugin.sub_state) {
                ("failed", _) => {
                    let failure = plugin.failure.map(FollowError::Failed);
                    return Err(Problem::failed(
                        failure.unwrap_or(FollowError::FailedWithoutReason),
                    ));
                }
                (_, "stopped") => return Ok(FollowOutcome::Ended("the plugin was stopped")),
                (_, "exited") => return Ok(FollowOutcome::Completed),
                _ => self.notifier.notify(Notice::Status(&status)),
            }
        }
    }

    /// systemd stops the unit: so the plugin is stopped, unless the whole daemon is stopped or restarted, which it
    /// survives with the state that it keeps.
    async fn stop(&mut self) -> Result<&'static str, Problem> {
        self.notifier.notify(Notice::Stopping { status: "stopping the plugin" });
        if let Some(manager) = self.manager
            && (is_to_stop(manager)? || !daemon_returns(manager).await?)
        {
            return Ok("stopped with plugind");
        }
        let mut client = Client::connect(&self.place)?;
        let parameters = api::Name { name: self.name.to_string() };
        let stopped: Result<api::EmptyReply, _> = client.call(CallMethod::Stop(parameters)).await;
        match stopped {
            // It is not there any more.
            Err(ClientError::Refused(CallRefused::NoSuchPlugin { .. })) => (),
            stopped => _ = stopped?,
        }
        Ok("the plugin was stopped")
    }
}

/// One line about a plugin, as `systemctl status` shows it.
fn status(plugin: &api::Plugin) -> String {
    let generation = plugin.generation.map(|generation| format!(", generation {generation}"));
    let reason = plugin.failure.as_ref().map(|failure| failure.error.clone());
    let text = plugin.degraded.clone().or(reason).or_else(|| plugin.status.clone());
    let text = text.filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    format!("{}{}{}", plugin.sub_state, generation.unwrap_or_default(), text.unwrap_or_default())
}

/// The same, when a connection to the daemon has just ended: a process that ends closes its connections a moment before it
/// has ended and systemd knows that. A connection in that moment would stay in the socket, and start the daemon again and
/// again if it fails.
async fn daemon_returns_later(manager: Manager) -> Result<bool, Problem> {
    sleep(ASK_EVERY).await;
    daemon_returns(manager).await
}

/// Waits until the daemon is back, as long as systemd starts or ends it; false if it was stopped.
async fn daemon_returns(manager: Manager) -> Result<bool, Problem> {
    loop {
        let daemon = daemon_state::daemon(manager).map_err(systemd_failed)?;
        match &*daemon.active {
            // systemd does not know yet.
            "active" | "reloading" if daemon.has_ended() => sleep(ASK_EVERY).await,
            "active" | "reloading" => return Ok(true),
            // Between the stop and the start of a restart.
            "inactive" if daemon.has_job => sleep(ASK_EVERY).await,
            "inactive" => return Ok(false),
            "failed" => return Err(Problem::failed(FollowError::DaemonFailed(manager))),
            // While it starts, it does not know all plugins yet; and if it failed with a connection in its socket, systemd
            // would start it again at once.
            _ => sleep(ASK_EVERY).await,
        }
    }
}

/// Whether systemd is to stop or restart the daemon.
fn is_to_stop(manager: Manager) -> Result<bool, Problem> {
    let job = daemon_state::job(manager).map_err(systemd_failed)?;
    Ok(job.is_some_and(|kind| ["stop", "restart"].contains(&&*kind)))
}

fn systemd_failed(why: String) -> Problem {
    Problem::failed(FollowError::Systemd(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, greeter};

    #[test]
    fn the_status_has_the_reason_of_a_failure() {
        let running = api::Plugin { sub_state: "running".to_owned(), ..greeter() };
        assert_eq!(status(&running), "running, generation 3: greets people");
        let failed = api::Plugin { sub_state: "failed".to_owned(), ..failed() };
        assert!(status(&failed).starts_with("failed: "), "{}", status(&failed));
    }
}
