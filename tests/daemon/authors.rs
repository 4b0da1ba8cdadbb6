//! The author's commands: a project is made, built and served in a terminal, and what changes is served at once.

use crate::{compiler::compiler, streams::exchange};
use plugind_tests::{Connection, Log, Signal, client::Response, guest, program};
use rustix::process::{Pid, kill_process};
use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use wit_bindgen_core::wit_parser::Resolve;

/// `pluginctl run` with what it prints, which is ended when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) log: Log,
    home: TempDir,
}

fn pluginctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("pluginctl"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

impl Running {
    pub(crate) fn start(path: &Path, arguments: &[&str]) -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), path, arguments)
    }

    /// Starts it with this home directory.
    fn start_at(home: TempDir, path: &Path, arguments: &[&str]) -> Self {
        let (output, printed) = io::pipe().unwrap();
        let mut command = pluginctl(&["run", "--listen", "127.0.0.1:0"]);
        command.args(arguments).arg(path).env("HOME", home.path()).env("TMPDIR", home.path());
        let child = command.stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap();
        // The command holds ends of the pipe for writing, and the log is complete only when all of them are closed.
        drop(command);
        Self { child, log: Log::read(output), home }
    }

    /// Waits for the URL of a plugin, and asks for a path below it.
    pub(crate) fn get(&self, plugin: &str, path: &str) -> Response {
        let line = self.log.wait_for(&[&format!("{plugin}: http://")]);
        let (address, route) =
            line.split_once("http://").and_then(|(_, url)| url.split_once('/')).unwrap();
        Connection::to(address.parse::<SocketAddr>().unwrap()).get(&format!("/{route}{path}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            self.child.wait().ok();
        }
    }
}

pub(crate) fn copy_guest(name: &str, to: &Path) {
    fs::copy(guest(name), to).unwrap();
}

#[test]
fn a_component_is_served_whatever_its_file_is_called_and_nothing_stays() {
    let directory = tempfile::tempdir().unwrap();
    let component = directory.path().join("My Greeter.bin");
    copy_guest("greeter_02", &component);
    let mut running = Running::start(&component, &[]);
    let answer = running.get("my-greeter", "");
    assert_eq!(answer.status_and_text(), (200, "Hello from a wasi:http 0.2 component\n"));
    let daemon = daemon_of(&running.child);
    running.signal(Signal::INT);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(!Path::new("/proc").join(daemon).exists(), "the daemon still runs");
    let left = fs::read_dir(running.home.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, [".cache"], "only what is compiled is kept");
}

