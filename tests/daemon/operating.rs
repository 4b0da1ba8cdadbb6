//! Operations on one plugin: stopping, starting, waiting, and reloading it alone.

use crate::{
    control::{Ran, pluginctl, row, run, start},
    metrics::Measured,
};
use plugind_tests::{Tree, another, eventually};
use std::{fs, process::Output, thread};

fn succeed(tree: &Tree, arguments: &[&str]) -> String {
    let Ran { status, stdout, stderr } = run(tree, arguments);
    assert_eq!((status, &*stderr), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout
}

#[test]
fn a_stopped_plugin_answers_503_and_says_so_everywhere() {
    let tree = Tree::new().with("says_stop").with("hello");
    let daemon = start(&tree);
    let not_ready = (503, "plugin says-stop is not ready\n");
    assert_eq!(succeed(&tree, &["stop", "says-stop"]), "says-stop: stopped\n");
    daemon.log.wait_for(&["plugind[says-stop]: stopped: StopReason::Stop"]);
    daemon.log.wait_for(&["info    plugind: plugin stopped", "plugin=says-stop"]);
    assert_eq!(daemon.get("/says-stop").status_and_text(), not_ready);
    assert_eq!(daemon.get("/hello").status(), 200);

    let list = run(&tree, &["list"]);
    // It has not failed, which the exit status of a list is about.
    assert_eq!(list.status, Some(0));
    let stopped = ["says-stop", "inactive", "(stopped)", "success"];
    assert_eq!(row(&list.stdout, "says-stop")[..4], stopped, "{}", list.stdout);
    let status = run(&tree, &["status", "says-stop"]);
    assert_eq!(status.status, Some(3));
    assert!(status.stdout.contains("Active: inactive (stopped)"), "{}", status.stdout);
    let json = run(&tree, &["status", "says-stop", "--json"]).stdout;
    assert!(json.contains(r#""activeState":"inactive","subState":"stopped""#), "{json}");
    let all = succeed(&tree, &["status"]);
    assert!(all.contains("1 of 2 plugins ready; stopped: says-stop"), "{all}");

    // It was stopped already.
    succeed(&tree, &["stop", "says-stop"]);
    assert_eq!(daemon.log.count(&["plugind: plugin stopped"]), 1);
}

#[test]
fn a_stopped_plugin_stays_stopped_over_reloads_until_it_is_started() {
    let tree = Tree::new().with("hello").with("counts");
    let mut daemon = start(&tree);
    succeed(&tree, &["stop", "hello"]);
    tree.put("hello.wasm", another("hello"));
    tree.put("counts.wasm", another("counts"));
    for arguments in [&["reload"][..], &["reload", "--all-or-nothing"]] {
        succeed(&tree, arguments);
        assert_eq!(daemon.get("/hello").status(), 503, "{arguments:?}");
    }
    assert_eq!(daemon.get("/counts").status(), 200);
    let refused = run(&tree, &["reload", "hello"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("hello: not reloaded: "), "{}", refused.stderr);

    let refused = run(&tree, &["rollback", "hello"]);
    let remedy = "it is stopped; `pluginctl start hello` starts it\n";
    assert!(refused.stderr.ends_with(remedy), "{}", refused.stderr);

    assert!(succeed(&tree, &["start", "hello"]).starts_with("hello: started, generation "));
    assert_eq!(daemon.get("/hello").status(), 200);
    // One that serves stays as it is.
    let before = succeed(&tree, &["start", "hello"]);
    assert_eq!(succeed(&tree, &["start", "hello"]), before);

    succeed(&tree, &["stop", "hello"]);
    succeed(&tree, &["restart", "hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);

    // The next daemon knows nothing of it.
    succeed(&tree, &["stop", "hello"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn a_plugin_that_cannot_be_started_is_reported_with_the_reason() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    succeed(&tree, &["stop", "hello"]);
    tree.put("hello.toml", "[service]\nrestrat = \"no\"\n");
    let refused = run(&tree, &["start", "hello"]);
    assert_eq!(refused.status, Some(1));
    let error = "hello: not started: failed at verify: ";
    assert!(refused.stderr.starts_with(error), "{}", refused.stderr);
    assert!(refused.stderr.contains("hello.toml:2:1"), "{}", refused.stderr);
    assert_eq!(daemon.get("/hello").status(), 503);
    assert_eq!(run(&tree, &["list"]).status, Some(3), "it has failed now");

    tree.put("hello.toml", "");
    succeed(&tree, &["start", "hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    for arguments in [["start", "nobody"], ["stop", "nobody"], ["reload", "nobody"]] {
        let refused = run(&tree, &arguments);
        assert_eq!(
            (refused.status, &*refused.stderr),
            (Some(1), "there is no plugin nobody; `pluginctl list` shows the plugins\n")
        );
    }
}

#[test]
fn a_stopped_plugin_keeps_its_routes_and_is_removed_with_its_files() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    succeed(&tree, &["stop", "hello"]);
    // Its name would be the first of those that ask for the route.
    tree.put_guest("ahead", "counts");
    tree.put("ahead.toml", "[[serve]]\nroute = \"/hello\"\n");
    assert_eq!(run(&tree, &["reload"]).status, Some(1));
    assert_eq!(daemon.get("/hello").status_and_text(), (503, "plugin hello is not ready\n"));

    tree.remove("hello.wasm");
    succeed(&tree, &["reload"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert!(!run(&tree, &["list"]).stdout.contains("stopped"));
}

#[test]
fn a_stop_waits_for_requests_and_a_wait_for_its_end() {
    let tree = Tree::new().with("sleeps");
    let daemon = start(&tree);
    let mut under_way = daemon.connect();
    under_way.request("GET", "/sleeps/sleep/1500", &[]);
    eventually("the request to be in flight", || {
        let json = run(&tree, &["list", "--json"]).stdout;
        json.contains(r#""inFlight":1"#).then_some(())
    });
    thread::scope(|scope| {
        let gone = scope.spawn(|| succeed(&tree, &["wait", "sleeps", "--gone"]));
        let stopped = scope.spawn(|| succeed(&tree, &["stop", "sleeps"]));
        assert_eq!(under_way.response().status_and_text(), (200, "slept"));
        stopped.join().unwrap();
        gone.join().unwrap();
    });
    // Nobody starts it, so this one waits until its time has passed.
    let waited = run(&tree, &["wait", "sleeps", "--timeout", "300ms"]);
    assert_eq!(waited.status, Some(1));
    assert_eq!(waited.stderr, "sleeps: was not ready within 300ms\n");
    let ready = pluginctl(&tree, &["wait", "sleeps"]).spawn().unwrap();
    succeed(&tree, &["start", "sleeps"]);
    assert!(ready.wait_with_output().unwrap().status.success());
}

#[test]
fn a_wait_ends_with_the_reason_when_the_plugin_has_failed() {
    let manifest = "required = false\n[service]\nrestart = \"no\"\n";
    let tree = Tree::new().with("hello").with_manifest("traps_on_start", manifest);
    let _daemon = start(&tree);
    let waited = run(&tree, &["wait", "traps-on-start"]);
    assert_eq!(waited.status, Some(1));
    let error = "traps-on-start: failed at start: ";
    assert!(waited.stderr.starts_with(error), "{}", waited.stderr);
    // One that is not there yet is waited for.
    let ready = pluginctl(&tree, &["wait", "counts"]).spawn().unwrap();
    let gone = run(&tree, &["wait", "counts", "--gone"]);
    assert_eq!(gone.status, Some(0), "nothing of it runs");
    tree.put_guest("counts", "counts");
    run(&tree, &["reload"]);
    assert!(ready.wait_with_output().unwrap().status.success());
}

#[test]
fn a_reload_of_one_plugin_ignores_incomplete_files_of_other_plugins() {
    let tree = Tree::new().with("hello").with("counts");
    let daemon = start(&tree);
    let generation = |name: &str| row(&run(&tree, &["list"]).stdout, name)[3].to_owned();
    let before = generation("counts");
    tree.put("hello.wasm", another("hello"));
    let half = fs::read(tree.plugins().join("counts.wasm")).unwrap();
    tree.put("counts.wasm", &half[..half.len() / 2]);
    assert!(succeed(&tree, &["reload", "hello"]).starts_with("hello: reloaded, generation "));
    assert_eq!(run(&tree, &["list"]).status, Some(0), "nothing has failed");
    assert_eq!(generation("counts"), before);
    assert_eq!(daemon.get("/counts").status(), 200);

    let failed = run(&tree, &["reload", "counts"]);
    assert_eq!(failed.status, Some(1));
    let error = "counts: not reloaded: failed at verify: ";
    assert!(failed.stderr.starts_with(error), "{}", failed.stderr);
    assert_eq!(daemon.get("/counts").status(), 200, "the previous version keeps serving");

    // A new one is taken over, and one without files is not there any more.
    tree.put("counts.wasm", half);
    tree.put_guest("new", "hello");
    succeed(&tree, &["reload", "new"]);
    assert_eq!(daemon.get("/new").status(), 200);
    tree.remove("new.wasm");
    assert_eq!(
        run(&tree, &["reload", "new"]).stderr,
        "there is no plugin new; `pluginctl list` shows the plugins\n"
    );
    assert_eq!(daemon.get("/new").status(), 404);
}

#[test]
fn a_stop_ends_a_reload_that_waits_for_the_plugin() {
    let slow = "[service]\ntimeout-start-sec = \"1h\"\n";
    let tree = Tree::new().with_named("waits", "hello", slow).with("counts");
    let daemon = start(&tree);
    tree.put_guest("waits", "never_ready");
    tree.put("counts.wasm", another("counts"));
    let before = row(&run(&tree, &["list"]).stdout, "counts")[3].to_owned();
    let reload = pluginctl(&tree, &["reload", "--all-or-nothing"]).spawn().unwrap();
    eventually("the new version to be starting", || {
        let json = run(&tree, &["list", "--json"]).stdout;
        json.contains(r#""subState":"starting""#).then_some(())
    });
    succeed(&tree, &["stop", "waits"]);
    let reload = reload.wait_with_output().unwrap();
    assert_eq!(reload.status.code(), Some(1));
    let stderr = String::from_utf8(reload.stderr).unwrap();
    assert!(stderr.contains("it is stopped; `pluginctl start waits` starts it"), "{stderr}");
    assert!(stderr.ends_with("reload failed, nothing changed\n"), "{stderr}");
    assert_eq!(row(&run(&tree, &["list"]).stdout, "counts")[3], before);
    assert_eq!(daemon.get("/waits").status(), 503);
}

#[test]
fn a_reload_of_one_plugin_ends_a_reload_that_waits_for_another_version_of_it() {
    let slow = "[service]\ntimeout-start-sec = \"1h\"\n";
    let tree = Tree::new().with_named("waits", "hello", slow);
    let _daemon = start(&tree);
    let outcomes = [
        (
            "there is no plugin waits; `pluginctl list` shows the plugins\n",
            "1 removed, 0 unchanged, 0 failed",
            0,
        ),
        ("", "0 removed, 0 unchanged, 1 failed", 1),
    ];
    for (error, counted, status) in outcomes {
        let is_removed = !error.is_empty();
        tree.put_guest("waits", "hello");
        succeed(&tree, &["reload"]);
        tree.put_guest("waits", "never_ready");
        let mut reload = pluginctl(&tree, &["reload"]).spawn().unwrap();
        eventually("the new version to be starting", || {
            let json = run(&tree, &["list", "--json"]).stdout;
            json.contains(r#""subState":"starting""#).then_some(())
        });
        if is_removed {
            tree.remove("waits.wasm");
        } else {
            tree.put_guest("waits", "hello");
        }
        assert_eq!(run(&tree, &["reload", "waits"]).stderr, error);
        eventually("the end of the reload", || reload.try_wait().unwrap());
        let reload = reload.wait_with_output().unwrap();
        let stdout = String::from_utf8(reload.stdout).unwrap();
        assert!(stdout.ends_with(&format!("reloaded: 0 changed, {counted}\n")), "{stdout}");
        assert_eq!(reload.status.code(), Some(status));
        assert!(!succeed(&tree, &["status"]).contains("reloading"));
    }
}

#[test]
fn a_plugin_that_was_removed_and_finishes_its_requests_keeps_no_client_waiting() {
    let patient = "[service]\ntimeout-stop-sec = \"1h\"\n";
    let tree = Tree::new().with_manifest("streams", patient);
    let daemon = start(&tree);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    client.write_chunk(b"half of it");
    assert_eq!(client.head().status, 200);
    for file in ["streams.toml", "streams.wasm"] {
        tree.remove(file);
    }
    succeed(&tree, &["reload", "--until=swapped"]);
    for command in ["reload", "start", "restart"] {
        let mut waits = pluginctl(&tree, &[command, "streams"]).spawn().unwrap();
        eventually("an answer", || waits.try_wait().unwrap());
        let stderr = waits.wait_with_output().unwrap().stderr;
        assert_eq!(
            String::from_utf8(stderr).unwrap(),
            "there is no plugin streams; `pluginctl list` shows the plugins\n",
            "{command}"
        );
    }
    assert_eq!(client.chunks_of(10), b"half of it");
    client.write_chunk(b"");
    assert_eq!(client.chunks_of(1), b"");
}

#[test]
fn a_rollback_serves_the_version_before_until_the_files_change() {
    // No other test has compiled the versions.
    let tree = Tree::with_own_cache().with_named("app", "hello", "").with("sleeps");
    let measured = Measured::start_with_control(&tree);
    let daemon = &measured.daemon;
    let compiled =
        || measured.value("plugind_plugin_compile_time_seconds{plugin=\"app\"}").is_some();
    let old = daemon.get("/app").text().to_owned();
    let none = run(&tree, &["rollback", "app"]);
    assert_eq!(none.status, Some(1));
    let error = "app: not rolled back: failed at scan: no previous version of it is kept";
    assert!(none.stderr.starts_with(error), "{}", none.stderr);

    tree.wait_for_version("app");
    tree.put_guest("app", "counts");
    succeed(&tree, &["reload"]);
    let new = daemon.get("/app").text().to_owned();
    assert_ne!(new, old);
    assert!(compiled());
    assert!(succeed(&tree, &["rollback", "app"]).starts_with("app: rolled back, generation "));
    assert_eq!(daemon.get("/app").text(), old);
    // It was compiled before.
    assert!(!compiled());
    let status = run(&tree, &["status", "app"]);
    assert_eq!(status.status, Some(0));
    let degraded = "Degraded: an operator rolled it back to its previous version";
    assert!(status.stdout.contains(degraded), "{}", status.stdout);

    // Neither a reload nor a restart brings the newer one back.
    let reloaded = succeed(&tree, &["reload"]);
    assert!(reloaded.contains("0 changed"), "{reloaded}");
    succeed(&tree, &["restart", "app"]);
    assert_eq!(daemon.get("/app").text(), old);
    tree.put_guest("app", "sleeps");
    succeed(&tree, &["reload"]);
    assert_eq!(daemon.get("/app").text(), daemon.get("/sleeps").text());
}

#[test]
fn a_reload_of_one_plugin_ends_its_rollback() {
    let tree = Tree::new().with_named("app", "hello", "");
    let daemon = start(&tree);
    tree.wait_for_version("app");
    tree.put_guest("app", "counts");
    succeed(&tree, &["reload"]);
    let generation = || row(&run(&tree, &["list"]).stdout, "app").join(" ");
    succeed(&tree, &["rollback", "app"]);
    assert!(generation().contains("(degraded)"), "{}", generation());
    succeed(&tree, &["reload", "app"]);
    assert!(!generation().contains("(degraded)"), "{}", generation());
    // The version that it was rolled back to is still there.
    succeed(&tree, &["rollback", "app"]);
    assert_eq!(daemon.get("/app").status(), 200);
}

#[test]
fn a_plugin_without_autostart_waits_for_an_operator_and_not_for_a_reload() {
    let manual = "[service]\nautostart = false\n";
    let tree =
        Tree::new().with_named("app", "hello", manual).with_named("job", "program_ends", manual);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/app").status(), 503);
    assert!(succeed(&tree, &["status"]).contains("0 of 2 plugins ready; stopped: app, job"));
    for name in ["app", "job"] {
        tree.put(&format!("{name}.toml"), format!("description = \"new\"\n{manual}"));
    }
    succeed(&tree, &["reload"]);
    assert_eq!(run(&tree, &["reload", "app"]).status, Some(1));
    assert_eq!(daemon.get("/app").status(), 503);
    assert_eq!(daemon.log.count(&["plugin ready"]), 0);

    succeed(&tree, &["start", "app", "job"]);
    assert_eq!(daemon.get("/app").status(), 200);
    daemon.log.wait_for(&["background program finished", "plugin=job"]);
    // A reload finds it as it is, and a start runs it once more.
    succeed(&tree, &["reload", "job"]);
    succeed(&tree, &["reload"]);
    assert_eq!(daemon.log.count(&["plugind[job]: done"]), 1);
    succeed(&tree, &["start", "job"]);
    daemon.log.wait_for_times(2, &["background program finished", "plugin=job"]);
    assert_eq!(daemon.log.count(&["plugind[job]: done"]), 2);
    // A plugin that runs is replaced like any other.
    tree.put("app.wasm", another("hello"));
    assert!(succeed(&tree, &["reload"]).contains("swapped app"));
}

#[test]
fn a_reload_does_not_forget_why_a_plugin_without_autostart_failed() {
    let manual = "[service]\nautostart = false\nrestart = \"no\"\n";
    let tree = Tree::new().with_named("app", "traps_on_start", manual);
    let daemon = start(&tree);
    assert_eq!(run(&tree, &["start", "app"]).status, Some(1));
    for _ in 0..2 {
        succeed(&tree, &["reload"]);
        let status = run(&tree, &["status", "app"]);
        assert!(status.stdout.contains("Failed: at start: "), "{}", status.stdout);
        assert_eq!(status.status, Some(3));
    }
    assert_eq!(daemon.log.count(&["plugin failed"]), 1, "a reload does not try it again");
    // Other files are another version, which nobody has started.
    tree.put_guest("app", "hello");
    succeed(&tree, &["reload"]);
    let status = run(&tree, &["status", "app"]).stdout;
    assert!(status.contains("(stopped)") && !status.contains("Failed"), "{status}");
}

#[test]
fn plugins_that_are_started_at_the_same_time_all_start() {
    let tree = Tree::new().with("hello").with("counts");
    let daemon = start(&tree);
    for _ in 0..5 {
        succeed(&tree, &["stop", "hello", "counts"]);
        let starts = ["hello", "counts"]
            .map(|name| (name, pluginctl(&tree, &["start", name]).spawn().unwrap()));
        for (name, start) in starts {
            let Output { status, stderr, .. } = start.wait_with_output().unwrap();
            assert!(status.success(), "{name}: {}", String::from_utf8_lossy(&stderr));
            assert_eq!(daemon.get(&format!("/{name}")).status(), 200);
        }
    }
}

#[test]
fn a_version_that_replaces_a_rollback_ends_it() {
    let tree = Tree::new().with_named("app", "hello", "").with("sleeps");
    let daemon = start(&tree);
    let replace = |guest: &str| {
        tree.put_guest("app", guest);
        succeed(&tree, &["reload"]);
        run(&tree, &["status", "app"]).stdout
    };
    let first = daemon.get("/app").text().to_owned();
    tree.wait_for_version("app");
    replace("counts");
    succeed(&tree, &["rollback", "app"]);
    replace("sleeps");
    assert_eq!(daemon.get("/app").text(), daemon.get("/sleeps").text());
    // Nobody rolled these back.
    let status = replace("hello");
    assert_eq!(daemon.get("/app").text(), first);
    assert!(!status.contains("rolled it back"), "{status}");
    replace("counts");
    assert_ne!(daemon.get("/app").text(), first);
}
