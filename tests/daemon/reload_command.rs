//! `pluginctl reload` waits, prints the changes, and reports failures.

use crate::control::{pluginctl, run, start};
use plugind_tests::{Signal, Tree, another, eventually};
use rustix::process::{Pid, kill_process};
use std::io::{BufRead, BufReader};

#[test]
fn a_reload_waits_and_prints_the_changes() {
    let tree = Tree::new().with("hello").with("warmup").with("counts");
    let daemon = start(&tree);
    tree.put("hello.toml", "[config]\ngreeting = \"Good day\"\n");
    tree.remove("warmup.wasm");
    tree.put_guest("late", "status_talks");
    let ran = run(&tree, &["reload"]);
    assert_eq!(daemon.get("/hello").text(), "Good day from hello\n");
    assert_eq!((ran.status, &*ran.stderr), (Some(0), ""));
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "scanned: 2 to take over, 1 unchanged, 1 removed");
    for line in ["removed warmup", "swapped hello", "swapped late"] {
        assert_eq!(
            lines.iter().filter(|reported| **reported == line).count(),
            1,
            "{line}: {lines:?}"
        );
    }
    let summary = lines.last();
    assert_eq!(summary, Some(&"reloaded: 2 changed, 1 removed, 1 unchanged, 0 failed"));

    let nothing = run(&tree, &["reload"]);
    assert_eq!(nothing.status, Some(0));
    assert_eq!(
        nothing.stdout,
        "scanned: 0 to take over, 3 unchanged, 0 removed\n\
         reloaded: 0 changed, 0 removed, 3 unchanged, 0 failed\n"
    );
}