/// The number of the daemon's process, which is the only child.
fn daemon_of(child: &Child) -> String {
    let pid = child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_changed_component_and_a_changed_manifest_take_over() {
    let directory = tempfile::tempdir().unwrap();
    let (component, manifest) =
        (directory.path().join("shows.wasm"), directory.path().join("shows.toml"));
    copy_guest("config", &component);
    fs::write(&manifest, "[config]\nword = \"one\"\n").unwrap();
    let running = Running::start(&component, &["--watch"]);
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    fs::write(&manifest, "[config]\nword = \"two\"\n").unwrap();
    running.log.wait_for(&["reloaded: 1 changed"]);
    assert_eq!(running.get("shows", "").text(), "word=two\n");
    // A mistake is reported, and the previous version keeps serving.
    fs::write(&manifest, "[config]\nword = 3\n").unwrap();
    running.log.wait_for(&["shows.toml:2:8: config.word must be text in quotes"]);
    assert_eq!(running.get("shows", "").text(), "word=two\n");
    copy_guest("greeter_02", &component);
    fs::remove_file(&manifest).unwrap();
    running.log.wait_for_times(2, &["reloaded: 1 changed"]);
    assert_eq!(running.get("shows", "").text(), "Hello from a wasi:http 0.2 component\n");
}

#[test]
fn the_compilation_of_a_plugin_is_shown_until_it_is_served() {
    let (directory, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let component = directory.path().join("shows.wasm");
    copy_guest("config", &component);
    let cache = home.path().join(".cache/plugind/run");
    fs::create_dir_all(&cache).unwrap();
    symlink(program("plugind-compile"), cache.join("plugind-compile")).unwrap();
    let compiler = format!("--compiler={}", compiler("waits-for-go"));
    let running = Running::start_at(home, &component, &["--watch", &compiler]);
    running.log.wait_for(&["starting: 0 of 1 ready (waiting for shows)"]);
    running.log.wait_for(&["info    plugind: compiling plugin=shows seconds="]);
    assert_eq!(running.log.count(&["shows: http://"]), 0, "it is not served yet");
    fs::write(cache.join("go"), "").unwrap();
    assert_eq!(running.get("shows", "").status(), 200);
    fs::remove_file(cache.join("go")).unwrap();
    copy_guest("greeter_02", &component);
    running.log.wait_for(&["compiling 1 of 1: shows"]);
    assert_eq!(running.log.count(&["reloaded:"]), 0, "the previous version serves");
    fs::write(cache.join("go"), "").unwrap();
    running.log.wait_for(&["reloaded: 1 changed"]);
}

#[test]
fn a_watched_component_is_compiled_for_an_engine_of_its_own() {
    let (directory, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let component = directory.path().join("shows.wasm");
    copy_guest("config", &component);
    for (options, compiled) in [(&[][..], 1), (&["--watch"][..], 2), (&[][..], 2)] {
        let home = tempfile::tempdir().unwrap();
        symlink(cache.path(), home.path().join(".cache")).unwrap();
        let running = Running::start_at(home, &component, options);
        assert_eq!(running.get("shows", "").status(), 200);
        let files = fs::read_dir(cache.path().join("plugind/run")).unwrap().flatten();
        let is_code = |path: &PathBuf| path.extension().is_some_and(|it| it == "cwasm");
        let files: Vec<_> = files.map(|file| file.path()).filter(is_code).collect();
        assert_eq!(files.len(), compiled, "{options:?}: {files:?}");
    }
}

/// A project whose build copies a component from `source.wasm`.
fn project() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source.wasm");
    copy_guest("config", &source);
    let text = "name = \"shows\"\nbuild = \"echo building it; cp source.wasm built.bin\"\n\
                component = \"built.bin\"\nwatch = [\"source.wasm\"]\n";
    fs::write(directory.path().join("pluginctl.toml"), text).unwrap();
    fs::write(directory.path().join("shows.toml"), "[config]\nword = \"one\"\n").unwrap();
    (directory, source)
}

#[test]
fn a_project_is_built_and_built_again_when_its_sources_change() {
    let (directory, source) = project();
    let running = Running::start(directory.path(), &["--watch"]);
    running.log.wait_for(&["building it"]);
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    copy_guest("greeter_02", &source);
    running.log.wait_for(&["reloaded: 1 changed"]);
    assert_eq!(running.get("shows", "").text(), "Hello from a wasi:http 0.2 component\n");
    fs::remove_file(&source).unwrap();
    running.log.wait_for(&["the build failed"]);
    assert_eq!(running.get("shows", "").status(), 200);
}

#[test]
fn a_changed_manifest_is_served_without_another_build() {
    let (directory, source) = project();
    let running = Running::start(directory.path(), &["--watch"]);
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    let manifest = directory.path().join("shows.toml");
    fs::write(&manifest, "[config]\nword = \"two\"\n").unwrap();
    running.log.wait_for(&["reloaded: 1 changed"]);
    assert_eq!(running.get("shows", "").text(), "word=two\n");
    // A mistake names the author's file, and nothing is reloaded.
    fs::write(&manifest, "[config]\nword = 3\n").unwrap();
    running.log.wait_for(&[&format!("{}:2:8: config.word must be text", manifest.display())]);
    fs::write(&manifest, "[config]\nword = \"two\"\n").unwrap();
    let draft = directory.path().join("draft");
    copy_guest("greeter_02", &draft);
    fs::rename(&draft, &source).unwrap();
    running.log.wait_for_times(2, &["building shows"]);
    running.log.wait_for_times(2, &["reloaded: 1 changed"]);
    assert_eq!(running.log.count(&["building it"]), 2, "a manifest needs no build");
    assert_eq!(running.log.count(&["config.word must be text"]), 1, "it is reported once");
}

#[test]
fn sources_that_changed_beside_a_mistake_are_built_when_it_is_corrected() {
    let (directory, source) = project();
    let running = Running::start(directory.path(), &["--watch"]);
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    let manifest = directory.path().join("shows.toml");
    fs::write(&manifest, "[config]\nword = 3\n").unwrap();
    running.log.wait_for(&["config.word must be text"]);
    let draft = directory.path().join("draft");
    copy_guest("greeter_02", &draft);
    fs::rename(&draft, &source).unwrap();
    running.log.wait_for_times(2, &["config.word must be text"]);
    fs::write(&manifest, "[config]\nword = \"two\"\n").unwrap();
    running.log.wait_for(&["reloaded: 1 changed"]);
    assert_eq!(running.get("shows", "").text(), "Hello from a wasi:http 0.2 component\n");
}

#[test]
fn a_project_is_served_as_soon_as_a_build_succeeds() {
    let (directory, source) = project();
    let draft = directory.path().join("draft");
    fs::rename(&source, &draft).unwrap();
    let running = Running::start(directory.path(), &["--watch"]);
    running.log.wait_for(&["nothing is served; waiting for a change"]);
    fs::rename(&draft, &source).unwrap();
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    assert_eq!(running.log.count(&["is ignored"]), 0, "no plugin without a component is served");
}

#[test]
fn messages_name_the_files_of_the_author() {
    let directory = tempfile::tempdir().unwrap();
    let component = directory.path().join("my_plugin.wasm");
    copy_guest("config", &component);
    let manifest = directory.path().join("my-plugin.toml");
    // Only the daemon compares the manifest with the component.
    fs::write(&manifest, "[grants]\ncredentials = [\"a\"]\n").unwrap();
    let running = Running::start(&component, &[]);
    running.log.wait_for(&[&format!("{}:2:", manifest.display()), "credentials"]);
    running.log.wait_for(&["my_plugin.wasm is the plugin my-plugin here; rename it"]);
    assert_eq!(running.log.count(&["/plugins/my-plugin"]), 0);
}

/// Runs `pluginctl check` in a directory, and returns the exit status and what it printed.
fn check_in(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = pluginctl(&["check"]);
    command.args(arguments).current_dir(directory);
    let ran = command.env("HOME", home.path()).env("TMPDIR", home.path()).output().unwrap();
    let text = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (ran.status.code(), text.concat())
}

#[test]
fn a_project_is_checked_under_its_name_with_its_manifest() {
    let (directory, source) = project();
    let (status, printed) = check_in(directory.path(), &[]);
    assert!(printed.contains("built.bin does not exist; create it with `pluginctl build`"));
    assert_eq!(status, Some(1), "{printed}");
    fs::copy(&source, directory.path().join("built.bin")).unwrap();
    for arguments in [&[][..], &["."], &["shows.toml"], &["pluginctl.toml"], &["built.bin"]] {
        let (status, printed) = check_in(directory.path(), arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {printed}");
        assert!(printed.contains("served as shows, at /shows"), "{arguments:?}: {printed}");
    }
    fs::write(directory.path().join("shows.toml"), "[limit]\n").unwrap();
    for arguments in [&[][..], &["shows.toml"], &["built.bin"]] {
        let (status, printed) = check_in(directory.path(), arguments);
        assert_eq!(status, Some(1), "{arguments:?}: {printed}");
        let message = "shows.toml:1:2: unknown key \"limit\"";
        assert_eq!(printed.matches(message).count(), 1, "{arguments:?}: {printed}");
    }
}

#[test]
fn middleware_is_reported_with_how_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    copy_guest("cors", &directory.path().join("cors.wasm"));
    let (status, printed) = check_in(directory.path(), &["cors.wasm"]);
    assert_eq!(status, Some(0), "{printed}");
    let how = "cors, middleware without a route: name it in middleware = [\"cors\"]";
    assert!(printed.contains(how), "{printed}");
}

#[test]
fn a_directory_of_plugins_is_served_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["greeter_02", "config"] {
        let file = format!("{}.wasm", name.replace('_', "-"));
        copy_guest(name, &directory.path().join(file));
    }
    let running = Running::start(directory.path(), &[]);
    for plugin in ["greeter-02", "config"] {
        assert_eq!(running.get(plugin, "").status(), 200, "{plugin}");
    }
}

#[test]
fn a_changed_file_of_a_directory_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    copy_guest("config", &file("shows.wasm"));
    copy_guest("greeter_02", &file("other.wasm"));
    let running = Running::start(directory.path(), &["--watch"]);
    assert_eq!(running.get("shows", "").text(), "");
    fs::write(file("shows.toml"), "[config]\nword = \"one\"\n").unwrap();
    running.log.wait_for(&["reloaded: 1 changed, 0 removed, 1 unchanged, 0 failed"]);
    assert_eq!(running.get("shows", "").text(), "word=one\n");
    copy_guest("greeter_02", &file("draft"));
    fs::rename(file("draft"), file("shows.wasm")).unwrap();
    running.log.wait_for_times(2, &["reloaded: 1 changed, 0 removed, 1 unchanged, 0 failed"]);
    assert_eq!(running.get("shows", "").text(), "Hello from a wasi:http 0.2 component\n");
    fs::remove_file(file("other.wasm")).unwrap();
    running.log.wait_for(&["reloaded: 0 changed, 1 removed, 1 unchanged, 0 failed"]);
    assert_eq!(running.get("other", "").status(), 404);
}

