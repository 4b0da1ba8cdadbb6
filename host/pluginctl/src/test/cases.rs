//! `test.toml`: the actions of the tests of a plugin, the expected results, and what the daemon needs for them.

use crate::{
    own_file::{self, OwnFileError},
    project::is_missing,
    run::inputs::credential_name,
};
use plugind::{
    base::{name::SocketName, quantity::Span},
    config::{Diagnostic, Document, Table},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the file in the directory of a project.
pub(super) const FILE: &str = "test.toml";
/// The largest file that is read.
const FILE_MAX: u64 = 1 << 20;
/// The most by which the daemon lets its clock be advanced.
const ADVANCE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The file.
pub(super) struct TestsFile {
    /// The tests.
    pub(super) cases: Vec<TestCase>,
    /// The file with the settings of the daemon.
    pub(super) config: Option<PathBuf>,
    /// Credentials, by the names that the manifest or the settings have.
    pub(super) credentials: BTreeMap<String, String>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestCase {
    /// Its name, for people.
    pub(super) name: String,
    /// The time by which the clocks that the plugin sees move forward, before the action.
    pub(super) advance_clock: Option<Span>,
    /// The operation on the plugin that is done then, before the action.
    pub(super) step: Option<PluginStep>,
    /// The action.
    pub(super) action: TestAction,
    /// The text that is sent: the body of a request, bytes on a connection, a datagram, or a text message.
    pub(super) send: String,
    /// The whole text that must be received.
    pub(super) receive: Option<String>,
    /// Parts of the text that must be received.
    pub(super) contains: Vec<String>,
    /// The state that the plugin must then be in, in one of the words of its status.
    pub(super) state: Option<String>,
    /// Texts that must each be in a line of the log, since the start of the plugin.
    pub(super) log: Vec<String>,
}

/// An operation of a test on the plugin itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PluginStep {
    /// It replaces all instances by new ones of the same version.
    Restart,
    /// It stops the plugin.
    Stop,
    /// It starts the plugin again.
    Start,
    /// It replaces the component, the manifest or both by these files, and so the version.
    Replace { component: Option<PathBuf>, manifest: Option<PathBuf> },
}

/// The action of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TestAction {
    /// It sends an HTTP request.
    Request(TestRequest),
    /// It opens a WebSocket on this path below the plugin's route.
    WebSocket(String),
    /// It opens a connection to this socket.
    Connection(SocketName),
    /// It sends a datagram to this socket.
    Datagram(SocketName),
    /// It only reads the log.
    Nothing,
}

/// An HTTP request, and what is expected of the head of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestRequest {
    pub(super) method: String,
    /// Below the plugin's route.
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) status: u32,
    pub(super) response_headers: BTreeMap<String, String>,
}

/// Why there are no tests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CasesError {
    #[error("there is no {}; write one with a table [[test]] for each test", .0.display())]
    Missing(PathBuf),
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    #[error(
        "{FILE}: the tests advance the clock by more than 100 years in total; write shorter times"
    )]
    Clock,
    #[error(transparent)]
    File(#[from] OwnFileError),
}

/// Reads the tests of the project in a directory.
pub(super) fn read(directory: &Path) -> Result<TestsFile, CasesError> {
    // Messages name the file as a person would write it.
    let path = directory.strip_prefix(".").unwrap_or(directory).join(FILE);
    if is_missing(&path) {
        return Err(CasesError::Missing(path));
    }
    let mut document = Document::default();
    let added = document.add_bytes(&path, own_file::read(&path, FILE_MAX)?);
    added.map_err(|mistake| CasesError::Mistakes(lines(&[mistake])))?;
    let tests = parse(&document, directory);
    let tests = tests.map_err(|mistakes| CasesError::Mistakes(lines(&mistakes)))?;
    if clock_advance(&tests.cases) > ADVANCE_MAX {
        return Err(CasesError::Clock);
    }
    Ok(tests)
}

/// The time by which all tests together advance the clock.
fn clock_advance(cases: &[TestCase]) -> Duration {
    let times = cases.iter().filter_map(|case| case.advance_clock);
    times.fold(Duration::ZERO, |sum, Span(time)| sum.saturating_add(time))
}

fn lines(mistakes: &[Diagnostic]) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

