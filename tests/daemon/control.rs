//! `pluginctl` with a real daemon: it shows the actual state, and carries out its commands.

use crate::metrics::Measured;
use plugind_tests::{Daemon, Tree, copy_program, end_of, eventually, program};
use rustix::process::geteuid;
use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The result of a command.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn socket(tree: &Tree) -> PathBuf {
    tree.root().join("run/plugind/control")
}

/// Starts a daemon with a control socket below the tree's root, and waits only until its sockets are open.
pub(crate) fn begin(tree: &Tree) -> Daemon {
    fs::create_dir_all(socket(tree).parent().unwrap()).unwrap();
    Daemon::begin(tree, &["--listen", &format!("control={}", socket(tree).display())])
}

/// Starts a daemon with a control socket by a script, which finds the command in `"$@"`, and waits until it is ready.
pub(crate) fn start_by(tree: &Tree, script: &str) -> Daemon {
    fs::create_dir_all(socket(tree).parent().unwrap()).unwrap();
    let script = format!("{script}\nexec \"$@\" --listen control={}", socket(tree).display());
    Daemon::start_by(tree, &["/usr/bin/unshare", "--mount", "/bin/sh", "-euc", &script, "sh"])
}

pub(crate) fn start(tree: &Tree) -> Daemon {
    let daemon = begin(tree);
    daemon.wait_until_ready();
    daemon
}

/// `pluginctl`, to be run in an environment without anything.
pub(crate) fn pluginctl(tree: &Tree, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("pluginctl"));
    command.args(arguments).arg("--root").arg(tree.root());
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(command: &mut Command) -> Ran {
    let ran = command.output().unwrap();
    let [stdout, stderr] = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Ran { status: ran.status.code(), stdout, stderr }
}

pub(crate) fn run(tree: &Tree, arguments: &[&str]) -> Ran {
    output(&mut pluginctl(tree, arguments))
}

/// The line of a list in which this word stands by itself.
pub(crate) fn row<'a>(list: &'a str, name: &str) -> Vec<&'a str> {
    let mut rows = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.contains(&name)).unwrap_or_default()
}

#[test]
fn a_file_that_is_ignored_is_named_by_status_and_reload_with_its_right_name() {
    let tree = Tree::new().with("hello");
    tree.put("my_plugin.wasm", "x");
    let _daemon = start(&tree);
    let line = "my_plugin.wasm is ignored";
    for command in ["status", "list", "reload"] {
        let ran = run(&tree, &[command]);
        let output = if command == "status" { ran.stdout } else { ran.stderr };
        let named = output.lines().filter(|it| it.contains(line));
        assert!(named.clone().any(|it| it.contains("rename it to my-plugin.wasm")), "{output}");
    }
    assert!(run(&tree, &["status"]).stdout.contains("Ignored: "));
    let listed: serde_json::Value =
        serde_json::from_str(&run(&tree, &["list", "--json"]).stdout).unwrap();
    assert!(listed["ignored"][0].as_str().unwrap().contains(line), "{listed}");
}

