//! The daemon's control socket as a client sees it: calls, their replies, and why there may be none.

use crate::{daemon_state::Manager, search_path::SearchPathArgs};
use plugind::{
    api,
    cli::existing_directory,
    config::SearchPath,
    systemd::directories::{Environment, NoUserDirectories},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::{self, Debug},
    fs,
    io::{self, ErrorKind},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf, absolute},
};
use zlink::{
    Call, ReplyError,
    tokio::unix::{Connection, Stream},
    varlink_service,
};

/// Where an administrator's plugins are, below the root.
const PLUGINS: &str = "etc/plugind/plugins";
/// Where the daemon keeps its state, below the root.
const STATE: &str = "var/lib/plugind";
/// Where compiled files are, below the root.
const CACHE: &str = "var/cache/plugind";

/// Where the daemon is found.
#[derive(Clone, clap::Args)]
pub(crate) struct ControlAddress {
    /// Use this directory as the root of the default paths, such as /run/plugind/control and /etc/plugind (default: /)
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    root: Option<PathBuf>,
    /// Use this control socket (default: /run/plugind/control)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Use the daemon and the directories of this user (default for users whose daemon has a control socket)
    #[arg(long, conflicts_with_all = ["root", "socket"])]
    user: bool,
}

impl ControlAddress {
    /// This socket.
    pub(crate) fn of(socket: PathBuf) -> Self {
        Self { root: None, socket: Some(socket), user: false }
    }

    /// The root below which the daemon has its files.
    pub(crate) fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }

    /// Whether it is the daemon of the machine, found without options.
    pub(crate) fn is_system(&self) -> bool {
        let is_by_default = self.root.is_none() && self.socket.is_none();
        is_by_default && !self.is_of_user(&Environment::read())
    }

    /// Whether it is the daemon of this user.
    pub(crate) fn is_of_this_user(&self) -> bool {
        self.is_of_user(&Environment::read())
    }

    /// The instance of systemd that starts the daemon, if there is one and no option names a socket or a root.
    pub(crate) fn manager(&self) -> Option<Manager> {
        if self.root.is_some() || self.socket.is_some() {
            return None;
        }
        let environment = Environment::read();
        let is_of_user = self.is_of_user(&environment);
        let manager = if is_of_user { Manager::User } else { Manager::System };
        manager.is_there(environment.xdg_runtime_directory.as_deref()).then_some(manager)
    }

    /// The remedy for a control socket that is not there.
    fn remedy(&self, socket: &Path) -> String {
        if let Some(manager) = self.manager() {
            return format!("see `{manager} status plugind-control.socket`");
        }
        let option = match &self.root {
            Some(root) => format!(" --root {}", root.display()),
            None if self.is_of_user(&Environment::read()) => " --user".to_owned(),
            None => String::new(),
        };
        // The daemon takes no relative path.
        let socket = absolute(socket).unwrap_or_else(|_| socket.to_owned());
        format!("start one with `plugind{option} --listen control={}`", socket.display())
    }

    /// Where the plugins of the administrator, or of the user, are.
    pub(crate) fn plugins(&self) -> Result<PathBuf, NoUserPlace> {
        let environment = Environment::read();
        if !self.is_of_user(&environment) {
            return Ok(self.root().join(PLUGINS));
        }
        let config = environment.of_user()?.user_config().ok_or(NoUserDirectories)?;
        Ok(config.join("plugind/plugins"))
    }

    /// Where the daemon keeps its state.
    pub(crate) fn state(&self) -> Result<PathBuf, NoUserPlace> {
        let environment = Environment::read();
        match self.is_of_user(&environment) {
            true => Ok(environment.of_user()?.state(None)),
            false => Ok(self.root().join(STATE)),
        }
    }

    /// Where a daemon that does not run keeps its state. `None` if only its socket is known.
    pub(crate) fn state_without_daemon(&self) -> Result<Option<PathBuf>, NoUserPlace> {
        if self.socket.is_some() && self.root.is_none() {
            return Ok(None);
        }
        self.state().map(Some)
    }

    /// Where compiled files are. `None` if only the socket of the daemon is known.
    pub(crate) fn cache(&self) -> Result<Option<PathBuf>, NoUserPlace> {
        let environment = Environment::read();
        match self.is_of_user(&environment) {
            _ if self.socket.is_some() && self.root.is_none() => Ok(None),
            true => Ok(Some(environment.of_user()?.cache(None))),
            false => Ok(Some(self.root().join(CACHE))),
        }
    }

    /// Where the daemon finds its plugins.
    pub(crate) fn search_path(&self) -> Result<SearchPath, NoUserPlace> {
        let environment = Environment::read();
        if !self.is_of_user(&environment) {
            return Ok(SearchPath::below(self.root()));
        }
        let environment = environment.of_user()?;
        let runtime = environment.xdg_runtime_directory.as_deref();
        Ok(SearchPath::of_user(runtime, environment.user_config().as_deref()))
    }

    /// The options that select the configuration of the daemon.
    pub(crate) fn search_path_args(&self) -> SearchPathArgs {
        SearchPathArgs::of(self.root.clone(), self.is_of_user(&Environment::read()))
    }

    fn socket(&self) -> Result<PathBuf, NoUserPlace> {
        let environment = Environment::read();
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None if self.is_of_user(&environment) => {
                socket_of_user(&environment).ok_or(NoUserPlace::NoRuntimeDirectory)
            }
            None => Ok(self.root().join(api::SOCKET)),
        }
    }

    /// Whether the daemon of this user is selected: by an option, or by default, if the user is not root and the daemon
    /// has a control socket.
    fn is_of_user(&self, environment: &Environment) -> bool {
        let is_default = self.root.is_none() && self.socket.is_none() && !environment.is_root;
        let is_there = || socket_of_user(environment).is_some_and(|socket| socket.exists());
        self.user || (is_default && is_there())
    }
}

