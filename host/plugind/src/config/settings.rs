//! The contents of `plugind.toml`: settings of the daemon itself. Everything is optional.

mod compile;
mod connections;
mod health;
mod http;
mod messaging;
mod keyvalue;
mod pool;
mod server;
mod sockets;
mod tls;

pub use compile::{COMPILE_MEMORY_MIN, COMPILE_TIMEOUT_MIN, Compile};
pub use connections::ConnectionSetting;
pub use health::HealthSetting;
pub use http::{AccessLog, Http, HttpSetting, ProxyHeader, TrustedProxy};
pub use keyvalue::KeyValueBackend;
pub use pool::PoolSettings;
pub use server::{NatsUrl, ServerSetting, ServerUrl, ServerUrlError, ValkeyUrl};
pub use sockets::{Protocol, SocketSetting, SocketSettings};
pub use tls::{ClientCa, CredentialFile, CredentialFileError, Tls};

use crate::{
    base::{
        endpoint::Endpoint,
        error_chain::ErrorChain,
        file::{self, FileError},
        priority::Priority,
        quantity::{Bytes, Span},
    },
    config::{Diagnostic, Document, ListError, Origin, SearchPath, Table, traces::TraceEndpoint},
};
use plugind_artifact::kind::EngineKind;
use std::time::Duration;

/// The largest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// Default number of new versions that are prepared at the same time.
const RELOAD_CONCURRENCY: usize = 4;

/// A daemon that ends sooner would be started again and again.
const EXIT_ON_IDLE_MIN: Duration = Duration::from_millis(100);

/// In less memory hardly any plugin can be instantiated.
pub const MEMORY_MIN: Bytes = Bytes(16 << 20);

/// The effective settings: values that are missing from the files have their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time that the required plugins may take to become ready.
    pub start_deadline: Duration,
    /// The daemon ends when there has been nothing to do for so long; none: it does not.
    pub exit_on_idle: Option<Duration>,
    /// Number of plugins whose new version may be prepared at the same time.
    pub reload_concurrency: usize,
    /// Whether the start serves the version that served last of a plugin whose newest one fails.
    pub serve_previous: bool,
    /// The least important entries of the log that are kept.
    pub log_level: Priority,
    /// The way compiled code is run.
    pub engine: EngineKind,
    /// `[compile]`
    pub compile: Compile,
    /// `[http]`
    pub http: Http,
    /// The most bytes that all plugins use together; none: three quarters of the memory that the daemon may use.
    pub memory_max: Option<Bytes>,
    /// `[pool]`
    pub pool: PoolSettings,
    /// `[health]`, if it is there.
    pub health: Option<HealthSetting>,
    /// `[messaging]`, if it names a server.
    pub messaging: Option<ServerSetting<NatsUrl>>,
    /// `[traces]`
    pub traces: Traces,
    /// `[keyvalue]`
    pub keyvalue: KeyValueBackend,
    /// `[sockets.NAME]`
    pub sockets: SocketSettings,
}

/// `[traces]`: where the spans of requests are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The collector; none: the one of the environment, if that names one.
    pub endpoint: Option<TraceEndpoint>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A directory could not be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are mistakes in them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Wrong(Vec<Diagnostic>),
}

impl SettingsError {
    /// Each mistake as a line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Wrong(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
            error => vec![ErrorChain(error).to_string()],
        }
    }
}

/// Reads `plugind.toml` and its drop-ins.
///
/// # Errors
/// When a file cannot be read, and every mistake in them.
pub fn read(search_path: &SearchPath) -> Result<Settings, SettingsError> {
    Settings::parse(&document(search_path)?).map_err(SettingsError::Wrong)
}

/// `plugind.toml` and its drop-ins, read and not yet interpreted.
///
/// # Errors
/// If a file cannot be read or is not UTF-8.
pub fn document(search_path: &SearchPath) -> Result<Document, SettingsError> {
    let mut document = Document::default();
    for path in search_path.settings()? {
        let bytes = file::read(&path, FILE_MAX)?;
        document.add_bytes(&path, bytes).map_err(|mistake| SettingsError::Wrong(vec![mistake]))?;
    }
    Ok(document)
}