#[test]
fn a_plugin_that_serves_a_socket_gets_a_free_port() {
    let directory = tempfile::tempdir().unwrap();
    let component = directory.path().join("echo.wasm");
    copy_guest("echo", &component);
    let running = Running::start(&component, &[]);
    let line = running.log.wait_for(&["echo: tcp://127.0.0.1:"]);
    let address = line.split_once("tcp://").unwrap().1;
    assert_eq!(exchange(address.parse().unwrap(), "hello"), "hello");
}

#[test]
fn the_url_of_a_plugin_that_serves_only_websockets_is_one_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let component = directory.path().join("messages.wasm");
    copy_guest("messages", &component);
    let running = Running::start(&component, &[]);
    let line = running.log.wait_for(&["messages: ws://127.0.0.1:"]);
    let (_, url) = line.split_once("messages: ").unwrap();
    let stream = TcpStream::connect(url.trim_start_matches("ws://").split_once('/').unwrap().0);
    let (mut client, _) = tungstenite::client(url, stream.unwrap()).unwrap();
    client.send(tungstenite::Message::text("hello")).unwrap();
    assert_eq!(client.read().unwrap(), tungstenite::Message::text("hello"));
}

#[test]
fn mistakes_of_an_author_have_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().to_str().unwrap();
    let missing = format!("{empty}/no/where");
    for (arguments, message) in [
        (vec!["run", empty], "has neither pluginctl.toml nor components"),
        (vec!["run", "/nonexistent"], "cannot read /nonexistent"),
        (vec!["build", empty], "pluginctl.toml; `pluginctl new` makes a project"),
        (
            vec!["new", "--lang", "js", "--directory", empty, "Shop"],
            "a name can have only a-z, 0-9 and -",
        ),
        (vec!["new", "--lang", "cobol", "shop"], "[possible values: "),
        (
            vec!["new", "--lang", "c", "--kind", "cron", "shop"],
            "connection, datagram, websocket, job",
        ),
        (
            vec!["new", "--lang", "c", "--directory", &missing, "shop"],
            "no/where must be an existing directory; create it, or correct --directory",
        ),
        (
            vec!["new", "--lang", "c", "--directory", "/dev/null", "shop"],
            "/dev/null must be an existing directory",
        ),
        (
            vec!["new", "--lang", "rust", "--kind", "job", "--directory", empty, "deps"],
            "a project in Rust cannot have the name deps, which is the name of a directory of cargo",
        ),
        (
            vec!["new", "--lang", "rust", "--directory", empty, "plugind-sdk"],
            "plugind-sdk, which is the name of a crate that the project contains",
        ),
    ] {
        let ran = pluginctl(&arguments).output().unwrap();
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success() && stderr.contains(message), "{arguments:?}: {stderr}");
        assert_eq!(fs::read_dir(empty).unwrap().count(), 0, "{arguments:?} left something");
    }
    fs::write(directory.path().join("pluginctl.toml"), "name = \"a\"\n").unwrap();
    let ran = pluginctl(&["build", empty]).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(stderr.contains("component is missing; write component = "), "{stderr}");
}

