//! Authors try plugins that need credentials or servers: `pluginctl run` and `pluginctl test` with such inputs.

use crate::{
    authors::{Running, copy_guest, finished_project, run_tests},
    nats::{NatsClient, NatsServer},
};
use plugind_tests::another;
use std::{fs, path::Path};
use tempfile::TempDir;

const GRANTED: &str = "[grants]\ncredentials = [\"token\"]\n";
/// A user of a NATS server.
const USER: &str = "authorization { users = [ { user: a, password: secret } ] }\n";
/// The same in the JSON of a client.
const LOGIN: &str = "\"user\":\"a\",\"pass\":\"secret\",";

/// A directory with a component and its manifest.
fn with_plugin(guest: &str, manifest: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    add_plugin(directory.path(), guest, &guest.replace('_', "-"), manifest);
    directory
}

fn add_plugin(directory: &Path, guest: &str, name: &str, manifest: &str) {
    copy_guest(guest, &directory.join(format!("{name}.wasm")));
    fs::write(directory.join(format!("{name}.toml")), manifest).unwrap();
}

/// Writes a file, and returns the option that has it as its value.
fn option(directory: &TempDir, option: &str, file: &str, text: &str) -> String {
    let path = directory.path().join(file);
    fs::write(&path, text).unwrap();
    format!("{option}{}", path.display())
}

/// Waits until a run has ended by itself, and returns its status.
fn status(running: &mut Running) -> Option<i32> {
    running.child.wait().unwrap().code()
}

#[test]
fn a_plugin_in_a_terminal_has_its_credential_and_a_changed_one() {
    let (plugin, files) = (with_plugin("secret", GRANTED), tempfile::tempdir().unwrap());
    let credential = option(&files, "--credential=token=", "my-token", "old");
    let component = plugin.path().join("secret.wasm");
    let running = Running::start(&component, &["--watch", &credential]);
    assert_eq!(running.get("secret", "/token").text(), "old");
    fs::write(files.path().join("my-token"), "newer").unwrap();
    running.log.wait_for(&["reloaded: 1 changed"]);
    assert_eq!(running.get("secret", "/token").text(), "newer");
    fs::remove_file(files.path().join("my-token")).unwrap();
    running.log.wait_for(&["cannot read ", "my-token"]);
    assert_eq!(running.get("secret", "/token").text(), "newer");
}

#[test]
fn a_credential_that_is_not_given_is_named_with_its_option() {
    let plugin = with_plugin("secret", GRANTED);
    let component = plugin.path().join("secret.wasm");
    let mut running = Running::start(&component, &[]);
    let place = format!("{}/secret.toml:2:15: ", plugin.path().display());
    let remedy = "grants.credentials has token, which is not given; add --credential token=FILE";
    running.log.wait_for(&[&place, remedy]);
    assert_eq!(status(&mut running), Some(1));
    assert_eq!(running.log.count(&["LoadCredential"]), 0);

    let mut running = Running::start(&component, &["--credential", "token=/nowhere"]);
    running.log.wait_for(&["cannot read /nowhere: No such file"]);
    assert_eq!(status(&mut running), Some(1));
}

#[test]
fn plugins_of_a_directory_have_credentials_by_their_names() {
    let plugin = with_plugin("secret", GRANTED);
    add_plugin(plugin.path(), "secret", "other", GRANTED);
    let files = tempfile::tempdir().unwrap();
    let credential = option(&files, "--credential=secret.token=", "my-token", "mine");
    let arguments = ["--watch", credential.as_str()];
    let mut running = Running::start(plugin.path(), &arguments);
    running.log.wait_for(&["other.toml:2:15: ", "add --credential other.token=FILE"]);
    assert_eq!(running.log.count(&["add --credential secret.token"]), 0);
    let other = option(&files, "--credential=other.token=", "its-token", "its");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let running = Running::start(plugin.path(), &[&credential, &other]);
    assert_eq!(running.get("secret", "/token").text(), "mine");
    assert_eq!(running.get("other", "/token").text(), "its");
}

