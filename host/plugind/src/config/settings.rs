//! The contents of `plugind.toml`: settings of the daemon itself. Everything is optional.

use crate::{
    base::{
        error_chain::ErrorChain,
        file::{self, FileError},
        limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX},
        name::SocketName,
        network::{Network, NetworkParseError},
        priority::Priority,
        quantity::{Bytes, Span},
    },
    config::{Diagnostic, Document, ListError, Origin, SearchPath, Table, traces::TraceEndpoint},
};
use plugind_artifact::kind::EngineKind;
use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

/// The largest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// A shorter time is too short for every compilation.
pub const COMPILE_TIMEOUT_MIN: Span = Span(Duration::from_secs(1));

/// Default number of new versions that are prepared at the same time.
const RELOAD_CONCURRENCY: usize = 4;

/// In a shorter time no client sends its next request.
const KEEP_ALIVE_MIN: Span = Span(Duration::from_secs(1));

/// Of the 30 s in which connections and plugins must finish.
const STOP_DELAY_MAX: Span = Span(Duration::from_secs(10));

/// systemd's limit for the name of a credential.
const CREDENTIAL_NAME_MAX: usize = 255;

/// In less memory hardly any plugin can be instantiated.
pub const MEMORY_MIN: Bytes = Bytes(16 << 20);
/// The most connections of a socket, unless somebody says otherwise; further clients wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 8192;
/// Divisor for the part of them that one peer may have.
const PEER_SHARE: u32 = 4;
/// The least rate of a client: slower than any modem, and faster than one that only keeps its place.
const RATE_MIN: Bytes = Bytes(256);

/// In less address space the compiler cannot even start.
pub const COMPILE_MEMORY_MIN: Bytes = Bytes(64 << 20);

/// The effective settings: values that are missing from the files have their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time that the required plugins may take to become ready.
    pub start_deadline: Duration,
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
    /// The most bytes that all plugins use together; none: as fits what the daemon may use.
    pub memory_max: Option<Bytes>,
    /// `[pool]`
    pub pool: PoolSettings,
    /// `[health]`, if it is there.
    pub health: Option<HealthSetting>,
    /// `[traces]`
    pub traces: Traces,
    /// `[sockets.NAME]`
    pub sockets: SocketSettings,
}

/// `[pool]`: the limits of the instance pool, for all plugins together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Instances.
    pub instances: u32,
    /// Instances of core modules.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

/// `[health]`: where load balancers ask for the health of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSetting {
    /// On these sockets; none: on all that speak HTTP.
    pub socket: Option<SocketName>,
    /// Where that was written.
    pub origin: Origin,
    /// The path.
    pub route: String,
    /// For how long it answers that the daemon stops, before sockets are closed.
    pub stop_delay: Duration,
}

/// `[traces]`: where the spans of requests are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The collector; none: the one of the environment, if that names one.
    pub endpoint: Option<TraceEndpoint>,
}

/// `[http]`: the settings of all HTTP connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Time that a connection may be idle between two requests.
    pub keep_alive: Duration,
}

/// `[sockets.NAME]`, by the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSettings(pub BTreeMap<SocketName, SocketSetting>);

/// `[sockets.NAME]`: what counts for the sockets of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSetting {
    /// The protocol spoken on it; none: the one of its name.
    pub protocol: Option<Protocol>,
    /// Where that was written.
    pub origin: Origin,
    /// The HTTP settings.
    pub http: HttpSetting,
    /// The certificates with which TLS is spoken below HTTP; without one, it is not.
    pub tls: Vec<Tls>,
    /// Which clients need a certificate, and who signs those.
    pub client_ca: Option<ClientCa>,
    /// The limits for clients.
    pub connections: ConnectionSetting,
}

/// `[[sockets.NAME.tls]]`: a certificate of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that lead to an authority.
    pub certificate: (CredentialFile, Origin),
    /// Its private key.
    pub key: (CredentialFile, Origin),
}

/// The authority that signs the certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// The certificates of the authorities.
    pub file: CredentialFile,
    /// Where that was written.
    pub origin: Origin,
    /// Whether a client without a certificate is served.
    pub optional: bool,
}