/// Runs `pluginctl test` with these tests, and returns the exit status and what it printed.
pub(crate) fn run_tests(directory: &Path, tests: &str) -> (Option<i32>, String) {
    fs::write(directory.join("test.toml"), tests).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = pluginctl(&["test", directory.to_str().unwrap()]);
    let ran = command.env("HOME", home.path()).env("TMPDIR", home.path()).output().unwrap();
    let text = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (ran.status.code(), text.concat())
}

/// A project that consists of a component, which is a guest of the tests.
pub(crate) fn finished_project(name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy_guest(name, &directory.path().join("built.wasm"));
    let name = name.replace('_', "-");
    let text = format!("name = \"{name}\"\ncomponent = \"built.wasm\"\n");
    fs::write(directory.path().join("pluginctl.toml"), text).unwrap();
    directory
}

#[test]
fn a_project_is_tested_by_requests_and_by_its_log() {
    let project = finished_project("config");
    fs::write(project.path().join("config.toml"), "[config]\nword = \"one\"\n").unwrap();
    let good = "[[test]]\nname = \"config\"\npath = \"/\"\nreceive = \"word=one\\n\"\n\
                contains = [\"word\"]\nlog = [\"plugin ready\"]\n";
    let (status, printed) = run_tests(project.path(), good);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("ok: config") && printed.contains("1 passed, 0 failed"), "{printed}");
    let bad = "[[test]]\nname = \"text\"\npath = \"/\"\nreceive = \"word=two\\n\"\n\
               [[test]]\nname = \"status\"\npath = \"/\"\nstatus = 404\n\
               [[test]]\nname = \"field\"\npath = \"/\"\nresponse-headers = { x-a = \"b\" }\n\
               [[test]]\nname = \"socket\"\nconnection = \"nowhere\"\n";
    let (status, printed) = run_tests(project.path(), &format!("{good}{bad}"));
    assert_eq!(status, Some(1), "{printed}");
    for message in [
        "FAILED: text: received \"word=one\\n\", expected \"word=two\\n\"",
        "FAILED: status: the status is 200, expected 404",
        "FAILED: field: the header field x-a is None, expected \"b\"",
        "FAILED: socket: the plugin serves no socket nowhere of this kind",
        "1 passed, 4 failed",
        "plugin ready plugin=config",
    ] {
        assert!(printed.contains(message), "{message}: {printed}");
    }
}