impl Settings {
    /// Reads the settings, which may be made up of several files.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn parse(document: &Document) -> Result<Self, Vec<Diagnostic>> {
        document.read(Self::read)
    }

    /// The credentials that the settings of servers name, each with its setting.
    #[must_use]
    pub fn server_credentials(&self) -> Vec<(String, &str, &Origin)> {
        let named = self.server_files().filter_map(|(setting, file, origin)| match file {
            CredentialFile::Credential(name) => Some((setting, name.as_str(), origin)),
            CredentialFile::Path(_) => None,
        });
        named.collect()
    }

    /// The files of the settings of servers, each with its setting and its place.
    fn server_files(&self) -> impl Iterator<Item = (String, &CredentialFile, &Origin)> {
        let messaging = self.messaging.iter().flat_map(ServerSetting::files);
        let messaging = messaging.map(|named| ("messaging", named));
        let keyvalue = self.keyvalue.files().into_iter().map(|named| ("keyvalue", named));
        let all = messaging.chain(keyvalue);
        all.map(|(section, (key, file, origin))| (format!("{section}.{key}"), file, origin))
    }

    /// The addresses in the network that the daemon connects to, each with the setting and its place.
    #[must_use]
    pub fn server_endpoints(&self) -> Vec<(&'static str, &Endpoint, &Origin)> {
        let messaging = self.messaging.iter();
        let messaging = messaging.map(|it| ("messaging.url", &it.url.endpoint, &it.origin));
        let keyvalue = match &self.keyvalue {
            KeyValueBackend::Nats(server) => Some((&server.url.endpoint, &server.origin)),
            KeyValueBackend::Valkey(server) => match &server.url {
                ValkeyUrl::Tcp { endpoint, .. } => Some((endpoint, &server.origin)),
                ValkeyUrl::Unix(_) => None,
            },
            KeyValueBackend::Embedded => None,
        };
        messaging.chain(keyvalue.map(|(to, origin)| ("keyvalue.url", to, origin))).collect()
    }

    /// The files with certificates, keys and logins that the daemon reads, each with the setting and its place.
    #[must_use]
    pub fn files(&self) -> Vec<(String, &CredentialFile, &Origin)> {
        let sockets = self.sockets.0.iter().flat_map(|(socket, setting)| {
            let tls = setting
                .tls
                .iter()
                .flat_map(|tls| [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)]);
            let tls = tls.map(|(key, (file, origin))| (key, file, origin));
            let ca = setting.client_ca.iter().map(|ca| ("client-ca", &ca.file, &ca.origin));
            let all = tls.chain(ca);
            all.map(move |(key, file, origin)| (format!("sockets.{socket}.{key}"), file, origin))
        });
        self.server_files().chain(sockets).collect()
    }

    fn read(table: &Table<'_>) -> Self {
        let span = |key, default| table.parsed::<Span>(key).map_or(default, |span| span.0);
        Self {
            start_deadline: span("start-deadline-sec", Duration::from_secs(300)),
            exit_on_idle: exit_on_idle(table),
            reload_concurrency: table
                .number("reload-concurrency", 1)
                .map_or(RELOAD_CONCURRENCY, |number| usize::try_from(number).unwrap_or(usize::MAX)),
            serve_previous: table.boolean("serve-previous").unwrap_or(true),
            log_level: table.choice("log-level", &Priority::ALL).unwrap_or(Priority::Info),
            engine: table.choice("engine", &EngineKind::ALL).unwrap_or_default(),
            compile: table.table("compile", Compile::read),
            http: table.table("http", Http::read),
            memory_max: memory_max(table),
            pool: table.table("pool", PoolSettings::read),
            health: table.table("health", HealthSetting::read),
            messaging: table.table("messaging", messaging::Messaging::read),
            traces: table.table("traces", Traces::read),
            keyvalue: table.table("keyvalue", KeyValueBackend::read),
            sockets: SocketSettings(table.named("sockets", SocketSetting::read)),
        }
    }
}

fn exit_on_idle(table: &Table<'_>) -> Option<Duration> {
    let exit_on_idle = table.parsed::<Span>("exit-on-idle-sec").map(|span| span.0);
    if let Some(time) = exit_on_idle.filter(|time| *time < EXIT_ON_IDLE_MIN) {
        let (least, time) = (Span(EXIT_ON_IDLE_MIN), Span(time));
        let message = format!("exit-on-idle-sec must be at least \"{least}\", not \"{time}\"");
        table.complain_about("exit-on-idle-sec", message);
    }
    exit_on_idle
}

