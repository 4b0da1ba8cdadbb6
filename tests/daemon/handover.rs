//! The state in a plugin's memory goes to its next version, or stays where it was.

use crate::environment::reason_not_to_start;
use plugind_tests::{Daemon, Tree, another};
use std::{fs, os::unix::net::UnixDatagram, thread};

/// A manifest with these lines in `[config]`, and more.
fn manifest(config: &str, more: &str) -> String {
    format!("[config]\n{config}\n{more}\n")
}

/// The generation and the count in what the guest answers.
fn reported(text: &str) -> (u64, u64) {
    let number = |key: &str| {
        let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("there is no {key}: {text}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    (number("generation="), number("count="))
}

fn count(daemon: &Daemon) -> (u64, u64) {
    let answer = daemon.get("/keeps");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    reported(answer.text())
}

/// A daemon whose plugin has counted to three.
fn three(tree: &Tree) -> (Daemon, u64) {
    let daemon = Daemon::start(tree);
    let (generation, first) = count(&daemon);
    assert_eq!((first, count(&daemon).1, count(&daemon).1), (1, 2, 3));
    (daemon, generation)
}

#[test]
fn the_state_of_a_plugin_passes_to_its_next_version() {
    let tree = Tree::new().with("keeps");
    let (daemon, first) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    let (second, counted) = count(&daemon);
    assert!(second > first && counted == 4, "{second} {counted}");
    daemon.log.wait_for(&["plugind[keeps]: stopped: StopReason::Reload count=3"]);
    assert_eq!(daemon.log.count(&["plugind[keeps]: restored count=3"]), 1);
    assert!(daemon.reload().contains("unchanged=1"));
    assert_eq!(count(&daemon), (second, 5), "what did not change is not asked");
}

#[test]
fn a_version_that_saves_nothing_is_followed_by_one_without_state() {
    let tree = Tree::new().with_manifest("keeps", &manifest("save = \"nothing\"", ""));
    let (daemon, _) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(count(&daemon).1, 1);
    assert_eq!(daemon.log.count(&["plugind[keeps]: restored"]), 0);
}

#[test]
fn what_was_kept_is_forgotten_by_a_version_that_keeps_nothing() {
    let tree = Tree::new().with("keeps");
    let daemon = Daemon::start(&tree);
    assert_eq!(count(&daemon).1, 1);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(count(&daemon).1, 2);
    tree.put_guest("keeps", "counts");
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(count(&daemon).1, 1);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(count(&daemon).1, 1, "what an earlier version knew is not true any more");
}

#[test]
fn new_requests_wait_for_the_next_version_whose_state_includes_those_in_progress() {
    let tree = Tree::new().with_manifest("keeps", &manifest("save = \"slow 500\"", ""));
    let (daemon, old) = three(&tree);
    let mut under_way = daemon.connect();
    under_way.request("GET", "/keeps/pause/500", &[]);
    // Work that came behind it is answered, so the guest has it.
    assert_eq!(count(&daemon), (old, 4));
    tree.put("keeps.wasm", another("keeps"));
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| daemon.reload());
        daemon.log.wait_for(&["plugind[keeps]: saves count=5"]);
        let held = [(); 5].map(|()| {
            let mut client = daemon.connect();
            client.request("GET", "/keeps", &[]);
            client
        });
        assert_eq!(reported(under_way.response().text()), (old, 5));
        let mut counts: Vec<_> = held
            .into_iter()
            .map(|mut client| {
                let answer = client.response();
                assert_eq!(answer.status(), 200);
                let (generation, count) = reported(answer.text());
                assert!(generation > old, "{}", answer.text());
                count
            })
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [6, 7, 8, 9, 10]);
        assert!(reloading.join().unwrap().contains("changed=1 failed=0"));
    });
}

#[test]
fn no_more_work_waits_than_the_manifest_says() {
    let limited = manifest("save = \"slow 3000\"", "[handover]\nheld-max = 1");
    let tree = Tree::new().with_manifest("keeps", &limited);
    let (daemon, old) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| daemon.reload());
        daemon.log.wait_for(&["plugind[keeps]: saves count=3"]);
        let clients = [(); 2].map(|()| scope.spawn(|| daemon.get("/keeps")));
        let mut answers = clients.map(|client| client.join().unwrap());
        answers.sort_by_key(|answer| answer.status());
        let [held, refused] = &answers;
        assert_eq!(refused.status_and_text(), (503, "plugin keeps is busy\n"));
        assert_eq!(refused.head.field("retry-after"), Some("1"));
        let (generation, count) = reported(held.text());
        assert!(generation > old && count == 4, "{}", held.text());
        assert!(reloading.join().unwrap().contains("changed=1 failed=0"));
    });
}