/// Whether there is a socket at this path, even if nothing listens on it.
fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// The control socket of the daemon of this user.
fn socket_of_user(environment: &Environment) -> Option<PathBuf> {
    Some(environment.xdg_runtime_directory.as_ref()?.join("plugind/control"))
}

/// The files of the daemon of this user cannot be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUserPlace {
    #[error("--user needs XDG_RUNTIME_DIR; run it in a session of the user")]
    NoRuntimeDirectory,
    #[error(transparent)]
    NoDirectories(#[from] NoUserDirectories),
}

/// The calls that the daemon offers.
#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
pub(crate) enum CallMethod {
    #[serde(rename = "io.plugind.List")]
    List,
    #[serde(rename = "io.plugind.Describe")]
    Describe(api::Name),
    #[serde(rename = "io.plugind.Status")]
    Status,
    #[serde(rename = "io.plugind.Reload")]
    Reload(api::ReloadTerms),
    #[serde(rename = "io.plugind.Restart")]
    Restart(api::Name),
    #[serde(rename = "io.plugind.ReloadPlugin")]
    ReloadPlugin(api::Name),
    #[serde(rename = "io.plugind.Rollback")]
    Rollback(api::Name),
    #[serde(rename = "io.plugind.Drain")]
    Drain,
    #[serde(rename = "io.plugind.Undrain")]
    Undrain,
    #[serde(rename = "io.plugind.Pin")]
    Pin(api::Name),
    #[serde(rename = "io.plugind.Unpin")]
    Unpin(api::Name),
    #[serde(rename = "io.plugind.Clean")]
    Clean(api::CleanRequest),
    #[serde(rename = "io.plugind.Start")]
    Start(api::Name),
    #[serde(rename = "io.plugind.Stop")]
    Stop(api::Name),
    #[serde(rename = "io.plugind.Follow")]
    Follow(api::Name),
    #[serde(rename = "io.plugind.Profile")]
    Profile(api::ProfileRequest),
    #[serde(rename = "io.plugind.MoveClock")]
    MoveClock(api::ClockMove),
    #[serde(rename = "io.systemd.service.SetLogLevel")]
    SetLogLevel(api::LogLevel),
}

