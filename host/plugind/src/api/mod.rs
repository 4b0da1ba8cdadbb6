//! The messages of the control socket, as types: those of `io.plugind.varlink` and `io.systemd.service.varlink`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The socket's place below the root: `/run/plugind/control`.
pub const SOCKET: &str = "run/plugind/control";

/// The stage at which a plugin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the steps by their names")]
pub enum FailedStage {
    Scan,
    Verify,
    Route,
    Compile,
    Link,
    Start,
    Handover,
    Run,
}

impl fmt::Display for FailedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scan => "scan",
            Self::Verify => "verify",
            Self::Route => "route",
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Start => "start",
            Self::Handover => "handover",
            Self::Run => "run",
        })
    }
}

/// Why the newest version of a plugin does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFailure {
    /// The plugin's name.
    pub plugin: String,
    /// The stage: `scan`, `verify`, `route`, `compile`, `link`, `start`, `handover` or `run`.
    pub stage: String,
    /// The failure, with file and cause.
    pub error: String,
    /// The remedy.
    pub remedy: String,
    /// Trying again helps only after something was changed.
    pub configuration: bool,
    /// Since when the previous version has served in its place, in µs since 1970, if it does.
    #[serde(default, rename = "previousSince")]
    pub previous_since: Option<u64>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// One of systemd's six words: `inactive`, `activating`, `active`, `reloading`, `deactivating`, `failed`.
    pub active_state: String,
    /// A more exact word: `running`, `degraded`, `queued`, `compiling`, `starting`, `ready`, `handing-over`, `exited`,
    /// `on demand`, `auto-restart`, `recovering`, `failed`, `stopping` or `stopped`.
    #[serde(default)]
    pub sub_state: String,
    /// `success`, or why it failed.
    pub result: String,
    /// The daemon is not ready without it.
    pub required: bool,
    /// Status that the plugin reports: one line.
    pub status: Option<String>,
    /// Why it is degraded, if it serves and is.
    #[serde(default)]
    pub degraded: Option<String>,
    /// The number of the version that serves.
    pub generation: Option<u64>,
    /// When that version became ready, in µs since 1970.
    pub since: Option<u64>,
    /// Number of instances that take work.
    pub workers: u64,
    /// Number of its instances that failed since it became ready.
    pub failures: u64,
    /// Where it is found: `HOST/PREFIX` or `/PREFIX`, after `SOCKET:` if it is found on sockets of that name only; or
    /// `SOCKET:` alone if it serves all of these sockets as a whole.
    pub routes: Vec<String>,
    /// Why the newest version does not serve.
    pub failure: Option<PluginFailure>,
    /// When the next instance is started after a failure, in µs since 1970.
    #[serde(default)]
    pub next_attempt: Option<u64>,
    /// Figures of its requests, if it serves any.
    #[serde(default)]
    pub requests: Option<PluginRequests>,
    /// Since when `sub_state` is what it is, in µs since 1970.
    #[serde(default)]
    pub sub_state_since: Option<u64>,
    /// The time limit for starting an instance, in ms.
    #[serde(default)]
    pub start_timeout: Option<u64>,
    /// Its resource usage and load, if it has instances.
    #[serde(default)]
    pub usage: Option<PluginUsage>,
    /// The version that its author gave to the component that serves.
    #[serde(default)]
    pub version: Option<String>,
    /// The SHA-256 digest of the component that serves, in hexadecimal digits.
    #[serde(default)]
    pub component_digest: Option<String>,
    /// The SHA-256 digest of its manifest and drop-ins, in hexadecimal digits.
    #[serde(default)]
    pub configuration_digest: Option<String>,
    /// Whether an operator pinned it to the version that serves.
    #[serde(default)]
    pub pinned: bool,
}