/// A file: that of a credential, or one with an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFile {
    /// A credential that systemd passes to the daemon.
    Credential(String),
    /// Any other file.
    Path(PathBuf),
}

/// A text is neither a credential nor a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of a credential or an absolute path; write \"NAME\" or \"/PATH\"")]
pub struct CredentialFileError(String);

impl FromStr for CredentialFile {
    type Err = CredentialFileError;

    fn from_str(text: &str) -> Result<Self, CredentialFileError> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        let is_name = !text.is_empty()
            && text.len() <= CREDENTIAL_NAME_MAX
            && !text.starts_with('.')
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if is_name {
            Ok(Self::Credential(text.to_owned()))
        } else {
            Err(CredentialFileError(text.to_owned()))
        }
    }
}

/// The HTTP settings of the sockets of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSetting {
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The proxies that are trusted to name the client.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header fields in which they name it.
    pub proxy_header: ProxyHeader,
    /// How requests are logged, if they are.
    pub access_log: Option<AccessLog>,
}

/// How each request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// A message with fields.
    Journal,
    /// The line of Apache and nginx.
    Combined,
    /// An object of JSON.
    Json,
}

impl AccessLog {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("journal", Self::Journal), ("combined", Self::Combined), ("json", Self::Json)];
}

/// A proxy that is trusted to name the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Any process of this machine that can connect to the socket.
    Unix,
    /// One with such an address.
    Network(Network),
}

/// The header fields in which a trusted proxy says who the client is. The others may have been sent by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 2] =
        [("x-forwarded", Self::XForwarded), ("forwarded", Self::Forwarded)];
}

impl FromStr for TrustedProxy {
    type Err = NetworkParseError;

    fn from_str(text: &str) -> Result<Self, NetworkParseError> {
        if text == "unix" { Ok(Self::Unix) } else { text.parse().map(Self::Network) }
    }
}

/// The limits for clients of the sockets of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSetting {
    /// The most connections at a time.
    pub max: u32,
    /// The most connections of one peer at a time.
    pub max_per_peer: u32,
    /// Bytes a second that a client must send of a request, or read of a response.
    pub rate_min: Bytes,
}

impl Default for ConnectionSetting {
    fn default() -> Self {
        let max = CONNECTIONS_MAX;
        Self { max, max_per_peer: max / PEER_SHARE, rate_min: RATE_MIN }
    }
}

/// The protocol spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP, for plugins.
    Http,
    /// Varlink, for the control of the daemon.
    Control,
    /// HTTP, for the metrics of the daemon.
    Metrics,
}

impl Protocol {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("http", Self::Http), ("control", Self::Control), ("metrics", Self::Metrics)];

    /// The protocol of sockets without a setting.
    #[must_use]
    pub fn by_name(name: &SocketName) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|(known, _)| *known == name.as_str());
        named.map(|(_, protocol)| protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Control => "control",
            Self::Metrics => "metrics",
        })
    }
}

/// `[compile]`: what compiling one component may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// The time limit.
    pub timeout: Duration,
    /// The limit of address space, in bytes.
    pub memory_max: Bytes,
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

/// `plugind.toml` and its drop-ins, unread.
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

    fn read(table: &Table<'_>) -> Self {
        let span = |key, default| table.parsed::<Span>(key).map_or(default, |span| span.0);
        Self {
            start_deadline: span("start-deadline-sec", Duration::from_secs(300)),
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
            traces: table.table("traces", Traces::read),
            sockets: SocketSettings(table.named("sockets", SocketSetting::read)),
        }
    }
}

fn memory_max(table: &Table<'_>) -> Option<Bytes> {
    let memory_max = table.parsed::<Bytes>("memory-max");
    if let Some(max) = memory_max.filter(|max| *max < MEMORY_MIN) {
        let message = format!("memory-max must be at least \"{MEMORY_MIN}\", not \"{max}\"");
        table.complain_about("memory-max", message);
    }
    memory_max
}