/// The errors of `io.plugind`.
#[derive(Debug, ReplyError)]
#[zlink(interface = "io.plugind")]
pub(crate) enum CallRefused {
    NoSuchPlugin { name: String },
    RestartFailed { failure: Box<api::PluginFailure> },
    PluginNotReloaded { failure: Box<api::PluginFailure> },
    RollbackFailed { failure: Box<api::PluginFailure> },
    StartFailed { failure: Box<api::PluginFailure> },
    PinFailed { name: String, reason: String },
    CleanFailed { name: String, reason: String },
    DrainFailed { reason: String },
    StartedMeanwhile { name: String },
    ReloadFailed { unreadable: Option<String>, failed: Vec<api::PluginFailure> },
    ProfileFailed { reason: String },
    Stopping,
}

impl fmt::Display for CallRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPlugin { name } => {
                write!(f, "there is no plugin {name}; `pluginctl list` shows the plugins")
            }
            Self::RestartFailed { failure } => not(f, "restarted", failure),
            Self::PluginNotReloaded { failure } => not(f, "reloaded", failure),
            Self::RollbackFailed { failure } => not(f, "rolled back", failure),
            Self::StartFailed { failure } => not(f, "started", failure),
            Self::DrainFailed { reason } => f.write_str(reason),
            Self::PinFailed { name, reason } => {
                write!(f, "{name}: cannot change its pin: {reason}")
            }
            Self::CleanFailed { name, reason } => write!(f, "{name}: not cleaned: {reason}"),
            Self::StartedMeanwhile { name } => {
                write!(f, "{name}: it was started before it had stopped; stop it again")
            }
            Self::ProfileFailed { reason } => write!(f, "cannot record a profile: {reason}"),
            Self::ReloadFailed { .. } => f.write_str("at least one plugin was not reloaded"),
            Self::Stopping => f.write_str("plugind is about to end"),
        }
    }
}

fn not(f: &mut fmt::Formatter<'_>, done: &str, failure: &api::PluginFailure) -> fmt::Result {
    let api::PluginFailure { plugin, stage, error, remedy, .. } = failure;
    write!(f, "{plugin}: not {done}: failed at {stage}: {error}; {remedy}")
}

/// The failure of a call, or the error that is its reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    NoUserPlace(#[from] NoUserPlace),
    #[error("{}: {source}: plugind does not run or has no control socket; {remedy}", path.display())]
    NotRunning { path: PathBuf, source: io::Error, remedy: String },
    #[error("{}: {source}: run pluginctl as root", path.display())]
    NotReachable { path: PathBuf, source: io::Error },
    #[error("{} is not a socket; --socket must name the control socket of plugind", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("plugind ended before it answered")]
    Ended,
    #[error("cannot exchange messages with plugind: {0}")]
    Transport(zlink::Error),
    #[error("only root and the user of the daemon may do this")]
    NotAllowed,
    #[error("{0}")]
    Refused(CallRefused),
    #[error(
        "plugind returned an error that this pluginctl {version} does not know: {name}; both must have the same \
         version: after an upgrade, restart the daemon", version = env!("CARGO_PKG_VERSION")
    )]
    RefusedByName { name: String },
    #[error(
        "this pluginctl {version} and the daemon do not understand each other: {why}; both must have the same \
         version: after an upgrade, restart the daemon", version = env!("CARGO_PKG_VERSION")
    )]
    NotUnderstood { why: String },
}

