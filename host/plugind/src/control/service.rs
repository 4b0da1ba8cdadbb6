//! The meaning of the calls: each is answered by the supervisor, the journal or the summary of all plugins.

use crate::control::{
    clock,
    interfaces::{VarlinkError, description, info, is_known},
    measuring::StateMeasurements,
    metrics, profile,
    wire::ReplyWriter,
};
use crate::{
    api,
    base::{name::PluginName, priority::Priority},
    journal::Journal,
    listen::{draining::Draining, places::LimitsReached},
    metrics::snapshot::MetricSources,
    supervisor::{
        handle::SupervisorHandle,
        phase::DaemonPhase,
        problem::Stopping,
        summary::{Summary, UNKEPT_CODE},
    },
    systemd::storage::StorageDirectories,
    world::movable_clock::MovableClock,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::{sync::watch, time::timeout};
use zlink::{Call, Reply};

/// The methods that change something, or cost much processor time.
const CHANGES: [&str; 15] = [
    "io.plugind.Clean",
    "io.plugind.Drain",
    "io.plugind.MoveClock",
    "io.plugind.Pin",
    "io.plugind.Profile",
    "io.plugind.ReloadPlugin",
    "io.plugind.Reload",
    "io.plugind.Restart",
    "io.plugind.Rollback",
    "io.plugind.Start",
    "io.plugind.Stop",
    "io.plugind.Undrain",
    "io.plugind.Unpin",
    "io.systemd.service.Reload",
    "io.systemd.service.SetLogLevel",
];

/// The method that reports each change of one plugin, until the client disconnects.
const FOLLOW: &str = "io.plugind.Follow";

/// The time limit for examining a file system.
const STORAGE_DEADLINE: Duration = Duration::from_secs(1);

/// The parts of the daemon that calls query and control.
#[derive(Clone)]
pub struct ControlContext {
    /// The supervisor of the plugins.
    pub supervisor: SupervisorHandle,
    /// The writer of the log.
    pub journal: Journal,
    /// The phase of the daemon.
    pub phase: watch::Receiver<DaemonPhase>,
    /// Takes the daemon out of service, and back.
    pub draining: Draining,
    /// The limits of connections that were reached lately.
    pub limits: LimitsReached,
    /// Where figures come from.
    pub metrics: MetricSources,
    /// Where things are kept.
    pub storage: StorageDirectories,
    /// The kind of the server that has the key-value stores, if they are on one.
    pub key_value_server: Option<&'static str>,
    /// The sizes that are being determined.
    pub measurements: StateMeasurements,
    /// The clocks of the plugins, if these can be moved.
    pub clock: Option<MovableClock>,
}

/// A call as it comes, of whatever method.
#[derive(Debug, Deserialize)]
pub(super) struct Method {
    method: String,
    #[serde(default)]
    parameters: Option<Value>,
}

/// The result of a call.
pub(super) type CallOutcome = Result<Value, VarlinkError>;

/// Where the replies to one call go.
pub(super) struct Replies<'a> {
    writer: &'a mut ReplyWriter,
    /// Nobody listens.
    pub(super) oneway: bool,
    /// There may be several.
    pub(super) more: bool,
}

impl Replies<'_> {
    /// Sends one that is followed by others, if the client wants to hear them.
    pub(super) async fn send(&mut self, parameters: impl Serialize) -> zlink::Result<()> {
        if self.oneway || !self.more {
            return Ok(());
        }
        self.writer.send(&Reply::new(Some(parameters)).set_continues(Some(true))).await
    }

    async fn finish(self, outcome: CallOutcome) -> zlink::Result<()> {
        match outcome {
            _ if self.oneway => Ok(()),
            Ok(reply) => self.writer.send(&Reply::new(Some(reply))).await,
            Err(complaint) => self.writer.send(&complaint).await,
        }
    }
}

/// Sends each of these in a reply of its own; returns the last one.
async fn each(
    replies: &mut Replies<'_>,
    all: impl FnOnce() -> Vec<Value>,
) -> zlink::Result<CallOutcome> {
    if !replies.more {
        return Ok(Err(VarlinkError::expected_more()));
    }
    let mut all = all();
    let last = all.pop();
    for one in all {
        replies.send(one).await?;
    }
    Ok(Ok(last.unwrap_or_default()))
}

pub(super) fn reported(parameters: impl Serialize) -> Value {
    // Only maps with keys that are not strings cannot be serialized.
    serde_json::to_value(parameters).unwrap_or_default()
}

