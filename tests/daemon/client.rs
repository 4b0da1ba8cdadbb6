//! The output of `pluginctl` for the replies of a daemon, whose side the test plays.

use plugind_tests::{Signal, WAIT_MAX, program};
use rustix::process::{Pid, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};
use tempfile::TempDir;

/// A message of varlink's ends with this.
const END: u8 = 0;

/// The communication of both sides.
struct Talk {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    /// The calls of the client.
    calls: Vec<String>,
}

fn pluginctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("pluginctl"));
    command.args(arguments).arg("--socket").arg(socket).env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn socket() -> (TempDir, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("control")).unwrap();
    (directory, listener)
}

fn accept(listener: &UnixListener) -> BufReader<UnixStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    BufReader::new(stream)
}

/// The next call, if there comes another one.
fn call(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let mut call = Vec::new();
    stream.read_until(END, &mut call).unwrap();
    (call.pop() == Some(END)).then(|| String::from_utf8(call).unwrap())
}

fn reply(stream: &mut BufReader<UnixStream>, reply: &str) {
    let stream = stream.get_mut();
    stream.write_all(reply.as_bytes()).unwrap();
    stream.write_all(&[END]).unwrap();
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Runs `pluginctl` with a daemon that answers each call with the next of `answers`, and is gone behind the last one.
fn talk(arguments: &[&str], answers: &[&[&str]]) -> Talk {
    let (directory, listener) = socket();
    let client = pluginctl(&directory.path().join("control"), arguments).spawn().unwrap();
    let calls = thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            let mut stream = accept(&listener);
            let mut calls = Vec::new();
            for answer in answers {
                calls.push(call(&mut stream).unwrap());
                answer.iter().for_each(|message| reply(&mut stream, message));
            }
            calls
        });
        daemon.join().unwrap()
    });
    let Output { status, stdout, stderr } = client.wait_with_output().unwrap();
    Talk { status: status.code(), stdout: text(stdout), stderr: text(stderr), calls }
}