impl From<zlink::Error> for ClientError {
    fn from(error: zlink::Error) -> Self {
        use varlink_service::Error as Standard;
        let gone = |kind| matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        match error {
            zlink::Error::UnexpectedEof => Self::Ended,
            zlink::Error::Io(error) if gone(error.kind()) => Self::Ended,
            // An error without parameters may come with an empty object of them, which zlink takes for an unknown
            // error.
            zlink::Error::UnknownErrorReply(name) => match name.as_str() {
                "org.varlink.service.PermissionDenied" => Self::NotAllowed,
                "io.plugind.Stopping" => Self::Refused(CallRefused::Stopping),
                _ => Self::RefusedByName { name },
            },
            zlink::Error::Json(error) => Self::NotUnderstood { why: error.to_string() },
            zlink::Error::VarlinkService(error) => match error.into_inner() {
                Standard::PermissionDenied => Self::NotAllowed,
                other => Self::NotUnderstood { why: other.to_string() },
            },
            other => Self::Transport(other),
        }
    }
}

/// A connection to the daemon.
pub(crate) struct Client(Connection);

impl Client {
    /// Connects, within a runtime.
    pub(crate) fn connect(place: &ControlAddress) -> Result<Self, ClientError> {
        let path = place.socket()?;
        // A blocking connect: one that does not block fails while many clients wait for the daemon.
        let stream = UnixStream::connect(&path).map_err(|source| match source.kind() {
            ErrorKind::ConnectionRefused if !is_socket(&path) => {
                ClientError::NotASocket(path.clone())
            }
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                let remedy = place.remedy(&path);
                ClientError::NotRunning { path, source, remedy }
            }
            ErrorKind::PermissionDenied => ClientError::NotReachable { path, source },
            _ => ClientError::Connect { path, source },
        })?;
        Ok(Self(Connection::new(Stream::try_from(stream)?)))
    }

    /// Asks for something that has one reply.
    pub(crate) async fn call<R>(&mut self, method: CallMethod) -> Result<R, ClientError>
    where
        R: DeserializeOwned + Debug,
    {
        self.0.send_call(&Call::new(method), Vec::new()).await?;
        Ok(self.next().await?.0)
    }

    /// Asks for something that has any number of replies, which [`Client::next`] returns.
    pub(crate) async fn begin(&mut self, method: CallMethod) -> Result<(), ClientError> {
        Ok(self.0.send_call(&Call::new(method).set_more(true), Vec::new()).await?)
    }

    /// Waits for the next reply, and says whether more of them follow.
    pub(crate) async fn next<R>(&mut self) -> Result<(R, bool), ClientError>
    where
        R: DeserializeOwned + Debug,
    {
        let (reply, _) = self.0.receive_reply::<R, CallRefused>().await?;
        let reply = reply.map_err(ClientError::Refused)?;
        let more = reply.continues() == Some(true);
        let parameters = reply.into_parameters();
        let missing = || ClientError::NotUnderstood { why: "a reply has no parameters".to_owned() };
        Ok((parameters.ok_or_else(missing)?, more))
    }

    /// Asks for something whose reply has no parameters.
    pub(crate) async fn request(&mut self, method: CallMethod) -> Result<(), ClientError> {
        self.0.send_call(&Call::new(method), Vec::new()).await?;
        let (reply, _) = self.0.receive_reply::<serde::de::IgnoredAny, CallRefused>().await?;
        reply.map(drop).map_err(ClientError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_other_than_root_uses_their_own_daemon_if_it_has_a_socket() {
        let runtime = tempfile::tempdir().unwrap();
        let xdg_runtime_directory = Some(runtime.path().to_owned());
        let user = Environment { xdg_runtime_directory, ..Environment::default() };
        let root = Environment { is_root: true, ..user.clone() };
        let nothing = ControlAddress { root: None, socket: None, user: false };
        assert!(!nothing.is_of_user(&user));
        fs::create_dir(runtime.path().join("plugind")).unwrap();
        fs::write(runtime.path().join("plugind/control"), "").unwrap();
        assert!(nothing.is_of_user(&user) && !nothing.is_of_user(&root));
        let below = ControlAddress { root: Some("/tree".into()), socket: None, user: false };
        let by_option = ControlAddress { root: None, socket: None, user: true };
        for environment in [&user, &root] {
            assert!(!below.is_of_user(environment) && by_option.is_of_user(environment));
            assert!(!ControlAddress::of("/socket".into()).is_of_user(environment));
        }
    }
}