impl PoolSettings {
    fn read(table: &Table<'_>) -> Self {
        let at_most = |max, key, number: Option<u32>, default| {
            let number = number.unwrap_or(default);
            if number > max {
                let message = format!("pool.{key} must be at most {max}, not {number}");
                table.complain_about(key, message);
            }
            number
        };
        // An instance of any accepted component takes at most a twentieth: the part reserved for first instances.
        let [cores, memories, tables] =
            [CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX].map(|max| max * 20);
        Self {
            instances: at_most(10_000, "instances", table.number("instances", 20), 1000),
            core_instances: at_most(
                100_000,
                "core-instances",
                table.number("core-instances", cores),
                8000,
            ),
            memories: at_most(10_000, "memories", table.number("memories", memories), 2000),
            tables: at_most(100_000, "tables", table.number("tables", tables), 8000),
        }
    }
}

impl HealthSetting {
    fn read(table: &Table<'_>) -> Option<Self> {
        let (socket, route) = (table.parsed("socket"), table.text("route"));
        let stop_delay = table.parsed::<Span>("stop-delay-sec");
        if let Some(delay) = stop_delay.filter(|delay| *delay > STOP_DELAY_MAX) {
            let message = format!(
                "health.stop-delay-sec must be at most \"{STOP_DELAY_MAX}\", not \"{delay}\""
            );
            table.complain_about("stop-delay-sec", message);
        }
        let Some(route) = route else {
            for key in ["socket", "stop-delay-sec"] {
                if table.origin(key).0.is_some() {
                    let message = format!("health.{key} must not be set without health.route");
                    table.complain_about(key, message);
                }
            }
            return None;
        };
        let is_path = route.starts_with('/')
            && route.len() > 1
            && !route.ends_with('/')
            && route.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte));
        if !is_path {
            let message = format!(
                "health.route must begin with \"/\", must not end with \"/\" and must have only letters, digits and \
                 /-._~, not \"{route}\""
            );
            table.complain_about("route", message);
        }
        let stop_delay = stop_delay.map(|delay| delay.0).unwrap_or_default();
        Some(Self { socket, origin: table.origin("socket"), route, stop_delay })
    }
}

impl Traces {
    fn read(table: &Table<'_>) -> Self {
        Self { endpoint: table.parsed("endpoint") }
    }
}

impl Http {
    fn read(table: &Table<'_>) -> Self {
        let keep_alive = table.parsed::<Span>("keep-alive-sec");
        if let Some(time) = keep_alive.filter(|time| *time < KEEP_ALIVE_MIN) {
            let message = format!(
                "http.keep-alive-sec must be at least \"{KEEP_ALIVE_MIN}\", not \"{time}\""
            );
            table.complain_about("keep-alive-sec", message);
        }
        Self { keep_alive: keep_alive.map_or(Duration::from_secs(75), |time| time.0) }
    }
}

impl SocketSetting {
    fn read(name: &SocketName, table: &Table<'_>) -> Self {
        let protocol = table.choice("protocol", &Protocol::ALL);
        let http = HttpSetting {
            proxy_protocol: table.boolean("proxy-protocol").unwrap_or_default(),
            trusted_proxies: table.list("trusted-proxies", str::parse),
            proxy_header: table.choice("proxy-header", &ProxyHeader::ALL).unwrap_or_default(),
            access_log: table.choice("access-log", &AccessLog::ALL),
        };
        let optional = [("required", false), ("optional", true)];
        let optional = table.choice("client-certificate", &optional);
        let client_ca = table.parsed("client-ca").map(|file| ClientCa {
            file,
            origin: table.origin("client-ca"),
            optional: optional.unwrap_or_default(),
        });
        let tls: Vec<_> = table.tables("tls", Tls::read).into_iter().flatten().collect();
        if table.origin("tls").0.is_none() {
            for key in ["client-ca", "client-certificate"] {
                if table.origin(key).0.is_some() {
                    table.complain_about(
                        key,
                        format!("{key} must not be set without [[sockets.NAME.tls]]"),
                    );
                }
            }
        } else if optional.is_some() && client_ca.is_none() {
            let message = "client-certificate must not be set without client-ca";
            table.complain_about("client-certificate", message);
        }
        let spoken = protocol.or_else(|| Protocol::by_name(name));
        if spoken != Some(Protocol::Http) {
            let remedy = match protocol {
                Some(_) => "remove it, or change the protocol".to_owned(),
                None => format!(
                    "remove it, or write protocol = \"http\" below [sockets.{name}] if the host is to speak HTTP there"
                ),
            };
            for key in ["proxy-protocol", "trusted-proxies", "proxy-header", "access-log", "tls"] {
                if table.origin(key).0.is_some() {
                    let message = format!(
                        "{key} must not be set for a protocol other than \"http\"; {remedy}"
                    );
                    table.complain_about(key, message);
                }
            }
        }
        let (origin, connections) = (table.origin("protocol"), ConnectionSetting::read(table));
        Self { protocol, origin, http, tls, client_ca, connections }
    }
}