#[test]
fn a_handover_that_fails_in_any_way_leaves_the_old_version_with_its_state() {
    let quickly = "[handover]\ntimeout-sec = \"500ms\"";
    for (old, new, why) in [
        (
            "save = \"fail\"",
            "",
            "it reported that it cannot save its state: it is told to\\\\u{a}fail at save",
        ),
        ("save = \"hang\"", "", "handover.timeout-sec"),
        (
            "save = \"grow 20000000\"",
            "",
            "its state has 20000000 bytes, and handover.state-max is 16M; raise that",
        ),
        ("", "restore = \"fail\"", "it reported that it cannot restore the state"),
        ("", "restore = \"hang\"", "handover.timeout-sec"),
        ("", "restore = \"trap\"", "unreachable"),
    ] {
        let tree = Tree::new().with_manifest("keeps", &manifest(old, quickly));
        let (daemon, first) = three(&tree);
        tree.put("keeps.toml", &*manifest(&format!("{old}\n{new}"), &format!("{quickly} # new")));
        tree.put("keeps.wasm", another("keeps"));
        let place = daemon.log.place();
        assert!(daemon.reload().contains("changed=0 failed=1"), "{old} {new}");
        daemon.log.wait_for_after(place, &["plugin failed", "plugin=keeps", why]);
        assert_eq!(count(&daemon), (first, 4), "{old} {new}");
        // A second try finds it as the first one did.
        tree.put("keeps.wasm", another("keeps"));
        assert!(daemon.reload().contains("changed=0 failed=1"), "{old} {new}");
        assert_eq!(count(&daemon), (first, 5), "{old} {new}");
    }
}

#[test]
fn a_version_that_takes_too_long_to_save_keeps_serving() {
    let slow = manifest("save = \"slow 1500\"", "[handover]\ntimeout-sec = \"500ms\"");
    let tree = Tree::new().with_manifest("keeps", &slow);
    let (daemon, first) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| daemon.reload());
        daemon.log.wait_for(&["plugind[keeps]: saves count=3"]);
        assert_eq!(count(&daemon), (first, 4));
        assert!(reloading.join().unwrap().contains("changed=0 failed=1"));
    });
    assert_eq!(count(&daemon), (first, 5));
    // It is asked to save again, within the time of its own manifest.
    tree.put("keeps.toml", &*slow.replace("500ms", "1min"));
    assert!(daemon.reload().contains("failed=1"), "the old one has the old time");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
    assert_eq!(count(&daemon), (first, 6));
}

#[test]
fn a_state_of_many_mebibytes_arrives_whole() {
    let tree = Tree::new().with_manifest("keeps", &manifest("save = \"grow 12000000\"", ""));
    let (daemon, _) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(count(&daemon).1, 4);
    daemon.log.wait_for(&["plugind[keeps]: restored count=3 bytes=12000000"]);
}

#[test]
fn an_instance_that_traps_while_it_saves_is_replaced_by_one_that_serves() {
    let tree = Tree::new().with_manifest("keeps", &manifest("save = \"trap\"", crate::RESTARTS));
    let (daemon, first) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=0 failed=1"));
    daemon.log.wait_for(&["instance failed", "plugin=keeps", "result=trap"]);
    assert_eq!(count(&daemon), (first, 1), "what it had not saved is lost with it");
}

#[test]
fn an_instance_that_replaces_one_that_trapped_has_what_was_saved_last() {
    let tree = Tree::new().with_manifest("keeps", crate::RESTARTS);
    let (daemon, _) = three(&tree);
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    let (second, counted) = count(&daemon);
    assert_eq!((counted, count(&daemon).1), (4, 5));
    for _ in 0..2 {
        assert_eq!(daemon.get("/keeps/trap").status(), 502);
        assert_eq!(count(&daemon), (second, 4), "as when it was saved");
    }
}

