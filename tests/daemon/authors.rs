//! The author's commands: a project is made, built and served in a terminal, and what changes is served at once.

use plugind_tests::{Connection, Log, Signal, client::Response, guest, program};
use rustix::process::{Pid, kill_process};
use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// `pluginctl run` with what it prints, which is ended when this is dropped.
struct Running {
    child: Child,
    log: Log,
    home: TempDir,
}

fn pluginctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("pluginctl"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

impl Running {
    fn start(path: &Path, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (output, printed) = io::pipe().unwrap();
        let mut command = pluginctl(&["run", "--listen", "127.0.0.1:0"]);
        command.args(arguments).arg(path).env("HOME", home.path()).env("TMPDIR", home.path());
        let child = command.stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap();
        // The command has the ends for writing, which the log waits for.
        drop(command);
        Self { child, log: Log::read(output), home }
    }

    /// Waits for the URL of a plugin, and asks for a path below it.
    fn get(&self, plugin: &str, path: &str) -> Response {
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

fn copy_guest(name: &str, to: &Path) {
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
    let daemon = daemon_of(&running);
    running.signal(Signal::INT);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(!Path::new("/proc").join(daemon).exists(), "the daemon still runs");
    let left = fs::read_dir(running.home.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, [".cache"], "only what is compiled is kept");
}

/// The number of the daemon's process, which is the only child.
fn daemon_of(running: &Running) -> String {
    let pid = running.child.id();
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
fn a_plugin_that_serves_a_socket_gets_a_free_port() {
    let directory = tempfile::tempdir().unwrap();
    let component = directory.path().join("echo.wasm");
    copy_guest("echo", &component);
    let running = Running::start(&component, &[]);
    let line = running.log.wait_for(&["echo: tcp://127.0.0.1:"]);
    let address = line.split_once("tcp://").unwrap().1;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
}

#[test]
fn mistakes_of_an_author_have_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().to_str().unwrap();
    for (arguments, message) in [
        (vec!["run", empty], "has neither pluginctl.toml nor components"),
        (vec!["run", "/nonexistent"], "cannot read /nonexistent"),
        (vec!["build", empty], "pluginctl.toml; `pluginctl new` makes a project"),
        (
            vec!["new", "--lang", "js", "--directory", empty, "Shop"],
            "a name can have only a-z, 0-9 and -",
        ),
        (vec!["new", "--lang", "cobol", "shop"], "[possible values: "),
        (vec!["new", "--lang", "c", "--kind", "cron", "shop"], "connection, datagram, websocket, job"),
        (
            vec!["new", "--lang", "js", "--kind", "job", "--directory", empty, "shop"],
            "JavaScript has --kind http, datagram, and --kind job exists for --lang rust, c, python",
        ),
    ] {
        let ran = pluginctl(&arguments).output().unwrap();
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success() && stderr.contains(message), "{arguments:?}: {stderr}");
    }
    fs::write(directory.path().join("pluginctl.toml"), "name = \"a\"\n").unwrap();
    let ran = pluginctl(&["build", empty]).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(stderr.contains("component is missing; write component = "), "{stderr}");
}

#[test]
fn a_new_project_never_replaces_files() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().to_str().unwrap();
    for (language, kind) in
        [("rust", "http"), ("c", "websocket"), ("js", "datagram"), ("python", "job")]
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