#[test]
fn every_plugin_is_listed_as_it_is() {
    let optional = "required = false\n[config]\ngreeting = 1\n";
    let tree = Tree::new()
        .with_named(
            "talks",
            "status_talks",
            "[[serve]]\nroute = \"/a\"\n\n[[serve]]\nroute = \"/b\"\n",
        )
        .with_named("bad", "hello", optional)
        .with_named("done", "program_ends", "");
    let daemon = start(&tree);
    daemon.log.wait_for(&["info    plugind: ready plugins=", " failed=1"]);
    let list = run(&tree, &["list"]);
    assert_eq!((list.status, &*list.stderr), (Some(3), ""));
    let header = [
        "NAME",
        "STATE",
        "RESULT",
        "GENERATION",
        "VERSION",
        "SINCE",
        "CPU",
        "MEMORY",
        "REQ/S",
        "P50",
        "P99",
        "FLIGHT",
        "ROUTES",
        "STATUS",
    ];
    assert_eq!(row(&list.stdout, "NAME"), header);
    assert_eq!(row(&list.stdout, "bad")[..3], ["●", "bad", "failed"], "{}", list.stdout);
    assert_eq!(row(&list.stdout, "done")[..3], ["done", "inactive", "success"], "{}", list.stdout);
    let talks = row(&list.stdout, "talks");
    assert_eq!(talks[..3], ["talks", "active", "success"], "{}", list.stdout);
    assert!(talks.ends_with(&["/a", "/b", "at", "your", "service"]), "{talks:?}");
    assert!(list.stdout.ends_with("\n3 plugins, 1 failed\n"), "{}", list.stdout);

    let json = run(&tree, &["list", "--json"]).stdout;
    assert!(json.starts_with(r#"{"plugins":[{"name":"bad","activeState":"failed""#), "{json}");
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn the_version_and_the_digests_of_a_plugin_are_listed_logged_and_measured() {
    let tree = Tree::new().with("hello");
    let mut component = fs::read(tree.plugins().join("hello.wasm")).unwrap();
    // A custom section: its kind, its size, the length of its name, its name and its contents.
    component.extend([&[0, 13, 7][..], b"version", b"1.2.3"].concat());
    tree.put("hello.wasm", component);
    let measured = Measured::start_with_control(&tree);
    let ready = measured.daemon.log.wait_for(&["plugin ready", "plugin=hello", "version=1.2.3"]);
    assert_eq!(row(&run(&tree, &["list"]).stdout, "hello")[4], "1.2.3");
    let json = run(&tree, &["list", "--json"]).stdout;
    let mut series = "plugind_plugin_info{plugin=\"hello\"".to_owned();
    for (label, key) in
        [("component_digest", "componentDigest"), ("configuration_digest", "configurationDigest")]
    {
        let (_, digest) = ready.split_once(&format!("{label}=")).unwrap();
        let digest = digest.split_whitespace().next().unwrap();
        assert_eq!(digest.len(), 64, "{ready}");
        assert!(json.contains(&format!("\"{key}\":\"{digest}\"")), "{json}");
        series += &format!(",{label}=\"{digest}\"");
    }
    measured.wait_for(&format!("{series},version=\"1.2.3\"}}"), 1.0);
}

#[test]
fn the_status_of_a_plugin_shows_whether_it_serves() {
    let tree = Tree::new().with("hello").with("program_ends");
    tree.put("bad.wasm", b"\0asm\x01\0\0\0");
    tree.put("bad.toml", "required = false\n");
    let _daemon = start(&tree);

    let good = run(&tree, &["status", "hello"]);
    assert_eq!((good.status, &*good.stderr), (Some(0), ""));
    let component = tree.plugins().join("hello.wasm");
    for part in ["hello\n     Active: active since 20", "/hello\n", component.to_str().unwrap()] {
        assert!(good.stdout.contains(part), "{part:?} is not in {}", good.stdout);
    }
    assert_eq!(run(&tree, &["status", "program-ends"]).status, Some(3));
    let bad = run(&tree, &["status", "bad"]);
    assert_eq!(bad.status, Some(3));
    assert!(bad.stdout.contains("Failed: at verify: "), "{}", bad.stdout);
    assert!(bad.stdout.contains("core module"), "{}", bad.stdout);
    let none = run(&tree, &["status", "nobody"]);
    assert_eq!(
        (none.status, &*none.stderr),
        (Some(4), "there is no plugin nobody; `pluginctl list` shows the plugins\n")
    );
    assert_eq!(run(&tree, &["status", "nobody", "--json"]).status, Some(4));

    let daemon = run(&tree, &["status"]);
    assert_eq!(daemon.status, Some(3));
    let version = format!("● plugind {}\n     Active: active\n", env!("CARGO_PKG_VERSION"));
    assert!(daemon.stdout.starts_with(&version), "{}", daemon.stdout);
    assert!(daemon.stdout.contains("Failed: bad: at verify: "), "{}", daemon.stdout);
}

#[test]
fn a_client_that_follows_the_status_sees_the_daemon_wait_and_become_ready() {
    let tree = Tree::new().with("warmup");
    let _daemon = begin(&tree);
    let mut following = pluginctl(&tree, &["status", "--follow"]).spawn().unwrap();
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let seen: Vec<_> =
        lines.map_while(Result::ok).take_while(|line| !line.starts_with("active: ")).collect();
    following.kill().unwrap();
    following.wait().unwrap();
    assert!(seen.iter().all(|line| line.starts_with("activating: starting")), "{seen:?}");
    assert!(seen.iter().any(|line| line.ends_with("(waiting for warmup)")), "{seen:?}");
}

#[test]
fn what_is_restarted_has_new_instances_of_the_same_version() {
    let tree = Tree::new().with_manifest("counts", "[instances]\nmax = 1\n");
    let daemon = start(&tree);
    assert!(daemon.get("/counts").text().ends_with("count=1"));
    assert!(daemon.get("/counts").text().ends_with("count=2"));
    let ran = run(&tree, &["restart", "nobody", "counts"]);
    assert_eq!(
        (ran.status, &*ran.stderr),
        (Some(1), "there is no plugin nobody; `pluginctl list` shows the plugins\n")
    );
    let generation = ran.stdout.strip_prefix("counts: restarted, generation ");
    let generation = generation.unwrap_or_else(|| panic!("{}", ran.stdout)).trim_end();
    let answer = daemon.get("/counts");
    assert!(
        answer.text().contains(&format!("generation={generation} count=1")),
        "{}",
        answer.text()
    );
    assert_eq!(run(&tree, &["restart", "counts"]).status, Some(0));
}

#[test]
fn what_is_restarted_is_the_version_that_serves_and_not_the_one_that_failed() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    tree.put("hello.toml", "[config]\ngreeting = \"\"\n");
    assert_eq!(run(&tree, &["reload"]).status, Some(1));
    let ran = run(&tree, &["restart", "hello"]);
    assert_eq!((ran.status, &*ran.stderr), (Some(0), ""));
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn the_log_level_decides_which_entries_are_logged() {
    let tree = Tree::new().with("logs");
    let daemon = start(&tree);
    assert_eq!(daemon.get("/logs/log").status(), 200);
    daemon.log.wait_for(&["plugind[logs]: an info entry"]);
    assert_eq!(run(&tree, &["log-level", "warning"]).status, Some(0));
    let place = daemon.log.place();
    assert_eq!(daemon.get("/logs/log").status(), 200);
    daemon.log.wait_for_after(place, &["plugind[logs]: a warning entry"]);
    assert_eq!(run(&tree, &["log-level", "debug"]).status, Some(0));
    assert_eq!(daemon.get("/logs/log").status(), 200);
    daemon.log.wait_for_after(place, &["plugind[logs]: a debug entry"]);
    let info =
        daemon.log.all()[place..].iter().filter(|line| line.contains("an info entry")).count();
    assert_eq!(info, 1);
}

#[test]
fn others_than_root_may_look_and_not_touch() {
    const NOBODY: u32 = 65534;
    let tree = Tree::new().with("hello");
    let _daemon = start(&tree);
    // The user `nobody` has no access to the directories of a test by default.
    let open = |path: PathBuf| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    let copy = tree.root().join("pluginctl");
    copy_program("pluginctl", &copy);
    open(tree.root().to_owned());
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(arguments).arg("--root").arg(tree.root()).env_clear();
        command.current_dir("/").uid(NOBODY).gid(NOBODY);
        command
    };
    if !geteuid().is_root() {
        assert!(as_nobody(&["list"]).output().is_err(), "only root can become somebody else");
        return;
    }
    fs::set_permissions(socket(&tree), Permissions::from_mode(0o600)).unwrap();
    let shut_out = output(&mut as_nobody(&["list"]));
    assert_eq!(shut_out.status, Some(1));
    assert!(
        shut_out.stderr.ends_with(": Permission denied (os error 13): run pluginctl as root\n"),
        "{}",
        shut_out.stderr
    );

    open(socket(&tree));
    assert_eq!(output(&mut as_nobody(&["list"])).status, Some(0));
    assert_eq!(output(&mut as_nobody(&["status", "hello"])).status, Some(0));
    assert_eq!(output(&mut as_nobody(&["wait", "hello"])).status, Some(0));
    for arguments in [
        &["reload"][..],
        &["reload", "hello"],
        &["restart", "hello"],
        &["rollback", "hello"],
        &["drain"],
        &["undrain"],
        &["pin", "hello"],
        &["unpin", "hello"],
        &["start", "hello"],
        &["stop", "hello"],
        &["log-level", "debug"],
    ] {
        let refused = output(&mut as_nobody(arguments));
        assert_eq!((refused.status, &*refused.stdout), (Some(1), ""), "{arguments:?}");
        assert_eq!(refused.stderr, "only root and the user of the daemon may do this\n");
    }
    for arguments in [["remove", "hello"], ["disable", "hello"]] {
        let refused = output(&mut as_nobody(&arguments)).stderr;
        assert!(refused.ends_with("(os error 13); run pluginctl as root\n"), "{refused}");
    }
    fs::set_permissions(tree.plugins(), Permissions::from_mode(0o700)).unwrap();
    let unread = output(&mut as_nobody(&["check"]));
    assert!(
        unread.stderr.ends_with("may be able to; run pluginctl as root\n"),
        "{}",
        unread.stderr
    );
}

#[test]
fn a_plugin_that_waits_for_its_restart_is_shown_with_the_cause_and_can_be_restarted() {
    let manifest =
        "required = false\n[service]\nrestart-sec = \"1h\"\nrestart-max-delay-sec = \"1h\"\n";
    let tree = Tree::new().with("hello").with_manifest("traps_on_start", manifest);
    let daemon = start(&tree);
    daemon.log.wait_for(&["instance failed", "plugin=traps-on-start"]);
    let waits = || {
        let list = run(&tree, &["list"]).stdout;
        let row = row(&list, "traps-on-start").join(" ");
        row.starts_with("● traps-on-start activating (auto-restart) trap").then_some(())
    };
    eventually("the cause in the list", waits);
    let status = run(&tree, &["status"]);
    assert!(status.stdout.contains("traps-on-start (start: "), "{}", status.stdout);
    let restart = run(&tree, &["restart", "traps-on-start"]);
    assert_eq!(restart.status, Some(1), "{}", restart.stderr);
    assert!(restart.stderr.contains("start"), "{}", restart.stderr);
    daemon.log.wait_for_times(2, &["instance failed", "plugin=traps-on-start"]);
}

#[test]
fn a_file_in_the_place_of_a_socket_stops_the_start_and_is_not_removed() {
    let tree = Tree::new();
    fs::create_dir_all(socket(&tree).parent().unwrap()).unwrap();
    fs::write(socket(&tree), "precious").unwrap();
    let listen = format!("control={}", socket(&tree).display());
    assert_eq!(end_of(&tree, &["--listen", &listen]).status, 1);
    assert_eq!(fs::read_to_string(socket(&tree)).unwrap(), "precious");
}