/// The resource usage and the load of a plugin. Counts are those of about the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginUsage {
    /// The number of its instances, including those of versions that finish their work.
    pub instances: u64,
    /// The number of their requests, connections, WebSockets, datagrams and messages in progress.
    pub in_flight: u64,
    /// The memory that they use, in bytes.
    pub memory: u64,
    /// The most memory that they have used, in bytes.
    pub memory_peak: u64,
    /// The most memory that they may use, in bytes.
    pub memory_max: u64,
    /// The length of the counted period, in ms.
    pub period: u64,
    /// The time for which instances ran in that period, in ms. With several instances, it may exceed the period.
    pub busy: u64,
    /// The number of responses.
    pub responses: u64,
    /// The time in which half of them began, in µs.
    pub p50: Option<u64>,
    /// The time in which 99 % of them began, in µs.
    pub p99: Option<u64>,
}

/// Figures of a plugin's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginRequests {
    /// Number of requests that wait for an instance.
    pub queued: u64,
    /// Time that the oldest of them has waited, in ms.
    pub waited: u64,
    /// Number of requests in the last minute for which no instance had room: 503.
    pub busy: u64,
    /// Number of requests in the last minute without a response in time: 504.
    pub timed_out: u64,
    /// Number of requests that the plugin failed in the last minute: 502, or a response whose body ended too early.
    pub failed: u64,
    /// Number of requests that this version of the plugin has failed.
    #[serde(default)]
    pub failures: u64,
}

/// The reply to `io.plugind.List`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// All plugins, in the order of their names.
    pub plugins: Vec<Plugin>,
    /// Files in the plugin directories that are ignored although they look like parts of plugins, each with the reason.
    #[serde(default)]
    pub ignored: Vec<String>,
}

/// The parameters of the methods about one plugin, such as `io.plugind.Describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The plugin's name.
    pub name: String,
}

/// The reply to `io.plugind.Describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The plugin.
    pub plugin: Plugin,
    /// The file that the version that serves was read from.
    pub component: Option<String>,
    /// That file's SHA-256 digest, in hexadecimal digits.
    pub digest: Option<String>,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The sizes of what is kept for it.
    #[serde(default)]
    pub kept: PluginKept,
}

/// The sizes of what is kept for a plugin, in bytes. One that does not exist or is not known is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginKept {
    /// The files of its state directory.
    pub state: Option<u64>,
    /// Its own key-value store, if it is a file.
    pub key_value: Option<u64>,
    /// The compiled code of the version that serves.
    pub cache: Option<u64>,
    /// The state that it saved for a handover.
    pub saved: Option<u64>,
}

/// The parameters of `io.plugind.Clean`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRequest {
    /// The plugin's name.
    pub name: String,
    /// The parts to remove: `state` or `saved`.
    pub what: Vec<String>,
}

/// The reply to `io.plugind.Clean`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleaned {
    /// The kind of the server that has the key-value stores, if the state was to be removed: keys there stay.
    pub key_value_server: Option<String>,
}

/// A reply to `io.plugind.Status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// `activating`, `active`, `reloading` or `deactivating`.
    pub active_state: String,
    /// The status that systemd receives: one line.
    pub status: String,
    /// Number of plugins.
    pub plugins: u64,
    /// Number of plugins that serve or are started by their next request, and of programs that have returned ok.
    pub ready: u64,
    /// Required plugins that are not ready yet.
    pub awaited: Vec<String>,
    /// Plugins whose newest version failed.
    pub failed: Vec<PluginFailure>,
    /// Plugins whose start failed and is tried again, and plugins whose last instance is being replaced.
    #[serde(default)]
    pub retried: Vec<PluginFailure>,
    /// Why the last reload could not read the directories or the settings, if it could not.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// Files in the plugin directories that are ignored although they look like parts of plugins, each with the reason.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// The limits of the daemon that were reached in the last minute.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Problems of the directories for state and compiled files, and why compiled code is not kept.
    #[serde(default)]
    pub storage: Vec<String>,
    /// Sockets that `plugind.toml` names and that do not exist, and `http` if plugins have routes and no socket speaks it.
    #[serde(default)]
    pub missing_sockets: Vec<String>,
}