#[test]
fn the_log_of_a_failed_test_has_the_entry_about_its_instance() {
    let project = finished_project("traps_02");
    let (status, printed) = run_tests(project.path(), "[[test]]\nname = \"x\"\npath = \"/trap\"\n");
    assert_eq!(status, Some(1), "{printed}");
    assert!(printed.contains("FAILED: x: the status is 502"), "{printed}");
    assert!(printed.contains("instance failed plugin=traps-02"), "{printed}");
    assert!(printed.contains("plugind: stopped"), "the log is complete: {printed}");
}

#[test]
fn a_project_is_tested_by_connections_datagrams_and_websockets() {
    for (guest, action) in [
        ("echo", "connection = \"echo\"\nreceive = \"Ada\""),
        ("clock", "datagram = \"clock\"\ncontains = [\".\"]"),
        ("chat", "websocket = \"/?name=Bob\"\ncontains = [\"Bob\"]"),
    ] {
        let project = finished_project(guest);
        let tests = format!("[[test]]\nname = \"socket\"\nsend = \"Ada\"\n{action}\n");
        let (status, printed) = run_tests(project.path(), &tests);
        assert_eq!(status, Some(0), "{guest}: {printed}");
    }
}

#[test]
fn a_test_that_is_interrupted_leaves_no_daemon_and_no_file() {
    let project = finished_project("sleeps");
    let case = |name, path| format!("[[test]]\nname = \"{name}\"\npath = \"{path}\"\n");
    let tests = [case("first", "/"), case("slow", "/sleep/1000"), case("last", "/")].concat();
    fs::write(project.path().join("test.toml"), tests).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = pluginctl(&["test", project.path().to_str().unwrap()]);
    command.env("HOME", home.path()).env("TMPDIR", home.path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = Log::read(child.stdout.take().unwrap());
    log.wait_for(&["ok: first"]);
    let daemon = daemon_of(&child);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert!(!Path::new("/proc").join(daemon).exists(), "the daemon still runs");
    assert_eq!(log.count(&["last"]), 0);
    let left = fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), [".cache"], "only what is compiled is kept");
}