impl Method {
    pub(super) fn parameters<T: DeserializeOwned>(&self) -> Result<T, VarlinkError> {
        let given = match &self.parameters {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(given)) => given.clone(),
            Some(_) => return Err(VarlinkError::bad_parameter("parameters")),
        };
        serde_json::from_value(Value::Object(given.clone())).map_err(|error| {
            let error = error.to_string();
            // The error names a missing or unknown field, in quotes; it does not name a field with a wrong value.
            let is_named =
                ["missing field", "unknown field"].iter().any(|it| error.starts_with(it));
            let named = error.split('`').nth(1).filter(|_| is_named);
            let is_wrong = |(name, value): &(&String, &Value)| {
                let alone = Map::from_iter([((*name).clone(), (*value).clone())]);
                serde_json::from_value::<T>(Value::Object(alone)).is_err()
            };
            let wrong = || given.iter().find(is_wrong).map(|(name, _)| name.as_str());
            VarlinkError::bad_parameter(named.or_else(wrong).unwrap_or_default())
        })
    }

    /// Whether the client may stay without a time limit.
    pub(super) fn is_follow(&self) -> bool {
        self.method == FOLLOW
    }

    pub(super) fn name(&self) -> Result<PluginName, VarlinkError> {
        let api::Name { name } = self.parameters()?;
        name.parse().map_err(|_| VarlinkError::bad_parameter("name"))
    }
}

impl ControlContext {
    /// Answers one call of a client that may change things or only look.
    pub(super) async fn answer(
        &self,
        call: &Call<Method>,
        may_change: bool,
        writer: &mut ReplyWriter,
    ) -> zlink::Result<()> {
        let mut replies = Replies { writer, oneway: call.oneway(), more: call.more() };
        let method = call.method();
        let outcome = match method.method.as_str() {
            change if CHANGES.contains(&change) && !may_change => Err(VarlinkError::denied()),
            "org.varlink.service.GetInfo" => Ok(info()),
            "org.varlink.service.GetInterfaceDescription" => {
                method.parameters().and_then(|Interface { interface }| {
                    description(&interface).ok_or_else(|| VarlinkError::no_interface(&interface))
                })
            }
            "io.systemd.service.Ping" => Ok(json!({})),
            "io.systemd.service.SetLogLevel" => self.set_log_level(method),
            "io.systemd.service.Reload" => self
                .reload(&mut replies, false, api::ReloadTerms::default())
                .await?
                .and_then(|reload| match (&reload.unreadable, reload.failed.as_slice()) {
                    (None, []) => Ok(json!({})),
                    _ => Err(reload_failed(reload)),
                }),
            "io.systemd.Metrics.List" => {
                each(&mut replies, || metrics::list(&self.metrics.take())).await?
            }
            "io.systemd.Metrics.Describe" => each(&mut replies, metrics::describe).await?,
            "io.plugind.List" => match self.supervisor.list().await {
                Ok(plugins) => {
                    let ignored = self.supervisor.summary().borrow().ignored.clone();
                    Ok(reported(api::List { plugins, ignored }))
                }
                Err(Stopping) => Err(stopping()),
            },
            "io.plugind.Describe" => self.describe(method).await,
            "io.plugind.Status" => Ok(reported(self.status(&mut replies).await?)),
            "io.plugind.Reload" => match method.parameters() {
                Ok(terms) => self.reload(&mut replies, true, terms).await?.map(reported),
                Err(complaint) => Err(complaint),
            },
            "io.plugind.Restart" => self.restart(method).await,
            "io.plugind.ReloadPlugin" => self.reload_plugin(method).await,
            "io.plugind.Rollback" => self.rollback(method).await,
            "io.plugind.Drain" => self.drain().await,
            "io.plugind.Undrain" => self.undrain(),
            "io.plugind.MoveClock" => match method.parameters() {
                Ok(asked) => clock::move_clock(self.clock.as_ref(), asked).map(reported),
                Err(complaint) => Err(complaint),
            },
            "io.plugind.Pin" => self.pin(method).await,
            "io.plugind.Unpin" => self.unpin(method).await,
            "io.plugind.Clean" => self.clean(method).await,
            "io.plugind.Start" => self.start(method).await,
            "io.plugind.Stop" => self.stop(method).await,
            FOLLOW => self.follow(method, &mut replies).await?,
            "io.plugind.Profile" => match method.parameters() {
                Ok(asked) => profile::record(self.supervisor.board(), asked).await.map(reported),
                Err(complaint) => Err(complaint),
            },
            unknown => Err(match unknown.rsplit_once('.') {
                Some((interface, _)) if is_known(interface) => VarlinkError::no_method(unknown),
                Some((interface, _)) => VarlinkError::no_interface(interface),
                None => VarlinkError::no_method(unknown),
            }),
        };
        replies.finish(outcome).await
    }