fn error(name: &str, parameters: &str) -> String {
    format!(r#"{{"error":"{name}","parameters":{parameters}}}"#)
}

/// A reply to `Reload`, with these parameters beside those that are seldom used.
fn reload(continues: bool, parameters: &str) -> String {
    let rest = r#""scanned":true,"unreadable":null,"unchanged":2,"draining":[],"takenBack":false"#;
    format!(r#"{{"parameters":{{{parameters},{rest}}},"continues":{continues}}}"#)
}

const WAITS: &str = r#""awaited":[{"plugin":"hi","step":"compiling"},{"plugin":"slow","step":"queued"}],"changed":[],"removed":["old"],"failed":[]"#;
/// The messages about it without a terminal.
const WAITING_REPORTED: &str =
    "scanned: 2 to take over, 2 unchanged, 1 removed\nremoved old\ncompiling 1 of 2: hi\n";
const BAD: &str = r#"{"plugin":"bad","stage":"verify","error":"bad.toml:1:1: no\u001b[2J","remedy":"fix it","configuration":true}"#;

#[test]
fn without_a_daemon_it_says_what_to_look_at() {
    let (directory, listener) = socket();
    drop(listener);
    for socket in ["control", "nothing"].map(|name| directory.path().join(name)) {
        // Those that only look have the exit status of systemctl(1) for a unit that is not active.
        for (command, status) in [(&["list"][..], 3), (&["status", "hi"], 3), (&["reload"], 1)] {
            let ran = pluginctl(&socket, command).output().unwrap();
            assert_eq!(ran.status.code(), Some(status), "{command:?}");
            let reported = text(ran.stderr);
            assert!(reported.starts_with(socket.to_str().unwrap()), "{reported}");
            assert!(reported.contains("plugind does not run"), "{reported}");
            let remedy = format!("start one with `plugind --listen control={}`", socket.display());
            assert!(reported.contains(&remedy), "{reported}");
        }
    }
}

#[test]
fn the_command_that_starts_a_daemon_is_for_the_socket_that_was_asked() {
    let directory = tempfile::tempdir().unwrap();
    let remedy = |arguments: &[&str]| {
        let mut command = Command::new(program("pluginctl"));
        command.arg("list").args(arguments).env_clear().current_dir(directory.path());
        let runtime = directory.path();
        text(command.env("XDG_RUNTIME_DIR", runtime).env("HOME", runtime).output().unwrap().stderr)
    };
    let path = |path: &str| directory.path().join(path).display().to_string();
    let of_user = format!("`plugind --user --listen control={}`", path("plugind/control"));
    assert!(remedy(&["--user"]).contains(&of_user), "{}", remedy(&["--user"]));
    let relative = format!("`plugind --listen control={}`", path("other"));
    assert!(
        remedy(&["--socket", "other"]).contains(&relative),
        "{}",
        remedy(&["--socket", "other"])
    );
    fs::write(directory.path().join("file"), "").unwrap();
    for other in [".", "file"] {
        let why = "is not a socket; --socket must name the control socket of plugind";
        assert_eq!(remedy(&["--socket", other]), format!("{other} {why}\n"));
    }
}

#[test]
fn the_socket_is_found_below_the_root() {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("pluginctl"));
    let ran = command.args(["list", "--root"]).arg(root.path()).output().unwrap();
    let socket = root.path().join("run/plugind/control");
    let (reported, root) = (text(ran.stderr), root.path().display());
    assert!(reported.starts_with(socket.to_str().unwrap()), "{reported}");
    let remedy = format!("`plugind --root {root} --listen control={}`", socket.display());
    assert!(reported.contains(&remedy), "{reported}");
}

#[test]
fn a_daemon_that_ends_is_distinguished_from_one_that_refuses() {
    for (answer, reported) in [
        (None, "plugind ended before it answered"),
        (Some(error("org.varlink.service.PermissionDenied", "{}")), "only root"),
        (Some(error("org.varlink.service.PermissionDenied", "null")), "only root"),
        (Some(error("io.plugind.Stopping", "{}")), "about to end"),
        (Some(r#"{"error":"io.plugind.Stopping"}"#.to_owned()), "about to end"),
        (Some(error("io.plugind.Quite-New", "{}")), "does not know: io.plugind.Quite-New"),
        (Some(error("org.example.Odd", r#"{"a":1}"#)), "does not know: org.example.Odd"),
    ] {
        let answers: Vec<&str> = answer.iter().map(String::as_str).collect();
        let talk = talk(&["restart", "hi"], &[&answers]);
        assert_eq!((talk.status, &*talk.stdout), (Some(1), ""), "{reported}");
        assert!(talk.stderr.contains(reported), "{reported:?} is not in {:?}", talk.stderr);
        assert_eq!(talk.stderr.lines().count(), 1, "{}", talk.stderr);
    }
}

#[test]
fn a_daemon_of_another_kind_is_not_understood() {
    let unknown = error("org.varlink.service.MethodNotFound", r#"{"method":"io.plugind.List"}"#);
    let replies =
        [r#"{"parameters":{"plugins":"many"}}"#, "{}", "no JSON", r#"{"parameters":{}}"#, &unknown];
    for reply in replies {
        let talk = talk(&["list"], &[&[reply]]);
        assert_eq!((talk.status, &*talk.stdout), (Some(1), ""), "{reply}");
        let reported =
            format!("this pluginctl {} and the daemon do not", env!("CARGO_PKG_VERSION"));
        assert!(talk.stderr.starts_with(&reported), "{reply}: {}", talk.stderr);
    }
}

#[test]
fn the_status_of_a_missing_plugin_has_the_exit_status_of_systemctl() {
    let answer = error("io.plugind.NoSuchPlugin", r#"{"name":"hi\u001b[2J"}"#);
    let talk = talk(&["status", "hi"], &[&[&answer]]);
    assert_eq!((talk.status, &*talk.stdout), (Some(4), ""));
    assert!(talk.stderr.starts_with("there is no plugin hi\\u{1b}[2J; `pluginctl list`"));
    let asked = r#"{"method":"io.plugind.Describe","parameters":{"name":"hi"}}"#;
    assert_eq!(talk.calls, [asked]);
}

#[test]
fn a_plugin_that_cannot_be_restarted_does_not_keep_others_from_it() {
    let failed = error("io.plugind.RestartFailed", &format!(r#"{{"failure":{BAD}}}"#));
    let missing = error("io.plugind.NoSuchPlugin", r#"{"name":"no"}"#);
    let good = r#"{"parameters":{"generation":7}}"#;
    let talk = talk(&["restart", "bad", "no", "hi"], &[&[&failed], &[&missing], &[good]]);
    assert_eq!(talk.status, Some(1));
    assert_eq!(talk.stdout, "hi: restarted, generation 7\n");
    let reported = "bad: not restarted: failed at verify: bad.toml:1:1: no\\u{1b}[2J; fix it\nthere is no plugin no; `pluginctl list` shows the plugins\n";
    assert_eq!(talk.stderr, reported);
}

#[test]
fn a_reload_prints_its_outcome_and_fails_if_a_plugin_does() {
    let middle = format!(
        r#""awaited":[{{"plugin":"slow","step":"starting"}}],"changed":["hi"],"removed":["old"],"failed":[{BAD}]"#
    );
    let last = middle
        .replace(r#"{"plugin":"slow","step":"starting"}"#, "")
        .replace("[\"hi\"]", "[\"hi\",\"slow\"]");
    let replies = [reload(true, WAITS), reload(true, &middle), reload(false, &last)];
    let replies: Vec<&str> = replies.iter().map(String::as_str).collect();

    let plain = talk(&["reload"], &[&replies]);
    assert_eq!(plain.status, Some(1));
    let asked = r#"{"method":"io.plugind.Reload","parameters":{"untilDrained":true},"more":true}"#;
    assert_eq!(plain.calls, [asked]);
    assert_eq!(
        plain.stdout,
        "scanned: 2 to take over, 2 unchanged, 1 removed\nremoved old\ncompiling 1 of 2: hi\n\
         waiting for slow\nswapped hi\nswapped slow\n\
         reloaded: 2 changed, 1 removed, 2 unchanged, 1 failed\n"
    );
    assert_eq!(
        plain.stderr,
        "bad: failed at verify: bad.toml:1:1: no\\u{1b}[2J; fix it\n\
         the previous versions of failed plugins keep serving, except those of stopped plugins\n"
    );

    let json = talk(&["reload", "--json"], &[&replies]);
    assert_eq!(json.status, Some(1));
    assert_eq!(json.stdout.lines().count(), 3, "{}", json.stdout);
    assert!(json.stdout.lines().all(|line| line.starts_with(r#"{"scanned":true"#)));
    assert!(!json.stdout.contains('\x1b'));
}

#[test]
fn a_reload_that_reads_nothing_fails_and_one_that_finds_nothing_new_does_not() {
    let nothing = r#""awaited":[],"changed":[],"removed":[],"failed":[]"#;
    let good = talk(&["reload"], &[&[&reload(false, nothing)]]);
    let reported = "scanned: 0 to take over, 2 unchanged, 0 removed\n\
                reloaded: 0 changed, 0 removed, 2 unchanged, 0 failed\n";
    assert_eq!((good.status, &*good.stdout, &*good.stderr), (Some(0), reported, ""));

    let why = r#""unreadable":"plugind.toml:3:1: unknown key""#;
    let unreadable = reload(false, nothing).replace(r#""unreadable":null"#, why);
    let bad = talk(&["reload"], &[&[&unreadable]]);
    assert_eq!((bad.status, &*bad.stdout), (Some(1), ""));
    assert_eq!(bad.stderr, "reload failed, nothing changed: plugind.toml:3:1: unknown key\n");
}

#[test]
fn an_all_or_nothing_reload_reports_that_nothing_changed() {
    let nothing = format!(r#""awaited":[],"changed":[],"removed":[],"failed":[{BAD}]"#);
    let taken_back = reload(false, &nothing).replace("\"takenBack\":false", "\"takenBack\":true");
    let talk = talk(&["reload", "--all-or-nothing", "--until=swapped"], &[&[&taken_back]]);
    let asked = r#"{"method":"io.plugind.Reload","parameters":{"allOrNothing":true},"more":true}"#;
    assert_eq!(talk.calls, [asked]);
    assert_eq!(talk.status, Some(1));
    assert_eq!(talk.stdout, "scanned: 1 to take over, 2 unchanged, 0 removed\n");
    assert_eq!(
        talk.stderr,
        "bad: failed at verify: bad.toml:1:1: no\\u{1b}[2J; fix it\n\
         reload failed, nothing changed\n"
    );
}

#[test]
fn the_end_of_a_daemon_during_a_reload_is_reported() {
    let ended = talk(&["reload"], &[&[&reload(true, WAITS)]]);
    assert_eq!((ended.status, &*ended.stdout), (Some(1), WAITING_REPORTED));
    assert_eq!(ended.stderr, "plugind ended before it answered\n");
}

#[test]
fn an_interrupted_client_reports_that_the_reload_continues() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (directory, listener) = socket();
        let mut client = pluginctl(&directory.path().join("control"), &["reload"]).spawn().unwrap();
        let mut stream = accept(&listener);
        call(&mut stream).unwrap();
        reply(&mut stream, &reload(true, WAITS));
        let mut reported = vec![0; WAITING_REPORTED.len()];
        client.stdout.as_mut().unwrap().read_exact(&mut reported).unwrap();
        assert_eq!(text(reported), WAITING_REPORTED);
        let state = fs::read_to_string(format!("/proc/{}/status", client.id())).unwrap();
        assert!(state.contains("\nThreads:\t1\n"), "{state}");
        kill_process(Pid::from_child(&client), signal).unwrap();
        let mut reported = String::new();
        client.stderr.as_mut().unwrap().read_to_string(&mut reported).unwrap();
        assert_eq!(reported, "interrupted; plugind continues\n");
        assert_eq!(client.wait().unwrap().code(), Some(status));
    }
}

#[test]
fn on_a_terminal_it_shows_what_is_being_done_until_something_comes() {
    let (directory, listener) = socket();
    let socket = directory.path().join("control");
    let command =
        format!("{} reload --socket {}", program("pluginctl").display(), socket.display());
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &command, "/dev/null"]).env_clear();
    let client = terminal.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = accept(&listener);
    call(&mut stream).unwrap();
    reply(&mut stream, &reload(true, WAITS));
    let swapped = r#""awaited":[],"changed":["hi","slow"],"removed":["old"],"failed":[]"#;
    let drains = reload(true, swapped).replace("\"draining\":[]", "\"draining\":[\"hi\"]");
    reply(&mut stream, &drains);
    reply(&mut stream, &reload(false, swapped));
    let shown = client.wait_with_output().unwrap();
    assert_eq!(shown.status.code(), Some(0));
    assert_eq!(
        text(shown.stdout),
        "scanned: 2 to take over, 2 unchanged, 1 removed\r\nremoved old\r\n\
         \x1b[?7lcompiling 1 of 2: hi\x1b[?7h\r\x1b[K\
         swapped hi\r\nswapped slow\r\n\
         \x1b[?7ldraining hi\x1b[?7h\r\x1b[K\
         reloaded: 2 changed, 1 removed, 2 unchanged, 0 failed\r\n"
    );
}

#[test]
fn the_status_is_followed_line_by_line() {
    let status = |status: &str, continues: bool| {
        format!(
            r#"{{"parameters":{{"version":"1","activeState":"active","status":"{status}","plugins":1,"ready":1,"awaited":[],"failed":[]}},"continues":{continues}}}"#
        )
    };
    let replies = [status("1 plugin", true), status("x\\nactive: y", false)];
    let talk = talk(&["status", "-f"], &[&[&replies[0], &replies[1]]]);
    assert_eq!(talk.status, Some(0));
    assert_eq!(talk.stdout, "active: 1 plugin\nactive: x\\u{a}active: y\n");
    assert_eq!(talk.calls, [r#"{"method":"io.plugind.Status","more":true}"#]);
}

#[test]
fn a_log_level_goes_out_as_its_number_in_syslog() {
    for (name, number) in
        [("crit", 2), ("err", 3), ("warning", 4), ("notice", 5), ("info", 6), ("debug", 7)]
    {
        let reported = talk(&["log-level", name], &[&["{}"]]);
        assert_eq!((reported.status, &*reported.stdout, &*reported.stderr), (Some(0), "", ""));
        let asked = r#"{"method":"io.systemd.service.SetLogLevel","parameters":{"level":N}}"#;
        assert_eq!(reported.calls, [asked.replace('N', &number.to_string())]);
    }
}

#[test]
fn an_invalid_name_or_level_is_not_sent_to_the_daemon() {
    for arguments in [["status", "../x"], ["restart", "Hi"], ["log-level", "loud"]] {
        let ran = Command::new(program("pluginctl")).args(arguments).output().unwrap();
        assert_eq!(ran.status.code(), Some(64), "{arguments:?}");
        assert!(text(ran.stderr).contains(arguments[1]));
    }
}

#[test]
fn a_closed_pipe_needs_no_message() {
    let (directory, listener) = socket();
    let mut client = pluginctl(&directory.path().join("control"), &["list"]).spawn().unwrap();
    drop(client.stdout.take());
    let mut stream = accept(&listener);
    call(&mut stream).unwrap();
    reply(&mut stream, r#"{"parameters":{"plugins":[]}}"#);
    let ended = client.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), text(ended.stderr)), (Some(1), String::new()));
}