#[test]
fn a_plugin_in_a_terminal_receives_the_messages_of_a_server() {
    let (first, second) = (NatsServer::start_with(USER), NatsServer::start());
    let manifest = "[[subscribe]]\nsubject = \"orders.*\"\n[grants]\npublish = [\"done.*\"]\n";
    let (plugin, files) = (with_plugin("takes_messages", manifest), tempfile::tempdir().unwrap());
    let component = plugin.path().join("takes-messages.wasm");
    let mut running = Running::start(&component, &[]);
    let place = format!("{}/takes-messages.toml:2:11: ", plugin.path().display());
    running.log.wait_for(&[&place, "the plugin receives messages", "and add --config FILE"]);
    assert_eq!(status(&mut running), Some(1));

    let settings = format!("{}credential = \"nats\"\n", first.settings());
    let config = option(&files, "--config=", "my.toml", &settings);
    let mut running = Running::start(&component, &[&config]);
    let remedy = "messaging.credential names the credential nats, which is not given; add --credential nats=FILE";
    running.log.wait_for(&["my.toml:3:14: ", remedy]);
    assert_eq!(status(&mut running), Some(1));

    let login = option(&files, "--credential=nats=", "login", "a:secret\n");
    let running = Running::start(&component, &["--watch", &config, &login]);
    running.log.wait_for(&["takes-messages: runs, without a route"]);
    let mut client = NatsClient::connect(first.address, LOGIN);
    assert_eq!(client.request("orders.new", "one"), "orders.new one");
    // The daemon reads its settings at its start.
    fs::write(files.path().join("my.toml"), "[sockets.web]\nprotocol = \"http\"\n").unwrap();
    running.log.wait_for(&["my.toml:2:12: [sockets.web] must not be set here"]);
    assert_eq!(client.request("orders.new", "two"), "orders.new two");
    fs::write(files.path().join("my.toml"), second.settings()).unwrap();
    running.log.wait_for(&["the settings have changed; restarting plugind"]);
    running.log.wait_for_times(2, &["takes-messages: runs, without a route"]);
    assert_eq!(second.client().request("orders.new", "three"), "orders.new three");
}

#[test]
fn a_project_is_tested_with_a_credential() {
    let project = finished_project("secret");
    fs::write(project.path().join("secret.toml"), GRANTED).unwrap();
    let case = "[[test]]\nname = \"it\"\npath = \"/token\"\nreceive = \"s3cret\"\n";
    let (exit, printed) = run_tests(project.path(), case);
    let remedy = "secret.toml:2:15: grants.credentials has token, which is not given; write token = \"VALUE\" below \
                  [credentials] in test.toml, or add --credential token=FILE";
    assert!(exit == Some(1) && printed.contains(remedy), "{printed}");
    let (exit, printed) =
        run_tests(project.path(), &format!("[credentials]\ntoken = \"s3cret\"\n{case}"));
    assert_eq!(exit, Some(0), "{printed}");
    for (text, mistake) in [
        ("[credentials]\ntoken = 3\n", "test.toml:2:9: credentials.token must be text in quotes"),
        ("[credentials]\n\"a/b\" = \"x\"\n", "credentials: \"a/b\" is not a name of a credential"),
        ("config = \"no.toml\"\n", "test.toml:1:10: config must be a file; "),
    ] {
        let (exit, printed) = run_tests(project.path(), &format!("{text}{case}"));
        assert!(exit == Some(1) && printed.contains(mistake), "{mistake}: {printed}");
    }
}

#[test]
fn a_project_is_tested_with_the_server_of_its_settings() {
    let server = NatsServer::start_with(USER);
    let project = finished_project("sends_messages");
    let manifest = "[grants]\npublish = [\"events.>\"]\n";
    fs::write(project.path().join("sends-messages.toml"), manifest).unwrap();
    let case = "[[test]]\nname = \"it\"\npath = \"/send/events.a/one\"\nreceive = \"sent\"\n";
    let (exit, printed) = run_tests(project.path(), case);
    let remedy = "sends-messages.toml:2:11: the plugin sends messages, and the daemon has no NATS server; write url = \
                  \"nats://HOST:4222\" below [messaging] in a file, and config = \"FILE\" at the top of test.toml";
    assert!(exit == Some(1) && printed.contains(remedy), "{printed}");

    let settings = format!("{}credential = \"nats\"\n", server.settings());
    fs::write(project.path().join("plugind.toml"), settings).unwrap();
    let inputs = "config = \"plugind.toml\"\n[credentials]\nnats = \"a:secret\"\n";
    let mut client = NatsClient::connect(server.address, LOGIN);
    client.subscribe("events.a");
    let (exit, printed) = run_tests(project.path(), &format!("{inputs}{case}"));
    assert_eq!(exit, Some(0), "{printed}");
    assert_eq!(client.next().text, "one");
}