impl ConnectionSetting {
    fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let max = table.number("connections-max", 1).unwrap_or(default.max);
        let max_per_peer = table.number("connections-max-per-peer", 1);
        Self {
            max,
            max_per_peer: max_per_peer.unwrap_or((max / PEER_SHARE).max(1)),
            rate_min: table.parsed("rate-min").unwrap_or(default.rate_min),
        }
    }
}

impl Tls {
    fn read(table: &Table<'_>) -> Option<Self> {
        let (certificate, key) = (table.parsed("certificate"), table.parsed("key"));
        for key in ["certificate", "key"] {
            if table.origin(key).0.is_none() {
                table.complain_about(key, format!("[[sockets.NAME.tls]] must have {key}"));
            }
        }
        let (certificate, key) = certificate.zip(key)?;
        let certificate = (certificate, table.origin("certificate"));
        Some(Self { certificate, key: (key, table.origin("key")) })
    }
}

impl Compile {
    fn read(table: &Table<'_>) -> Self {
        let timeout = table.parsed::<Span>("timeout-sec");
        if let Some(timeout) = timeout.filter(|timeout| *timeout < COMPILE_TIMEOUT_MIN) {
            let message = format!(
                "compile.timeout-sec must be at least \"{COMPILE_TIMEOUT_MIN}\", not \"{timeout}\""
            );
            table.complain_about("timeout-sec", message);
        }
        let memory_max = table.parsed::<Bytes>("memory-max");
        if let Some(max) = memory_max.filter(|max| *max < COMPILE_MEMORY_MIN) {
            let message = format!(
                "compile.memory-max must be at least \"{COMPILE_MEMORY_MIN}\", not \"{max}\""
            );
            table.complain_about("memory-max", message);
        }
        Self {
            timeout: timeout.map_or(Duration::from_secs(300), |timeout| timeout.0),
            memory_max: memory_max.unwrap_or(Bytes(4 << 30)),
        }
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
    fn what_is_written_counts_and_what_is_not_has_its_default() {
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
    fn a_proxy_is_an_address_a_network_or_any_process_of_the_machine() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = "[sockets.web]\nprotocol = \"http\"\n";
        let settings =
            parse(&format!("{web}trusted-proxies = [\"unix\", \"192.0.2.0/24\"]\n")).unwrap();
        let http = &settings.sockets.0[&"web".parse().unwrap()].http;
        let network = TrustedProxy::Network("192.0.2.0/24".parse().unwrap());
        assert_eq!(http.trusted_proxies, [TrustedProxy::Unix, network]);
        assert_eq!(http.proxy_header, ProxyHeader::XForwarded);
        assert!(!http.proxy_protocol);
        let mistakes = parse(&format!("{web}trusted-proxies = [\"localhost\"]\n")).unwrap_err();
        assert!(
            mistakes[0].to_string().starts_with(
                "plugind.toml:3:20: sockets.web.trusted-proxies: \"localhost\" is not a network"
            ),
            "{mistakes:?}"
        );
        let control = "[sockets.web]\nprotocol = \"control\"\nproxy-protocol = true\n";
        assert_eq!(parse(control).unwrap_err().len(), 1);
    }

    #[test]
    fn what_is_for_http_is_a_mistake_on_any_other_socket() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        for socket in ["control", "metrics", "web"] {
            for line in ["access-log = \"json\"", "trusted-proxies = [\"unix\"]"] {
                let mistakes = parse(&format!("[sockets.{socket}]\n{line}\n")).unwrap_err();
                assert_eq!(mistakes.len(), 1, "{mistakes:?}");
                let mistake = mistakes[0].to_string();
                assert!(mistake.starts_with("plugind.toml:2:"), "{mistake}");
                assert!(
                    mistake
                        .contains("must not be set for a protocol other than \"http\"; remove it"),
                    "{mistake}"
                );
            }
        }
        assert!(parse("[sockets.http]\naccess-log = \"json\"\n").is_ok());
        assert!(parse("[sockets.web]\nconnections-max = 7\n").is_ok());
        let spoken = "[sockets.control]\nprotocol = \"http\"\naccess-log = \"json\"\n";
        assert!(parse(spoken).is_ok());
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = "[sockets.web]\nprotocol = \"http\"\nclient-ca = \"clients.pem\"\n";
        let tls =
            "[[sockets.web.tls]]\ncertificate = \"site.crt\"\nkey = \"/etc/plugind/site.key\"\n";
        let settings = parse(&format!("{web}{tls}{tls}")).unwrap();
        let web_setting = &settings.sockets.0[&"web".parse().unwrap()];
        assert_eq!(web_setting.tls.len(), 2);
        let certificate = &web_setting.tls[0].certificate.0;
        assert_eq!(*certificate, CredentialFile::Credential("site.crt".to_owned()));
        assert_eq!(web_setting.tls[0].key.0, CredentialFile::Path("/etc/plugind/site.key".into()));
        assert!(web_setting.client_ca.as_ref().is_some_and(|ca| !ca.optional));
        for (text, mistake) in [
            (web.to_owned(), "plugind.toml:3:13: client-ca must not be set without"),
            (format!("{web}[[sockets.web.tls]]\nkey = \"a\"\n"), "plugind.toml:4:"),
            (
                format!("{web}[[sockets.web.tls]]\ncertificate = \"a/b\"\nkey = \"c\"\n"),
                "plugind.toml:5:15: sockets.web.tls.certificate: \"a/b\" is not",
            ),
        ] {
            let mistakes = parse(&text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].to_string().starts_with(mistake), "{mistakes:?}");
        }
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