/// Paths are relative to `directory`.
fn parse(document: &Document, directory: &Path) -> Result<TestsFile, Vec<Diagnostic>> {
    document.read(|table| tests_file(table, directory, |table| case(table, directory)))?;
    // Without a mistake in its keys, each test is known as it was meant.
    document.read(|table| {
        tests_file(table, directory, |table| {
            let case = case(table, directory);
            complain_about_places(table, &case);
            complain_about_request_keys(table, &case);
            case
        })
    })
}

fn tests_file(
    table: &Table<'_>,
    directory: &Path,
    case: impl Fn(&Table<'_>) -> TestCase,
) -> TestsFile {
    let credentials = table.texts("credentials");
    for error in credentials.keys().filter_map(|key| credential_name(key).err()) {
        table.complain_about("credentials", format!("credentials: {error}"));
    }
    let config = table.text("config").map(|path| directory.join(path));
    if let Some(path) = config.as_ref().filter(|path| !path.exists()) {
        let message = format!("config must be a file; {} does not exist", path.display());
        table.complain_about("config", message);
    }
    TestsFile { cases: table.tables("test", case), config, credentials }
}

fn case(table: &Table<'_>, directory: &Path) -> TestCase {
    let texts = |key| table.list(key, |text| Ok::<_, Infallible>(text.to_owned()));
    let name = table.text("name").unwrap_or_else(|| {
        table.complain_about("name", "test.name is missing; write name = \"…\"");
        String::new()
    });
    TestCase {
        name,
        advance_clock: table.parsed("advance-clock"),
        step: step(table, directory),
        action: action(table),
        send: table.text("send").unwrap_or_default(),
        receive: table.text("receive"),
        contains: texts("contains"),
        state: table.text("state"),
        log: texts("log"),
    }
}

/// Reports a test that sends or receives something, and does not say where.
fn complain_about_places(table: &Table<'_>, case: &TestCase) {
    let expects_text = case.receive.is_some() || !case.contains.is_empty();
    if case.action == TestAction::Nothing && (expects_text || !case.send.is_empty()) {
        let message = "a test with send, receive or contains must say where: write path, websocket, connection or datagram";
        table.complain_about("name", message);
    }
}

/// Reports keys that nothing is compared with, because the test sends no request.
fn complain_about_request_keys(table: &Table<'_>, case: &TestCase) {
    if matches!(case.action, TestAction::Request(_)) {
        return;
    }
    for (key, is_there) in [
        ("method", table.text("method").is_some()),
        ("headers", !table.texts("headers").is_empty()),
        ("status", table.number("status", 100).is_some()),
        ("response-headers", !table.texts("response-headers").is_empty()),
    ] {
        if is_there {
            let message =
                format!("test.{key} must not be written without path: it is about a request");
            table.complain_about(key, message);
        }
    }
}

fn step(table: &Table<'_>, directory: &Path) -> Option<PluginStep> {
    let step = |key, step| table.boolean(key).filter(|is_done| *is_done).map(|_| step);
    let file = |key| table.text(key).map(|path| directory.join(path));
    let (component, manifest) = (file("replace-component"), file("replace-manifest"));
    let is_replaced = component.is_some() || manifest.is_some();
    let steps = [
        step("restart", PluginStep::Restart),
        step("stop", PluginStep::Stop),
        step("start", PluginStep::Start),
        is_replaced.then_some(PluginStep::Replace { component, manifest }),
    ];
    let mut steps = steps.into_iter().flatten();
    let step = steps.next();
    if steps.next().is_some() {
        let message = "a test must have only one of restart, stop, start, and replace-component with replace-manifest";
        table.complain_about("name", message);
    }
    step
}

fn action(table: &Table<'_>) -> TestAction {
    let request = TestRequest {
        method: table.text("method").unwrap_or_else(|| "GET".to_owned()),
        path: String::new(),
        headers: table.texts("headers"),
        status: table.number("status", 100).unwrap_or(200),
        response_headers: table.texts("response-headers"),
    };
    let path = |key| {
        let path = table.text(key)?;
        if !path.starts_with('/') {
            table.complain_about(key, format!("test.{key} must begin with \"/\", not {path:?}"));
        }
        Some(path)
    };
    let actions = [
        path("path").map(|path| TestAction::Request(TestRequest { path, ..request })),
        path("websocket").map(TestAction::WebSocket),
        table.parsed("connection").map(TestAction::Connection),
        table.parsed("datagram").map(TestAction::Datagram),
    ];
    let mut actions = actions.into_iter().flatten();
    let action = actions.next().unwrap_or(TestAction::Nothing);
    if actions.next().is_some() {
        let message = "a test must have only one of path, websocket, connection and datagram";
        table.complain_about("name", message);
    }
    action
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<TestCase>, String> {
        parse(&Document::new(Path::new(FILE), text), Path::new("/nowhere"))
            .map(|tests| tests.cases)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_test_says_what_is_sent_and_what_is_expected() {
        let cases = read_text(
            "[[test]]\nname = \"a\"\npath = \"/Ada\"\nreceive = \"Hello\"\nlog = [\"loaded\"]\n\
             [[test]]\nname = \"b\"\nconnection = \"x\"\nsend = \"Ada\"\ncontains = [\"A\"]\n\
             [[test]]\nname = \"c\"\nadvance-clock = \"1h\"\nlog = [\"loaded\"]\n",
        )
        .unwrap();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[2].advance_clock, Some(Span(Duration::from_secs(3600))));
        assert_eq!(clock_advance(&cases), Duration::from_secs(3600));
        let TestAction::Request(request) = &cases[0].action else { panic!("{:?}", cases[0]) };
        assert_eq!((request.method.as_str(), &*request.path, request.status), ("GET", "/Ada", 200));
        assert_eq!(cases[0].receive.as_deref(), Some("Hello"));
        assert_eq!(cases[1].action, TestAction::Connection("x".parse().unwrap()));
        assert_eq!(
            (cases[2].action.clone(), &cases[2].log),
            (TestAction::Nothing, &vec!["loaded".to_owned()])
        );
    }

    #[test]
    fn a_test_says_what_is_done_to_the_plugin() {
        let step = |text: &str| {
            let cases = read_text(&format!("[[test]]\nname = \"a\"\n{text}\n")).unwrap();
            (cases[0].step.clone(), cases[0].state.clone())
        };
        assert_eq!(step("restart = true").0, Some(PluginStep::Restart));
        assert_eq!(step("restart = false\nstart = true").0, Some(PluginStep::Start));
        let stopped = (Some(PluginStep::Stop), Some("stopped".to_owned()));
        assert_eq!(step("stop = true\nstate = \"stopped\""), stopped);
        let replaced = step("replace-component = \"b.wasm\"\nreplace-manifest = \"b.toml\"").0;
        let (component, manifest) = ("/nowhere/b.wasm".into(), "/nowhere/b.toml".into());
        let expected = PluginStep::Replace { component: Some(component), manifest: Some(manifest) };
        assert_eq!(replaced, Some(expected));
    }

    #[test]
    fn an_unknown_key_is_the_only_mistake_that_is_reported() {
        let text = "[[test]]\nname = \"a\"\npth = \"/\"\nreceive = \"x\"\n";
        let error = read_text(text).unwrap_err();
        assert_eq!(error, "test.toml:3:1: unknown key \"test.pth\"; did you mean \"path\"?");
    }

    #[test]
    fn keys_of_a_request_are_refused_in_a_test_that_sends_none() {
        for (text, key) in [
            ("status = 403", "status"),
            ("websocket = \"/\"\nheaders = { origin = \"https://a\" }", "headers"),
            ("connection = \"x\"\nmethod = \"PUT\"", "method"),
            ("websocket = \"/\"\nresponse-headers = { a = \"b\" }", "response-headers"),
        ] {
            let error = read_text(&format!("[[test]]\nname = \"a\"\n{text}\n")).unwrap_err();
            let expected = format!("test.{key} must not be written without path");
            assert!(error.contains(&expected) && error.contains("test.toml:"), "{error}");
        }
    }

    #[test]
    fn a_mistake_in_a_test_is_reported_with_its_place() {
        for (text, message) in [
            ("path = \"/\"", "test.toml:1:1: test.name is missing"),
            (
                "name = \"a\"\npath = \"x\"",
                "test.toml:3:8: test.path must begin with \"/\", not \"x\"",
            ),
            (
                "name = \"a\"\npath = \"/\"\nwebsocket = \"/\"",
                "must have only one of path, websocket",
            ),
            ("name = \"a\"\nsend = \"x\"", "must say where: write path, websocket"),
            ("name = \"a\"\nrestart = true\nstop = true", "must have only one of restart, stop"),
            ("name = \"a\"\npaht = \"/\"", "did you mean \"path\"?"),
            (
                "name = \"a\"\npath = \"/\"\nstatus = 20",
                "test.status must be a whole number of at least 100",
            ),
        ] {
            let error = read_text(&format!("[[test]]\n{text}\n")).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
