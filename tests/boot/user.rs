//! A user has a daemon of their own, without root.

use crate::HELLO;
use plugind_tests::{Machine, Ran, eventually};
use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
};

const UID: u32 = 1234;

/// A machine on which a user lingers, so that their manager runs without a session.
fn with_user() -> Machine {
    let machine = Machine::boot();
    machine.succeed(&["useradd", "--create-home", "--uid", &UID.to_string(), "ada"]);
    // Where pam_systemd is not installed, nothing else sets it.
    machine.put_drop_in("user@.service", "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n");
    // What `loginctl enable-linger` does, which needs more of a session than a test has.
    machine.put("var/lib/systemd/linger/ada", "");
    machine.succeed(&["systemctl", "start", &format!("user@{UID}.service")]);
    machine
}

fn run_as_user(machine: &Machine, command: &[&str]) -> Ran {
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{UID}");
    let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{UID}/bus");
    let user = ["runuser", "-u", "ada", "--", "env", &runtime, &bus, "HOME=/home/ada"];
    machine.run(&[&user, command].concat())
}

fn succeed_as_user(machine: &Machine, command: &[&str]) -> String {
    let ran = run_as_user(machine, command);
    assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
    ran.output
}

/// The answer of the user's daemon to a request for this path.
fn get(machine: &Machine, path: &str) -> String {
    let socket = machine.path(&format!("run/user/{UID}/plugind/http"));
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_user_serves_plugins_with_a_daemon_of_their_own() {
    let machine = with_user();
    machine.put("home/ada/hello.wasm", fs::read(plugind_tests::guest("hello")).unwrap());
    let systemctl = |arguments: &[&str]| {
        succeed_as_user(&machine, &[&["systemctl", "--user"], arguments].concat())
    };
    let installed =
        succeed_as_user(&machine, &["pluginctl", "install", "--user", "/home/ada/hello.wasm"]);
    let path = "installed /home/ada/.config/plugind/plugins/hello.wasm sha256:";
    assert!(installed.starts_with(path), "{installed}");
    systemctl(&["enable", "--now", "plugind.service"]);
    let answer = get(&machine, "/hello");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(HELLO), "{answer}");

    // Neither root nor the directories of the system take part in it.
    let process = systemctl(&["show", "--property=MainPID", "--value", "plugind.service"]);
    let process = machine.path(&format!("proc/{}", process.trim()));
    assert_eq!(fs::metadata(process).unwrap().uid(), UID);
    for directory in [".cache/plugind", ".local/state/plugind/.versions/hello"] {
        let path = machine.path(&format!("home/ada/{directory}"));
        assert!(fs::read_dir(path).unwrap().next().is_some(), "{directory}");
    }
    for directory in ["var/lib/plugind", "var/cache/plugind", "run/plugind"] {
        assert!(!machine.path(directory).exists(), "{directory}");
    }

    // The tool finds the user's daemon; a reload and a restart are those of any unit.
    let list = succeed_as_user(&machine, &["pluginctl", "list"]);
    assert!(list.contains("1 plugin, 0 failed"), "{list}");
    machine.put("home/ada/.config/plugind/plugins/hello.toml", "[config]\ngreeting = \"Hi\"\n");
    systemctl(&["reload", "plugind.service"]);
    assert!(get(&machine, "/hello").ends_with("Hi from hello\n"));
    succeed_as_user(&machine, &["pluginctl", "rollback", "hello"]);
    assert!(get(&machine, "/hello").ends_with(HELLO));
    systemctl(&["restart", "plugind.service"]);
    assert!(get(&machine, "/hello").ends_with("Hi from hello\n"));

    // The sockets are closed as well.
    systemctl(&["disable", "--now", "plugind.service"]);
    for socket in ["http", "control"] {
        let socket = machine.path(&format!("run/user/{UID}/plugind/{socket}"));
        eventually("the end of the sockets", || (!socket.exists()).then_some(()));
    }
    let stopped = run_as_user(&machine, &["pluginctl", "list", "--user"]);
    assert_eq!(stopped.status, 3, "{stopped:?}");
}

#[test]
fn daemons_of_a_user_and_of_the_system_do_not_disturb_each_other() {
    let machine = with_user();
    machine.put_guest("hello", "hello");
    machine.start();
    succeed_as_user(&machine, &["systemctl", "--user", "start", "plugind.service"]);
    assert!(get(&machine, "/hello").starts_with("HTTP/1.1 404 "));
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    assert!(succeed_as_user(&machine, &["pluginctl", "list"]).contains("0 plugins"));
    let socket = ["pluginctl", "list", "--socket", "/run/plugind/control"];
    assert!(succeed_as_user(&machine, &socket).contains("1 plugin, "));
}