    #[test]
    fn a_peer_has_a_quarter_of_the_connections_unless_a_setting_says_otherwise() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let web = |text: &str| {
            let settings = parse(&format!("[sockets.web]\n{text}")).unwrap();
            settings.sockets.0[&"web".parse().unwrap()].connections
        };
        let setting = |max, max_per_peer, rate| ConnectionSetting {
            max,
            max_per_peer,
            rate_min: Bytes(rate),
        };
        assert_eq!(web("protocol = \"http\"\n"), setting(8192, 2048, 256));
        assert_eq!(web("connections-max = 2\nrate-min = \"1K\"\n"), setting(2, 1, 1024));
        assert_eq!(
            web("connections-max-per-peer = 9000\nrate-min = \"0\"\n"),
            setting(8192, 9000, 0)
        );
        assert!(parse("[sockets.web]\nconnections-max = 0\n").is_err());
    }

    #[test]
    fn limits_too_small_for_any_compiler_are_refused_at_their_place() {
        let parse = |text: &str| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let mistakes = parse("[compile]\ntimeout-sec = \"0\"\nmemory-max = \"1M\"\n").unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "plugind.toml:2:15: compile.timeout-sec must be at least \"1s\", not \"0s\"",
                "plugind.toml:3:14: compile.memory-max must be at least \"64M\", not \"1M\"",
            ]
        );
        assert!(parse("[compile]\ntimeout-sec = \"1\"\nmemory-max = \"64M\"\n").is_ok());
    }
}