fn memory_max(table: &Table<'_>) -> Option<Bytes> {
    let memory_max = table.parsed::<Bytes>("memory-max");
    if let Some(max) = memory_max.filter(|max| *max < MEMORY_MIN) {
        let message = format!("memory-max must be at least \"{MEMORY_MIN}\", not \"{max}\"");
        table.complain_about("memory-max", message);
    }
    memory_max
}

impl Traces {
    fn read(table: &Table<'_>) -> Self {
        Self { endpoint: table.parsed("endpoint") }
    }
}

impl Default for Settings {
    /// The defaults, which apply where there is no file.
    fn default() -> Self {
        Self::parse(&Document::default()).expect("no file has no mistakes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn written_values_are_used_and_others_have_their_defaults() {
        let mut document = Document::new(
            Path::new("plugind.toml"),
            "log-level = \"debug\"\nengine = \"pulley\"\n",
        );
        document.add(Path::new("d/a.toml"), "[compile]\ntimeout-sec = \"1min\"\n");
        let settings = Settings::parse(&document).unwrap();
        assert_eq!(settings.log_level, Priority::Debug);
        assert_eq!(settings.compile.timeout, Duration::from_secs(60));
        assert_eq!(settings.engine, EngineKind::Pulley);
        assert_eq!(Settings::default().engine, EngineKind::Native);
        assert_eq!(settings.start_deadline, Settings::default().start_deadline);
    }

    #[test]
    fn the_daemon_ends_on_idle_only_if_that_is_set_and_not_at_once() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        assert_eq!(Settings::default().exit_on_idle, None);
        let settings = parse("exit-on-idle-sec = \"5min\"\n").unwrap();
        assert_eq!(settings.exit_on_idle, Some(Duration::from_secs(300)));
        let mistakes = parse("exit-on-idle-sec = \"50ms\"\n").unwrap_err();
        let rule = "plugind.toml:1:20: exit-on-idle-sec must be at least \"100ms\", not \"50ms\"";
        assert_eq!(mistakes[0].to_string(), rule);
    }

    #[test]
    fn every_mistake_is_reported_in_the_file_it_is_in() {
        let mut document = Document::new(Path::new("plugind.toml"), "start-deadline = \"5min\"\n");
        document.add(Path::new("d/a.toml"), "[compile]\nmemory-max = \"much\"\n");
        let mistakes = Settings::parse(&document).unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("plugind.toml:1:1: unknown key \"start-deadline\"; did you mean")
        );
        assert!(lines[1].starts_with("d/a.toml:2:14: compile.memory-max: \"much\" is not a size"));
    }

    #[test]
    fn a_protocol_must_be_known_and_a_keep_alive_long_enough() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let settings = parse("[http]\nkeep-alive-sec = \"5min\"\n").unwrap();
        assert_eq!(settings.http.keep_alive, Duration::from_secs(300));
        let mistakes = parse("[http]\nkeep-alive-sec = \"0\"\n[sockets.web]\nprotocol = \"ftp\"\n")
            .unwrap_err();
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert_eq!(
            mistakes[0],
            "plugind.toml:2:18: http.keep-alive-sec must be at least \"1s\", not \"0s\""
        );
        assert!(
            mistakes[1].starts_with("plugind.toml:4:12: sockets.web.protocol "),
            "{mistakes:?}"
        );
    }

    #[test]
    fn limits_that_no_plugin_fits_in_or_no_address_space_holds_are_refused() {
        let parse = |text| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let mistakes =
            parse("memory-max = \"1M\"\n[pool]\nmemories = 20000\ntables = 7\n").unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "plugind.toml:1:14: memory-max must be at least \"16M\", not \"1M\"",
                "plugind.toml:3:12: pool.memories must be at most 10000, not 20000",
                "plugind.toml:4:10: pool.tables must be a whole number of at least 4000, not 7",
            ]
        );
        let settings = parse("memory-max = \"1G\"\n[pool]\ntables = 9000\n").unwrap();
        assert_eq!((settings.memory_max, settings.pool.tables), (Some(Bytes(1 << 30)), 9000));
    }
}