#[test]
fn a_test_advances_the_clock_of_the_plugin() {
    let project = finished_project("alarm");
    let tests = "[[test]]\nname = \"set\"\nlog = [\"alarm set\"]\n\
                 [[test]]\nname = \"rang\"\nadvance-clock = \"1h\"\nlog = [\"alarm rang\"]\n";
    let (status, printed) = run_tests(project.path(), tests);
    assert_eq!(status, Some(0), "{printed}");
    let tests = "[[test]]\nname = \"once\"\nadvance-clock = \"infinity\"\n\
                 [[test]]\nname = \"twice\"\nadvance-clock = \"1h\"\n";
    let (status, printed) = run_tests(project.path(), tests);
    assert_eq!(status, Some(1), "{printed}");
    assert!(printed.contains("advance the clock by more than 100 years"), "{printed}");
}

#[test]
fn a_plugin_that_does_not_become_ready_fails_its_tests_with_its_log() {
    let project = finished_project("config");
    let test = "[[test]]\nname = \"x\"\npath = \"/\"\n";
    fs::write(project.path().join("config.toml"), "[grants]\ncredentials = [\"a\"]\n").unwrap();
    let (status, printed) = run_tests(project.path(), test);
    assert_eq!(status, Some(1), "{printed}");
    let named = printed.contains(&format!("{}/config.toml:2:", project.path().display()));
    assert!(printed.contains("did not become ready") && named, "{printed}");
    // What the manifest alone shows is reported before a daemon starts.
    fs::write(project.path().join("config.toml"), "[limits]\nmemory-max = 3\n").unwrap();
    let (status, printed) = run_tests(project.path(), test);
    assert_eq!((status, printed.lines().count()), (Some(1), 1), "{printed}");
    assert!(printed.contains("limits.memory-max must be"), "{printed}");
    let (_, printed) = run_tests(project.path(), "[[test]]\npaht = \"/\"\n");
    assert!(printed.contains("test.toml:1:1: test.name is missing"), "{printed}");
    let key = "test.toml:2:1: unknown key \"test.paht\"; did you mean \"path\"?";
    assert!(printed.lines().any(|line| line.ends_with(key)), "{printed}");
}

#[test]
fn the_package_is_written_with_async_functions_or_without() {
    let directory = tempfile::tempdir().unwrap();
    for (name, options) in [("async", &[][..]), ("sync", &["--sync"][..])] {
        let package = directory.path().join(name);
        let written = || pluginctl(&["wit"]).args(options).arg(&package).output().unwrap();
        assert!(written().status.success());
        let again = written();
        let message = format!("{} exists already; choose another directory", package.display());
        assert!(String::from_utf8_lossy(&again.stderr).contains(&message), "{again:?}");
        let mut resolve = Resolve::default();
        resolve.push_dir(&package).unwrap();
        let names: Vec<_> =
            resolve.interfaces.iter().filter_map(|(_, it)| it.name.clone()).collect();
        let functions = resolve.interfaces.iter().flat_map(|(_, it)| it.functions.values());
        let waits = functions.filter(|function| function.kind.is_async()).count();
        assert_eq!(waits > 0, name == "async", "{waits} async functions");
        assert_eq!(names.contains(&"websockets".to_owned()), name == "async", "{names:?}");
        for both in ["lifecycle", "handover", "datagram-handler", "blocking-websocket-handler"] {
            assert!(names.contains(&both.to_owned()), "{both} in {names:?}");
        }
    }
}