#[test]
fn a_plugin_with_a_state_has_one_instance_however_much_there_is_to_do() {
    let daemon = Daemon::start(&Tree::new().with("keeps"));
    let clients = [(); 30].map(|()| {
        let mut client = daemon.connect();
        client.request("GET", "/keeps/pause/100", &[]);
        client
    });
    let mut counts: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let answer = client.response();
            assert!(answer.text().starts_with("worker=0 "), "{}", answer.text());
            reported(answer.text()).1
        })
        .collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=30));
}

#[test]
fn a_daemon_that_stops_has_the_state_saved_and_waits_for_nothing_else() {
    for config in ["", "save = \"fail\"", "save = \"nothing\""] {
        let (mut daemon, _) = three(&Tree::new().with_manifest("keeps", &manifest(config, "")));
        assert_eq!(daemon.stop(), 0);
        daemon.log.wait_for(&["plugind[keeps]: saves count=3"]);
        daemon.log.wait_for(&["plugind[keeps]: stopped: StopReason::Shutdown count=3"]);
        assert_eq!(daemon.log.count(&["stop timeout exceeded"]), 0, "{config}");
    }
}

#[test]
fn a_daemon_starts_without_a_plugin_that_fails_in_any_way_while_it_restores() {
    let quickly = "[handover]\ntimeout-sec = \"500ms\"";
    for (restore, more, why) in [
        ("fail", "", "it reported that it cannot restore the state"),
        ("trap", "", "its `restore` failed: "),
        ("hang", quickly, "restoring the state took too long; raise handover.timeout-sec"),
    ] {
        let config = manifest(&format!("restore = \"{restore}\""), more);
        let tree = Tree::new().with_manifest("keeps", &config).with("hello");
        // As a daemon leaves it that exits when it is idle.
        let saved = tree.root().join("var/lib/plugind/.saved");
        fs::create_dir_all(&saved).unwrap();
        fs::write(saved.join("keeps"), "3\n").unwrap();
        let path = tree.root().join("notify");
        let _systemd = UnixDatagram::bind(&path).unwrap();
        let socket = format!("NOTIFY_SOCKET={}", path.display());
        let daemon = Daemon::start_by(&tree, &["env", &socket]);
        daemon.log.wait_for(&["plugin failed", "plugin=keeps", "stage=start ", why]);
        assert_eq!(daemon.get("/keeps").status(), 503, "{restore}");
        assert_eq!(daemon.get("/hello").status(), 200, "{restore}");
    }
}

#[test]
fn what_a_plugin_keeps_goes_to_the_instance_that_replaces_a_recycled_one() {
    let recycled = "[instances]\nrecycle-after = 3\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("keeps", recycled));
    let counts: Vec<_> = (0..10).map(|_| count(&daemon).1).collect();
    assert_eq!(counts, Vec::from_iter(1..=10));
    daemon.log.wait_for_times(3, &["plugind[keeps]: stopped: StopReason::Recycle"]);
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn an_instance_that_cannot_save_its_state_is_not_recycled() {
    let config = manifest("save = \"fail\"", "[instances]\nrecycle-after = 3\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("keeps", &config));
    let counts: Vec<_> = (0..10).map(|_| count(&daemon).1).collect();
    assert_eq!(counts, Vec::from_iter(1..=10));
    daemon.log.wait_for(&["state not saved, instance not replaced", "plugin=keeps"]);
}

#[test]
fn a_start_that_fails_leaves_the_state_of_an_idle_daemon_to_the_next_start() {
    let tree = Tree::new().with("keeps").with_settings("unknown = 1\n");
    let saved = tree.root().join("var/lib/plugind/.saved");
    fs::create_dir_all(&saved).unwrap();
    fs::write(saved.join("keeps"), "3").unwrap();
    let path = tree.root().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    thread::spawn(move || while systemd.recv(&mut [0; 4096]).is_ok() {});
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    for _ in 0..2 {
        let said = reason_not_to_start(&tree, &["/usr/bin/env", &socket, "/bin/sh"], ":");
        assert!(said.contains("unknown"), "{said}");
        assert!(saved.join("keeps").exists());
    }
    let tree = tree.with_settings("");
    let mut daemon = Daemon::start_by(&tree, &["/usr/bin/env", &socket]);
    assert_eq!(count(&daemon).1, 4);
    assert_eq!(daemon.stop(), 0);
    assert!(!saved.exists(), "systemd has it now");
}