    fn set_log_level(&self, method: &Method) -> CallOutcome {
        let api::LogLevel { level } = method.parameters()?;
        let priority = match level {
            // Levels above critical belong to the system: no message of this daemon has them.
            0..2 => Some(Priority::Critical),
            level => Priority::from_number(level),
        };
        self.journal.keep(priority.ok_or_else(|| VarlinkError::bad_parameter("level"))?);
        Ok(json!({}))
    }

    async fn describe(&self, method: &Method) -> CallOutcome {
        let name = method.name()?;
        match self.supervisor.describe(name.clone()).await {
            Ok(Some(description)) => Ok(reported(self.with_sizes(name, description).await)),
            Ok(None) => Err(no_such_plugin(&name)),
            Err(Stopping) => Err(stopping()),
        }
    }

    /// Requests a reload, and reports its progress if the client asks for it.
    async fn reload(
        &self,
        replies: &mut Replies<'_>,
        stream: bool,
        terms: api::ReloadTerms,
    ) -> zlink::Result<Result<api::Reload, VarlinkError>> {
        let all_or_nothing = terms.all_or_nothing.unwrap_or_default();
        let until_drained = terms.until_drained.unwrap_or_default();
        let Ok(mut reload) = self.supervisor.reload(all_or_nothing).await else {
            return Ok(Err(stopping()));
        };
        loop {
            let (so_far, ended) = {
                let now = reload.borrow_and_update();
                (api::Reload::from(&*now), now.has_ended() && (now.is_drained() || !until_drained))
            };
            if ended {
                return Ok(Ok(so_far));
            }
            if stream {
                replies.send(so_far).await?;
            }
            if reload.changed().await.is_err() {
                return Ok(Err(stopping()));
            }
        }
    }

    /// Returns the problems of the directories. A network file system may take long to answer.
    async fn storage(&self) -> Vec<String> {
        let storage = self.storage.clone();
        let asked = tokio::task::spawn_blocking(move || storage.problems());
        let answered = timeout(STORAGE_DEADLINE, asked).await;
        answered.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the status of the daemon; if the client wants more, sends each new one until the daemon ends.
    async fn status(&self, replies: &mut Replies<'_>) -> zlink::Result<api::Status> {
        let (mut phase, mut summary) = (self.phase.clone(), self.supervisor.summary());
        loop {
            let limits = self.limits.words();
            let mut status =
                status(*phase.borrow_and_update(), &summary.borrow_and_update(), limits);
            status.storage.extend(self.storage().await);
            if !replies.more || replies.oneway {
                return Ok(status);
            }
            replies.send(&status).await?;
            let changed = tokio::select! {
                changed = phase.changed() => changed,
                changed = summary.changed() => changed,
            };
            if changed.is_err() {
                return Ok(status);
            }
        }
    }
}

/// The parameters of `org.varlink.service.GetInterfaceDescription`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    interface: String,
}

fn status(phase: DaemonPhase, summary: &Summary, limits: Vec<String>) -> api::Status {
    api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        active_state: phase.active_state(summary).to_owned(),
        status: phase.line(summary),
        plugins: summary.plugins as u64,
        ready: summary.ready as u64,
        awaited: summary.awaited.iter().map(ToString::to_string).collect(),
        failed: summary.failed.iter().map(Into::into).collect(),
        retried: summary.retried.iter().map(Into::into).collect(),
        unreadable: summary.unreadable.clone(),
        ignored: summary.ignored.clone(),
        limits,
        storage: summary.unkept_code.iter().map(|why| format!("{UNKEPT_CODE}: {why}")).collect(),
        missing_sockets: summary.missing_sockets.clone(),
    }
}

pub(super) fn stopping() -> VarlinkError {
    VarlinkError::own("io.plugind.Stopping", json!({}))
}

pub(super) fn no_such_plugin(name: &PluginName) -> VarlinkError {
    VarlinkError::own("io.plugind.NoSuchPlugin", api::Name { name: name.to_string() })
}

fn reload_failed(reload: api::Reload) -> VarlinkError {
    let api::Reload { unreadable, failed, .. } = reload;
    VarlinkError::own("io.plugind.ReloadFailed", api::ReloadFailed { unreadable, failed })
}