/// What the world `plugin` of a directory imports and exports.
fn world(wit: &Path) -> Vec<String> {
    let mut resolve = Resolve::default();
    let parsed = resolve.push_dir(wit);
    let (package, _) = parsed.unwrap_or_else(|error| panic!("{}: {error:#}", wit.display()));
    let world = &resolve.worlds[resolve.select_world(&[package], Some("plugin")).unwrap()];
    let items = world.imports.keys().chain(world.exports.keys());
    items.map(|key| resolve.name_world_key(key)).collect()
}

#[test]
fn the_wit_of_every_project_parses_with_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().to_str().unwrap();
    for language in ["rust", "c", "js", "python", "go"] {
        for kind in ["http", "connection", "datagram", "websocket", "job"] {
            let name = format!("{language}-{kind}");
            let new = ["new", "--lang", language, "--kind", kind, "--directory", parent, &name];
            assert!(pluginctl(&new).output().unwrap().status.success(), "{name}");
            let wit = directory.path().join(&name).join("wit");
            for entry in fs::read_dir(wit.join("deps")).unwrap() {
                let path = entry.unwrap().path();
                assert!(path.is_dir(), "each package has a directory: {}", path.display());
            }
            let items = world(&wit);
            assert!(
                items.contains(&"plugind:plugin/journal@0.1.0".to_owned()),
                "{name}: {items:?}"
            );
            // The package of the project is the one that `pluginctl wit` writes.
            let package = wit.join("deps/plugind-plugin");
            if package.exists() {
                fs::remove_dir_all(&package).unwrap();
                assert!(pluginctl(&["wit"]).arg(&package).output().unwrap().status.success());
                assert_eq!(world(&wit), items, "{name}");
            }
        }
    }
}

#[test]
fn a_project_for_a_toolchain_without_async_functions_has_the_same_world() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().to_str().unwrap();
    for kind in ["http", "connection", "datagram", "websocket", "job"] {
        let new = ["new", "--lang", "js", "--kind", kind, "--directory", parent, kind];
        assert!(pluginctl(&new).output().unwrap().status.success(), "{kind}");
        let wit = directory.path().join(kind).join("wit");
        let (items, package) = (world(&wit), wit.join("deps/plugind-plugin"));
        fs::remove_dir_all(&package).unwrap();
        let written = pluginctl(&["wit", "--sync"]).arg(&package).output().unwrap();
        assert!(written.status.success(), "{kind}");
        assert_eq!(world(&wit), items, "{kind}");
    }
}

#[test]
fn a_new_project_never_replaces_files() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().to_str().unwrap();
    for (language, kind) in
        [("rust", "http"), ("c", "websocket"), ("js", "datagram"), ("python", "job"), ("go", "job")]
    {
        let name = format!("my-{language}");
        let new = || {
            let kind = ["new", "--lang", language, "--kind", kind];
            pluginctl(&kind).args(["--directory", parent, &name]).output()
        };
        let first = new().unwrap();
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        let project = directory.path().join(&name);
        assert!(project.join(format!("{name}.toml")).exists());
        fs::write(project.join("README.md"), "mine").unwrap();
        let second = new().unwrap();
        assert!(!second.status.success());
        let message = String::from_utf8(second.stderr).unwrap();
        assert!(message.contains("exists already; choose another name"), "{message}");
        assert_eq!(fs::read_to_string(project.join("README.md")).unwrap(), "mine");
    }
}
