//! The harness for authors, `plugind-test`, with guests of these tests.

use crate::{nats::NatsServer, streams::exchange};
use plugind_test::{Entry, Host, Priority};
use plugind_tests::{another, guest, program};
use std::{
    fs,
    path::PathBuf,
    sync::Once,
    thread,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Runs the programs under test.
fn use_programs() {
    static PROGRAMS: Once = Once::new();
    PROGRAMS.call_once(|| plugind_test::use_programs(&program("plugind"), &program("pluginctl")));
}

/// A host for the plugin `name`.
fn with(name: &str, component: &str) -> plugind_test::HostBuilder {
    use_programs();
    Host::with(name, guest(component))
}

#[test]
fn a_plugin_is_tested_with_its_configuration_and_its_log() {
    let host = with("shows", "config").manifest("[config]\nword = \"one\"\n").start();
    let response = host.get("");
    assert_eq!((response.status, response.text()), (200, "word=one\n"));
    assert_eq!(host.status()["plugin"]["activeState"], "active");
    host.wait_for_log("plugin ready plugin=shows");
    host.replace_manifest("[config]\nword = \"two\"\n");
    assert_eq!(host.get("").text(), "word=two\n");
    host.replace_component(guest("greeter_02"));
    assert_eq!(host.get("").text(), "Hello from a wasi:http 0.2 component\n");
    host.restart();
    let (status, log) = host.stop();
    assert!(status.success());
    log.wait_for("plugind: stopped");
}

#[test]
fn the_response_to_head_has_the_length_of_a_body_that_does_not_come() {
    let host = with("hello", "hello").start();
    let length = host.get("").body.len().to_string();
    let response = host.request("HEAD", "", &[], b"");
    assert_eq!((response.status, response.text()), (200, ""));
    assert_eq!(response.header("content-length"), Some(&*length));
}

#[test]
fn a_body_of_unknown_length_is_read_to_its_end() {
    let host = with("streams", "streams").start();
    let body = "x".repeat(3_000_000);
    assert_eq!(host.get("/down/3000000").text(), body);
    let echoed = host.request("POST", "/echo", &[], body.as_bytes());
    assert!(echoed.text() == body, "{} bytes", echoed.body.len());
}

#[test]
#[should_panic(expected = "has no complete response")]
fn a_response_that_breaks_off_fails_the_test() {
    let manifest = "[limits]\nidle-timeout = \"500ms\"\n";
    let _response = with("streams", "streams").manifest(manifest).start().get("/stalls");
}

#[test]
fn a_project_may_be_in_a_relative_directory() {
    let directory = tempfile::tempdir().unwrap();
    let settings = "name = \"x\"\nbuild = \"touch x.wasm\"\ncomponent = \"x.wasm\"\n";
    fs::write(directory.path().join("pluginctl.toml"), settings).unwrap();
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    let relative = "../".repeat(depth) + directory.path().to_str().unwrap().trim_start_matches('/');
    use_programs();
    let component = plugind_test::build(&relative);
    assert!(component.is_relative() && component.exists(), "{}", component.display());
}

#[test]
fn the_entries_of_a_log_are_values() {
    let host = with("logs", "logs").start();
    assert_eq!(host.get("/log").status, 200);
    let entry = host.log().wait_for_entry(|entry| entry.message == "an info entry");
    assert_eq!((entry.priority, entry.plugin.as_deref()), (Priority::Info, Some("logs")));
    assert_eq!(entry.field("request-id"), Some("5"));
    assert_eq!(entry.field("user"), Some("a \"quoted\" name"));
    assert_eq!(entry.field("trace_id").map(str::len), Some(32), "{entry:?}");
    assert_eq!(entry.field("users"), None);
    let (_, log) = host.stop();
    let entries = log.entries();
    let of_plugin = entries.iter().filter(|entry| entry.plugin.is_some());
    let written: Vec<_> = of_plugin.map(|it| (it.priority, it.message.as_str())).collect();
    let expected = [
        (Priority::Critical, "a critical entry"),
        (Priority::Error, "an error entry"),
        (Priority::Warning, "a warning entry"),
        (Priority::Notice, "a notice entry"),
        (Priority::Info, "an info entry"),
        (Priority::Debug, "a debug entry"),
        (Priority::Info, "an entry without fields"),
    ];
    assert_eq!(written[..expected.len()], expected);
    let of_host = |message: &str| {
        let mut entries = entries.iter().filter(|entry| entry.plugin.is_none());
        entries.find(|entry| entry.message == message).unwrap_or_else(|| panic!("{entries:?}"))
    };
    assert_eq!(of_host("plugin ready").field("route"), Some("/logs"));
    assert_eq!(of_host("stopped").fields, []);
}

#[test]
fn a_value_of_an_entry_is_the_text_that_the_plugin_wrote() {
    let manifest = "[config]\ngreeting = \"a \\\"b\\\" \\\\u{41} =c\\nd=e\"\n";
    let host = with("hello", "hello").manifest(manifest).start();
    let entry = host.log().wait_for_entry(|entry| entry.message == "greeting loaded");
    let expected = Entry {
        priority: Priority::Info,
        plugin: Some("hello".to_owned()),
        message: "greeting loaded".to_owned(),
        fields: vec![("greeting".to_owned(), "a \"b\" \\u{41} =c\nd=e".to_owned())],
    };
    assert_eq!(entry, expected);
}

#[test]
fn the_health_of_a_plugin_is_its_state() {
    let manifest = "[service]\nwatchdog-sec = \"100ms\"\nrestart = \"no\"\n[instances]\nmax = 1\n";
    let host = with("unhealthy", "unhealthy").manifest(manifest).start();
    assert_eq!(host.status()["plugin"]["subState"], "running");
    assert_eq!(host.get("/weaken").text(), "fine");
    let status = host.wait_for_state("degraded");
    assert_eq!(status["plugin"]["degraded"], "weak", "{status}");
    assert_eq!(host.get("/sicken").text(), "fine");
    let status = host.wait_for_state("failed");
    assert_eq!(status["plugin"]["result"], "unhealthy", "{status}");
    assert_eq!(host.get("").status, 503);
}

/// Another version of a guest, in a directory of its own.
fn next_version(component: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("next.wasm");
    fs::write(&path, another(component)).unwrap();
    (directory, path)
}

#[test]
fn the_state_of_a_plugin_survives_another_version_and_a_restart() {
    let host = with("keeps", "keeps").start();
    let counted = |count: &str| {
        let response = host.get("");
        assert!(response.text().ends_with(count), "{response:?}");
    };
    counted("count=1");
    let (_directory, next) = next_version("keeps");
    host.replace_component(next);
    counted("count=2");
    host.restart();
    counted("count=3");
    let entry = host.log().wait_for_entry(|entry| entry.message == "restored");
    assert_eq!(entry.field("count"), Some("1"), "{entry:?}");
    host.stop_plugin();
    host.start_plugin();
    counted("count=1");
}

#[test]
fn a_plugin_is_stopped_with_the_reason_that_a_test_chooses() {
    let host = with("says-stop", "says_stop").start();
    host.stop_plugin();
    let reason = |reason: &str| {
        let message = format!("stopped: StopReason::{reason}");
        host.log().wait_for_entry(|entry| entry.message == message);
    };
    reason("Stop");
    assert_eq!(host.status()["plugin"]["subState"], "stopped");
    assert_eq!(host.get("").status, 503);
    host.start_plugin();
    assert_eq!(host.get("").text(), "fine");
    host.restart();
    reason("Reload");
    let (status, log) = host.stop();
    assert!(status.success());
    log.wait_for_entry(|entry| entry.message == "stopped: StopReason::Shutdown");
}

#[test]
fn a_plugin_is_tested_with_a_credential() {
    let manifest = "[grants]\ncredentials = [\"token\"]\n";
    let host = with("keeps", "secret").manifest(manifest).credential("token", "s3cret").start();
    assert_eq!(host.get("/token").text(), "s3cret");
}

#[test]
fn a_plugin_is_tested_with_a_server_of_messages() {
    let users = "authorization { users = [ { user: a, password: secret } ] }\n";
    let server = NatsServer::start_with(users);
    let settings = format!("{}credential = \"nats\"\n", server.settings());
    let host = with("sends", "sends_messages")
        .manifest("[grants]\npublish = [\"events.>\"]\n")
        .settings(&settings)
        .credential("nats", "a:secret")
        .start();
    assert_eq!(host.get("/send/events.a/one").text(), "sent");
}

#[test]
fn a_plugin_of_a_socket_is_tested() {
    let (host, address) = with("echo", "echo").tcp("echo");
    let _host = host.start();
    assert_eq!(exchange(address, "hello"), "hello");
}

/// The time that the guests wait, by which only the clocks of plugins are moved.
const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn timers_of_a_plugin_fire_when_its_clock_is_advanced() {
    let host = with("alarm", "alarm").movable_clock().start();
    host.wait_for_log("alarm set");
    host.advance_clock(HOUR / 2);
    host.advance_clock(HOUR / 2);
    host.wait_for_log("alarm rang");
}

#[test]
fn the_time_of_day_of_a_plugin_is_what_the_test_sets() {
    let host = with("alarm", "alarm").movable_clock().start();
    let millennium = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
    host.set_time(millennium);
    host.advance_clock(24 * HOUR);
    let seconds: u64 = host.get("").text().parse().unwrap();
    assert!((946_771_200..946_774_800).contains(&seconds), "{seconds}");
}

#[test]
fn guests_of_both_versions_need_not_wait_for_an_hour() {
    for component in ["sleeps", "sleeps_02"] {
        let host = with("sleeps", component).movable_clock().start();
        thread::scope(|scope| {
            let slept = scope.spawn(|| host.get("/sleep/3600000"));
            // A timer that begins after this call fires at the next one.
            while !slept.is_finished() {
                host.advance_clock(HOUR);
            }
            assert_eq!(slept.join().unwrap().text(), "slept", "{component}");
        });
    }
}

#[test]
#[should_panic(expected = "call HostBuilder::movable_clock")]
fn the_clock_of_a_plugin_cannot_be_moved_by_default() {
    with("sleeps", "sleeps").start().advance_clock(HOUR);
}

#[test]
#[should_panic(expected = "did not become ready")]
fn a_plugin_that_does_not_become_ready_fails_the_test() {
    let _host = with("shows", "config").manifest("[limits]\nmemory-max = 3\n").start();
}
