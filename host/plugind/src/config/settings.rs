//! What stands in `plugind.toml`: how the daemon itself behaves. All of it is optional.

use crate::{
    base::{
        error_chain::ErrorChain,
        file::{self, FileError},
        name::SocketName,
        priority::Priority,
        quantity::{Bytes, Span},
    },
    config::{Diagnostic, Document, ListError, Origin, SearchPath, Table},
};
use plugind_artifact::kind::EngineKind;
use std::{collections::BTreeMap, fmt, time::Duration};

/// The largest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// A shorter time is too short for every compilation.
pub const COMPILE_TIMEOUT_MIN: Span = Span(Duration::from_secs(1));

/// So many new versions are in work at a time, unless somebody says otherwise.
const RELOAD_CONCURRENCY: usize = 4;

/// In a shorter time no client sends its next request.
const KEEP_ALIVE_MIN: Span = Span(Duration::from_secs(1));

/// In less address space the compiler cannot even start.
pub const COMPILE_MEMORY_MIN: Bytes = Bytes(64 << 20);

/// The settings as they count: what the files leave out has its default here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the required plugins may take to become ready.
    pub start_deadline: Duration,
    /// How many plugins may have a new version in work at a time.
    pub reload_concurrency: usize,
    /// The least important entries of the log that are kept.
    pub log_level: Priority,
    /// How compiled code is run.
    pub engine: EngineKind,
    /// `[compile]`
    pub compile: Compile,
    /// `[http]`
    pub http: Http,
    /// `[sockets.NAME]`
    pub sockets: SocketSettings,
}

/// `[http]`: what counts for every connection on which HTTP is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
}

/// `[sockets.NAME]`, by the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSettings(pub BTreeMap<SocketName, SocketSetting>);

/// `[sockets.NAME]`: what counts for the sockets of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSetting {
    /// What is spoken on it; none: what its name says.
    pub protocol: Option<Protocol>,
    /// Where that was written.
    pub origin: Origin,
}

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP, for plugins.
    Http,
    /// Varlink, for the control of the daemon.
    Control,
}

impl Protocol {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 2] = [("http", Self::Http), ("control", Self::Control)];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Control => "control",
        })
    }
}

/// `[compile]`: what compiling one component may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// How long.
    pub timeout: Duration,
    /// How much address space, in bytes.
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
/// When a file cannot be read, or is no text.
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
            log_level: table.choice("log-level", &Priority::ALL).unwrap_or(Priority::Info),
            engine: table.choice("engine", &EngineKind::ALL).unwrap_or_default(),
            compile: table.table("compile", Compile::read),
            http: table.table("http", Http::read),
            sockets: SocketSettings(table.named("sockets", SocketSetting::read)),
        }
    }
}

impl Http {
    fn read(table: &Table<'_>) -> Self {
        let keep_alive = table.parsed::<Span>("keep-alive-sec");
        if keep_alive.is_some_and(|time| time < KEEP_ALIVE_MIN) {
            let message = format!("http.keep-alive-sec must be at least \"{KEEP_ALIVE_MIN}\"");
            table.complain_about("keep-alive-sec", message);
        }
        Self { keep_alive: keep_alive.map_or(Duration::from_secs(75), |time| time.0) }
    }
}

impl SocketSetting {
    fn read(table: &Table<'_>) -> Self {
        Self {
            protocol: table.choice("protocol", &Protocol::ALL),
            origin: table.origin("protocol"),
        }
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
            timeout: timeout.map_or(Duration::from_secs(120), |timeout| timeout.0),
            memory_max: memory_max.unwrap_or(Bytes(4 << 30)),
        }
    }
}

impl Default for Settings {
    /// What counts where there is no file.
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
        let parse = |text| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
        let settings = parse("[http]\nkeep-alive-sec = \"5min\"\n").unwrap();
        assert_eq!(settings.http.keep_alive, Duration::from_secs(300));
        let mistakes = parse("[http]\nkeep-alive-sec = \"0\"\n[sockets.web]\nprotocol = \"ftp\"\n")
            .unwrap_err();
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert_eq!(mistakes[0], "plugind.toml:2:18: http.keep-alive-sec must be at least \"1s\"");
        assert!(
            mistakes[1].starts_with("plugind.toml:4:12: sockets.web.protocol "),
            "{mistakes:?}"
        );
    }

    #[test]
    fn limits_too_small_for_any_compiler_are_refused_at_their_place() {
        let parse = |text| Settings::parse(&Document::new(Path::new("plugind.toml"), text));
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