#[test]
fn a_reload_until_drained_waits_for_the_requests_of_the_previous_version() {
    let tree = Tree::new().with("streams");
    let daemon = start(&tree);
    let mut streams = [(); 2].map(|()| {
        let mut client = daemon.connect();
        client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
        client.write_chunk(b"before");
        assert_eq!(client.head().status, 200);
        assert_eq!(client.chunks_of(6), b"before");
        client
    });
    let mut finish = |nth: usize| {
        streams[nth].write_chunk(b"");
        assert_eq!(streams[nth].chunks_of(1), b"");
    };
    tree.put("streams.wasm", another("streams"));
    let swapped = run(&tree, &["reload", "--until=swapped"]);
    assert_eq!((swapped.status, &*swapped.stderr), (Some(0), ""));
    assert!(swapped.stdout.contains("\nswapped streams\n"), "{}", swapped.stdout);
    finish(0);

    let mut under_way = daemon.connect();
    under_way.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    under_way.write_chunk(b"before");
    assert_eq!(under_way.head().status, 200);
    tree.put("streams.wasm", another("streams"));
    let mut reload = pluginctl(&tree, &["reload"]).spawn().unwrap();
    let mut reported = BufReader::new(reload.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(reported.any(|line| line == "swapped streams"));
    under_way.write_chunk(b"");
    assert_eq!(under_way.chunks_of(7), b"before");
    assert_eq!(
        reported.collect::<Vec<_>>(),
        ["drained streams", "reloaded: 1 changed, 0 removed, 0 unchanged, 0 failed"]
    );
    assert_eq!(reload.wait().unwrap().code(), Some(0));
    // This request belongs to the version that the first reload replaced, and no client waits for it.
    finish(1);
}

#[test]
fn an_all_or_nothing_reload_changes_nothing_if_one_plugin_fails() {
    let tree = Tree::new().with("hello").with("counts");
    let daemon = start(&tree);
    tree.put("hello.toml", "[config]\ngreeting = \"Good day\"\n");
    tree.put("counts.toml", "route = \"/x\"\n");
    tree.put_guest("late", "status_talks");
    let ran = run(&tree, &["reload", "--all-or-nothing"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("counts: failed at verify: "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("reload failed, nothing changed\n"), "{}", ran.stderr);
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
    assert_eq!(daemon.get("/late").status(), 404);

    tree.remove("counts.toml");
    let ran = run(&tree, &["reload", "--all-or-nothing"]);
    assert_eq!((ran.status, &*ran.stderr), (Some(0), ""));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    assert_eq!(daemon.get("/late").status(), 200);
}

#[test]
fn a_failed_plugin_is_reported_with_stage_and_cause_and_its_old_version_serves() {
    let tree = Tree::new().with("hello").with("counts");
    let daemon = start(&tree);
    tree.put("hello.toml", "[config]\ngreeting = \"\"\n");
    tree.put("counts.toml", "route = \"/x\"\n");
    // Each reload tries a failed version again.
    for _ in 0..2 {
        let ran = run(&tree, &["reload"]);
        assert_eq!(ran.status, Some(1));
        let summary = "\nreloaded: 0 changed, 0 removed, 0 unchanged, 2 failed\n";
        assert!(ran.stdout.ends_with(summary), "{}", ran.stdout);
        let place = format!(
            "counts: failed at verify: {}:1:1: ",
            tree.plugins().join("counts.toml").display()
        );
        assert!(ran.stderr.contains(&place), "{}", ran.stderr);
        assert!(ran.stderr.contains("hello: failed at start: "), "{}", ran.stderr);
        assert!(ran.stderr.contains("the greeting is empty"), "{}", ran.stderr);
        assert!(ran.stderr.contains("; fix its configuration and reload\n"), "{}", ran.stderr);
        assert!(
            ran.stderr.ends_with(
                "the previous versions of failed plugins keep serving, except those of stopped plugins\n"
            ),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
    let stale = run(&tree, &["status", "hello"]);
    assert_eq!(stale.status, Some(3));
    assert!(stale.stdout.contains("Failed: the next version, at start: "), "{}", stale.stdout);

    let json = run(&tree, &["reload", "--json"]);
    assert_eq!((json.status, json.stderr.lines().count()), (Some(1), 3), "{}", json.stderr);
    let last = json.stdout.lines().last().unwrap();
    assert!(last.contains(r#""awaited":[],"#) && last.contains(r#""plugin":"counts""#), "{last}");
}

#[test]
fn a_reload_continues_without_the_client_that_requested_it() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    tree.put("never.toml", "[service]\ntimeout-start-sec = \"2s\"\n");
    tree.put_guest("never", "never_ready");
    let reloading = pluginctl(&tree, &["reload"]).spawn().unwrap();
    eventually("the reload", || {
        run(&tree, &["status"]).stdout.contains("Active: reloading").then_some(())
    });
    kill_process(Pid::from_child(&reloading), Signal::INT).unwrap();
    let ended = reloading.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert_eq!(ended.stderr, b"interrupted; plugind continues\n");
    daemon.log.wait_for(&["plugind: reload finished ", "failed=1"]);
}

#[test]
fn the_end_of_a_daemon_during_a_reload_is_reported() {
    let tree = Tree::new();
    let mut daemon = start(&tree);
    tree.put_guest("never", "never_ready");
    let reloading = pluginctl(&tree, &["reload"]).spawn().unwrap();
    eventually("the reload", || {
        run(&tree, &["status"]).stdout.contains("Active: reloading").then_some(())
    });
    daemon.signal(Signal::KILL);
    daemon.wait();
    let ended = reloading.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr, b"plugind ended before it answered\n");
}

#[test]
fn a_reload_names_each_ignored_file_with_the_name_that_it_should_have() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    tree.put("my_plugin.wasm", "");
    let reload = run(&tree, &["reload"]);
    assert_eq!(reload.status, Some(0), "{}", reload.stderr);
    let ignored = "my_plugin.wasm is ignored: a name can have only a-z, 0-9 and -, not '_'; rename it to my-plugin.wasm";
    assert_eq!(reload.stderr.matches(ignored).count(), 1, "{}", reload.stderr);
    daemon.log.wait_for(&["warning plugind: file ignored", ignored]);
    let status = run(&tree, &["status"]);
    assert!(status.stdout.contains(ignored), "{}", status.stdout);
}