/// The parameters of `io.plugind.Reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReloadTerms {
    /// Change nothing unless everything can be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_or_nothing: Option<bool>,
    /// The reload ends only when replaced generations have finished their requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_drained: Option<bool>,
}

/// A plugin whose new version does not serve yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The plugin's name.
    pub plugin: String,
    /// Its progress: `queued`, `compiling`, `starting`, `ready` or `handing-over`.
    pub step: String,
}

/// A reply to `io.plugind.Reload`: how far it is. Nothing is awaited any more in the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// The directories were read and validated.
    pub scanned: bool,
    /// Why they or the settings could not be read; then nothing further changes.
    pub unreadable: Option<String>,
    /// Files in them that are ignored although they look like parts of plugins, each with the reason.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// Plugins whose new version does not serve yet.
    pub awaited: Vec<Awaited>,
    /// Plugins that are new or have a new version, and serve.
    pub changed: Vec<String>,
    /// Plugins that were removed.
    pub removed: Vec<String>,
    /// Number of plugins that did not change.
    pub unchanged: u64,
    /// Plugins of which the new version does not serve.
    pub failed: Vec<PluginFailure>,
    /// Plugins whose previous version finishes its requests.
    pub draining: Vec<String>,
    /// Plugins whose files are not used, because an operator pinned them to another version.
    #[serde(default)]
    pub pinned: Vec<String>,
    /// All or nothing was asked for, and so nothing was changed.
    pub taken_back: bool,
}

/// A reply to `io.plugind.Follow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The plugin, if it is there.
    pub plugin: Option<Plugin>,
}

/// The reply to `io.plugind.Stop`, `io.plugind.Pin`, `io.plugind.Unpin` and `io.plugind.Undrain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyReply {}

/// The parameters of `io.plugind.MoveClock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockMove {
    /// The time by which the clocks move forward, in µs.
    pub advance: Option<u64>,
    /// The time of day that is set first, in µs since 1970.
    pub time: Option<u64>,
}

/// The reply to `io.plugind.MoveClock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMoved {}

/// The reply to `io.plugind.Drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Number of connections that are left.
    pub connections: u64,
}

/// The parameters of `io.plugind.DrainFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainFailed {
    /// The reason.
    pub reason: String,
}

/// The parameters of `io.plugind.PinFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinFailed {
    /// The plugin's name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// The parameters of `io.plugind.CleanFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanFailed {
    /// The plugin's name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// The reply to `io.plugind.Restart`, `io.plugind.Start`, `io.plugind.ReloadPlugin` and `io.plugind.Rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingVersion {
    /// The number of the version that serves now.
    pub generation: u64,
}

/// The parameters of `io.plugind.Profile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// The plugin's name.
    pub name: String,
    /// The time to record, in seconds.
    pub seconds: u64,
}

/// The longest profile, in seconds.
pub const PROFILE_SECONDS_MAX: u64 = 300;

/// The reply to `io.plugind.Profile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// JSON in the format of the Firefox Profiler.
    pub profile: String,
    /// The number of its samples.
    pub samples: u64,
}

/// The parameters of `io.plugind.ProfileFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileFailed {
    /// The reason.
    pub reason: String,
}

/// The parameters of `io.systemd.service.SetLogLevel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// A priority of syslog(3): 2 is critical, 7 is debug.
    pub level: i64,
}

/// The parameters of `io.plugind.RestartFailed`, `io.plugind.StartFailed`, `io.plugind.PluginNotReloaded` and
/// `io.plugind.RollbackFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotServing {
    /// The reason.
    pub failure: PluginFailure,
}

/// The parameters of `io.plugind.ReloadFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadFailed {
    /// Why the directories or the settings could not be read.
    pub unreadable: Option<String>,
    /// Plugins of which the new version does not serve.
    pub failed: Vec<PluginFailure>,
}
