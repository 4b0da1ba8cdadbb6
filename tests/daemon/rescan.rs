//! Changes in the directories take effect at a SIGHUP, without a request lost.

use plugind_tests::{Daemon, Tree, another, end_of};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

const SITE: &str = "[[serve]]\nroute = \"/site\"\n";

#[test]
fn a_new_plugin_is_served_and_one_that_is_gone_is_not() {
    let tree = Tree::new();
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/hello").status(), 404);

    tree.put_guest("hello", "hello");
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=0"));
    assert_eq!(daemon.get("/hello").status(), 200);

    tree.remove("hello.wasm");
    assert!(daemon.reload().contains("changed=0 failed=0 removed=1 unchanged=0"));
    assert_eq!(daemon.get("/hello").status(), 404);

    tree.put_guest("hello", "hello");
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=0"));
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn what_did_not_change_is_not_touched() {
    let tree = Tree::new().with_manifest("counts", "[instances]\nmax = 1\n").with("hello");
    let daemon = Daemon::start(&tree);
    let before = daemon.get("/counts");
    assert!(before.text().ends_with("count=1"));
    tree.put("hello.toml", "[config]\ngreeting = \"Good day\"\n");
    // Written again, with the same contents.
    tree.put_guest("counts", "counts");
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=1"));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    assert_eq!(daemon.get("/counts").text(), before.text().replace("count=1", "count=2"));
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=2"));
}

#[test]
fn while_a_plugin_is_replaced_every_request_is_answered_by_the_old_or_by_the_new() {
    let tree = Tree::new().with_named("site", "both_versions", SITE);
    let daemon = Daemon::start(&tree);
    let over = AtomicBool::new(false);
    // The answers in the order of the versions. The last one takes its time to start; the one before keeps answering.
    let versions = ["0.3", "Hello from a wasi:http 0.2 component\n", "warm\n"];
    let visitor = || {
        let (mut client, mut version, mut answers) = (daemon.connect(), 0, [0; 3]);
        while !over.load(Relaxed) {
            let answer = client.get("/site");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            let now = versions.iter().position(|text| *text == answer.text()).unwrap();
            assert!(now >= version, "an older version answered behind a newer one");
            version = now;
            answers[version] += 1;
        }
        answers
    };
    thread::scope(|scope| {
        let visitors = [(); 3].map(|()| scope.spawn(visitor));
        let replacing = scope.spawn(|| {
            for (guest, text) in [("greeter_02", versions[1]), ("warmup", versions[2])] {
                tree.put_guest("site", guest);
                assert!(daemon.reload().contains("changed=1"));
                assert_eq!(daemon.get("/site").text(), text, "what is reloaded is what answers");
            }
        });
        let replaced = replacing.join();
        over.store(true, Relaxed);
        for visitor in visitors {
            let answers = visitor.join().unwrap();
            assert!(answers[1] > 0, "{answers:?}");
        }
        replaced.unwrap();
    });
}

#[test]
fn what_is_under_way_in_a_plugin_that_is_replaced_or_removed_is_finished() {
    let tree = Tree::new().with("streams");
    let daemon = Daemon::start(&tree);
    for remove in [false, true] {
        let mut client = daemon.connect();
        client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
        client.write_chunk(b"before");
        assert_eq!(client.head().status, 200);
        assert_eq!(client.chunks_of(6), b"before");
        if remove {
            tree.remove("streams.wasm");
        } else {
            tree.put("streams.wasm", another("streams"));
        }
        daemon.reload();
        assert_eq!(daemon.get("/streams").status(), if remove { 404 } else { 200 });
        client.write_chunk(b"after");
        assert_eq!(client.chunks_of(5), b"after");
        client.write_chunk(b"");
        assert_eq!(client.chunks_of(1), b"");
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_bad_new_version_leaves_the_old_one_serving() {
    let tree = Tree::new().with_manifest("hello", "[config]\ngreeting = \"Old\"\n");
    let daemon = Daemon::start(&tree);
    let stays = |what: &str, stage: &str| {
        let place = daemon.log.place();
        assert!(daemon.reload().contains("changed=0 failed=1 removed=0 unchanged=0"), "{what}");
        let stage = format!("stage={stage} ");
        daemon.log.wait_for_after(place, &["plugin failed", "plugin=hello", &stage]);
        assert_eq!(daemon.get("/hello").status_and_text(), (200, "Old from hello\n"), "{what}");
    };
    let good = fs::read(tree.plugins().join("hello.wasm")).unwrap();
    tree.put("hello.wasm", "#!/bin/sh\n");
    stays("no component", "verify");
    tree.put("hello.wasm", &good[..good.len() / 2]);
    stays("half a component", "verify");
    for (guest, stage) in [
        ("nothing_to_serve", "verify"),
        ("wrong_version", "verify"),
        ("asks_too_much", "verify"),
        ("traps_on_start", "start"),
        ("start_configuration", "start"),
        ("start_unavailable", "start"),
    ] {
        tree.put_guest("hello", guest);
        stays(guest, stage);
    }
    tree.put("hello.wasm", &good);
    tree.put("hello.toml", "[config\n");
    stays("half a manifest", "verify");
    tree.put("hello.toml", "[config]\ngreeting = \" \"\n");
    stays("a greeting that hello itself refuses", "start");

    tree.put("hello.toml", "[config]\ngreeting = \"New\"\n");
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=0"));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "New from hello\n"));
}

#[test]
fn a_plugin_that_failed_for_good_is_tried_again() {
    let manifest = "[service]\nrestart = \"no\"\n[instances]\nmax = 1\n";
    let tree = Tree::new().with_manifest("traps_in_request", manifest);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/traps-in-request/trap").status(), 502);
    daemon.log.wait_for(&["plugin failed", "plugin=traps-in-request", "stage=run"]);
    assert_eq!(daemon.get("/traps-in-request").status(), 503);
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(daemon.get("/traps-in-request").status(), 200);
}

#[test]
fn the_plugin_that_had_a_route_keeps_it_when_another_one_asks_for_it() {
    let tree = Tree::new().with_named("second", "both_versions", SITE);
    let daemon = Daemon::start(&tree);
    let tree = tree.with_named("first", "greeter_02", SITE);
    daemon.reload();
    let failed = daemon.log.wait_for(&["plugin failed", "plugin=first", "stage=route"]);
    assert!(failed.contains("second") && failed.contains("/site"), "{failed}");
    assert_eq!(daemon.get("/site").status_and_text(), (200, "0.3"));

    // At a start neither has it, and nobody could say which one was meant.
    assert_eq!(end_of(&tree, &[]).status, 78);
}

#[test]
fn every_mistake_in_a_manifest_is_reported_with_its_place_and_a_remedy() {
    let manifest = "requird = true\n\n[limits]\n  memory-max = \"much\"\nlog-rate = 5\n\
                    [service]\nrestart = \"sometimes\"\n[[serve]]\nroute = \"site\"\n";
    let tree = Tree::new().with_manifest("hello", manifest).with("greeter_02");
    let ended = end_of(&tree, &[]);
    assert_eq!(ended.status, 78);
    let failed = ended.log.wait_for(&["plugin failed", "plugin=hello", "stage=verify"]);
    let path = tree.plugins().join("hello.toml");
    for (place, part) in [
        ("1:1", "required"),
        ("4:16", "64M"),
        ("5:12", "text in quotes"),
        ("7:11", "on-failure"),
        ("9:9", "must begin with"),
    ] {
        let reported = format!("{}:{place}: ", path.display());
        let (_, rest) = failed.split_once(&reported).unwrap_or_else(|| panic!("{place}: {failed}"));
        assert!(rest.split(&*path.to_string_lossy()).next().unwrap().contains(part), "{rest}");
    }
}

#[test]
fn a_directory_that_cannot_be_read_any_more_changes_nothing() {
    let tree = Tree::new().with("hello");
    let elsewhere = tree.root().join("elsewhere");
    let plugins = tree.plugins();
    let daemon = Daemon::start_with(&tree, &["--plugins", plugins.to_str().unwrap()]);
    fs::rename(&plugins, &elsewhere).unwrap();
    daemon.signal(plugind_tests::Signal::HUP);
    daemon.log.wait_for(&["err     plugind: cannot read configuration", "etc/plugind/plugins"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    fs::rename(&elsewhere, &plugins).unwrap();
    assert!(daemon.reload().contains("unchanged=1"));
}

#[test]
fn a_file_that_only_looks_like_a_plugin_is_reported_and_ignored() {
    let tree = Tree::new().with("hello");
    tree.put("Bad Name.wasm", "");
    tree.put("lonely.toml", "");
    tree.put("notes.txt", "");
    tree.put("hello.wasm.old", "");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["ready plugins=1"]);
    daemon.log.wait_for(&[
        "warning plugind: file ignored",
        "Bad Name.wasm",
        "rename it to bad-name.wasm",
    ]);
    daemon.log.wait_for(&["warning plugind: file ignored", "lonely.toml", "lonely.wasm"]);
    assert_eq!(daemon.log.count(&["warning"]), 2);
}

#[test]
fn signals_that_come_while_one_rescan_is_under_way_lead_to_another_one() {
    let tree = Tree::new().with("warmup");
    let daemon = Daemon::start(&tree);
    tree.put("warmup.toml", "[config]\na = \"changed, so that it starts anew\"\n");
    daemon.signal(plugind_tests::Signal::HUP);
    daemon.log.wait_for(&["plugind: reload started"]);
    tree.put_guest("hello", "hello");
    for _ in 0..10 {
        daemon.signal(plugind_tests::Signal::HUP);
    }
    daemon.log.wait_for(&["plugin ready", "plugin=hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.get("/warmup").status(), 200);
}

#[test]
fn requests_that_wait_for_a_version_that_goes_are_answered_by_the_next_one() {
    let tree = Tree::new().with("sleeps");
    let one_at_a_time = "[instances]\nmax = 1\nconcurrency = 1\n";
    tree.put("sleeps.toml", one_at_a_time);
    let daemon = Daemon::start(&tree);
    thread::scope(|scope| {
        let long = scope.spawn(|| daemon.get("/sleeps/sleep/3000"));
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| daemon.get("/sleeps/fine"))).collect();
        tree.put("sleeps.toml", format!("{one_at_a_time}[config]\nx = \"1\"\n"));
        assert!(daemon.reload().contains("changed=1"));
        for request in waiting {
            assert_eq!(request.join().unwrap().status(), 200);
        }
        assert_eq!(long.join().unwrap().status(), 200);
    });
}

#[test]
fn a_plugin_that_is_not_required_may_have_a_broken_manifest() {
    let tree = Tree::new().with("hello").with("sleeps");
    tree.put("sleeps.toml", "required = false\n[service]\nwatchdog-sec = \"soon\"\n");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["plugin failed", "sleeps.toml:3:16"]);
    assert_eq!(daemon.get("/hello").status(), 200);
}