/// A project of a guest, with a manifest.
fn project_with(guest: &str, manifest: &str) -> TempDir {
    let project = finished_project(guest);
    let file = format!("{}.toml", guest.replace('_', "-"));
    fs::write(project.path().join(file), manifest).unwrap();
    project
}

#[test]
fn a_project_is_tested_with_its_next_version_and_a_restart() {
    let project = project_with("keeps", "");
    fs::write(project.path().join("next.wasm"), another("keeps")).unwrap();
    fs::write(project.path().join("next.toml"), "[config]\nrestore = \"fail\"\n").unwrap();
    fs::write(project.path().join("wrong.toml"), "[limits]\nmemory-max = 3\n").unwrap();
    let tests = "[[test]]\nname = \"first\"\npath = \"/\"\ncontains = [\"count=1\"]\n\
                 [[test]]\nname = \"next\"\nreplace-component = \"next.wasm\"\npath = \"/\"\n\
                 contains = [\"generation=2 count=2\"]\nlog = [\"restored count=1\"]\n\
                 [[test]]\nname = \"again\"\nrestart = true\npath = \"/\"\ncontains = [\"count=3\"]\n\
                 [[test]]\nname = \"config\"\nreplace-manifest = \"next.toml\"\n\
                 [[test]]\nname = \"wrong\"\nreplace-manifest = \"wrong.toml\"\n\
                 [[test]]\nname = \"none\"\nreplace-component = \"no.wasm\"\n\
                 [[test]]\nname = \"last\"\npath = \"/\"\ncontains = [\"count=4\"]\n";
    let (exit, printed) = run_tests(project.path(), tests);
    assert_eq!(exit, Some(1), "{printed}");
    for line in ["ok: first", "ok: next", "ok: again", "ok: last", "4 passed, 3 failed"] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    for message in [
        "FAILED: config: keeps: not reloaded: failed at handover: ",
        "wrong.toml:2:14: limits.memory-max must be",
        "no.wasm: No such file or directory",
    ] {
        assert!(printed.contains(message), "{message}: {printed}");
    }
}

#[test]
fn a_project_is_tested_by_the_state_of_its_plugin() {
    let manifest = "[service]\nwatchdog-sec = \"100ms\"\nrestart = \"no\"\n[instances]\nmax = 1\n";
    let project = project_with("unhealthy", manifest);
    let tests = "[[test]]\nname = \"weak\"\npath = \"/weaken\"\nstate = \"degraded\"\n\
                 [[test]]\nname = \"sick\"\npath = \"/sicken\"\nstate = \"failed\"\n\
                 [[test]]\nname = \"gone\"\npath = \"/\"\nstatus = 503\n\
                 [[test]]\nname = \"back\"\nrestart = true\npath = \"/\"\nstate = \"active\"\n";
    let (exit, printed) = run_tests(project.path(), tests);
    assert_eq!(exit, Some(0), "{printed}");
    let other = "[[test]]\nname = \"other\"\nstate = \"failed\"\n";
    let (exit, printed) = run_tests(project.path(), other);
    let message = "FAILED: other: the state is active (running), expected failed";
    assert!(exit == Some(1) && printed.contains(message), "{printed}");
}

#[test]
fn a_project_is_tested_while_its_plugin_is_stopped() {
    let project = project_with("says_stop", "");
    let tests = "[[test]]\nname = \"stop\"\nstop = true\npath = \"/\"\nstatus = 503\nstate = \"stopped\"\n\
                 log = [\"stopped: StopReason::Stop\"]\n\
                 [[test]]\nname = \"start\"\nstart = true\npath = \"/\"\nreceive = \"fine\"\n";
    let (exit, printed) = run_tests(project.path(), tests);
    assert_eq!(exit, Some(0), "{printed}");
}
