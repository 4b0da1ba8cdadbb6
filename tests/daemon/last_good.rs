//! A failed reload does not turn the next start into an outage: the versions that served last serve again.

use crate::{
    control::{run, start},
    metrics::Measured,
};
use plugind_tests::{Daemon, Tree, end_of, guest};
use std::fs;

const OLD: (u16, &str) = (200, "Old from hello\n");

/// A tree whose plugin `hello` has served with the greeting "Old", of a daemon that has ended.
fn served() -> Tree {
    let tree = Tree::new().with_manifest("hello", "[config]\ngreeting = \"Old\"\n");
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/hello").status_and_text(), OLD);
    assert_eq!(daemon.stop(), 0);
    tree
}

#[test]
fn a_start_serves_the_last_good_version_of_a_plugin_at_whatever_step_it_fails() {
    let tree = served();
    let component = fs::read(tree.plugins().join("hello.wasm")).unwrap();
    let [traps, secret] = ["traps_on_start", "secret"].map(|name| fs::read(guest(name)).unwrap());
    let granted = "[grants]\ncredentials = [\"token\"]\n";
    for (stage, component, manifest) in [
        ("verify", b"no component".to_vec(), ""),
        ("verify", component.clone(), "unknown = 1\n"),
        ("link", secret, granted),
        ("start", component.clone(), "[config]\ngreeting = \"\"\n"),
        ("start", traps, ""),
    ] {
        tree.put("hello.wasm", component);
        tree.put("hello.toml", manifest);
        let mut daemon = start(&tree);
        assert_eq!(daemon.get("/hello").status_and_text(), OLD, "{stage}");
        let stage = format!("stage={stage} ");
        daemon.log.wait_for(&["plugin failed", "plugin=hello", &stage]);
        daemon.log.wait_for(&["warning plugind: previous version serves", "plugin=hello", &stage]);
        assert_eq!(daemon.log.count(&["plugin failed"]), 1, "it is tried once");
        let status = run(&tree, &["status"]);
        assert!(
            status.stdout.contains("degraded: hello has served its previous version since 20"),
            "{}",
            status.stdout
        );
        assert_eq!(status.status, Some(3));
        assert_eq!(daemon.stop(), 0);
    }
    tree.put("hello.wasm", component);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.log.count(&["previous version serves"]), 0);
}

#[test]
fn a_disabled_plugin_serves_no_version_if_its_newest_one_has_a_mistake() {
    let tree = served().with("counts");
    let component = fs::read(tree.plugins().join("hello.wasm")).unwrap();
    assert_eq!(run(&tree, &["disable", "hello"]).status, Some(0));
    for (component, manifest) in [
        (b"no component".to_vec(), "required = true\n"),
        (component.clone(), "unknown = 1\n"),
        (component, "no toml"),
    ] {
        tree.put("hello.wasm", component);
        tree.put("hello.toml", manifest);
        let mut daemon = start(&tree);
        assert_eq!(daemon.get("/counts").status(), 200, "{manifest}");
        assert_ne!(daemon.get("/hello").status(), 200, "{manifest}");
        assert_eq!(daemon.log.count(&["previous version serves"]), 0, "{manifest}");
        assert_eq!(daemon.log.count(&["plugin failed", "plugin=hello"]), 1, "{manifest}");
        assert_eq!(daemon.stop(), 0);
    }
    assert_eq!(run(&tree, &["enable", "hello"]).status, Some(0));
    assert_eq!(Daemon::start(&tree).get("/hello").status_and_text(), OLD);
}

#[test]
fn a_plugin_that_fell_back_is_shown_as_degraded_until_it_is_fixed() {
    let tree = served();
    let component = fs::read(tree.plugins().join("hello.wasm")).unwrap();
    tree.put("hello.wasm", "no component");
    let measured = Measured::start_with_control(&tree);
    let degraded = |expected: bool| {
        let newest_failed = measured.value("plugind_plugin_newest_failed{plugin=\"hello\"}");
        assert_eq!(newest_failed, Some(f64::from(expected)));
        for arguments in [&["list"][..], &["status"], &["status", "hello"]] {
            let ran = run(&tree, arguments);
            assert_eq!(ran.stdout.contains("degraded"), expected, "{arguments:?}: {}", ran.stdout);
            assert_eq!(ran.status, Some(if expected { 3 } else { 0 }), "{arguments:?}");
        }
    };
    let shows = |text: &str| assert!(run(&tree, &["status", "hello"]).stdout.contains(text));
    degraded(true);
    shows("Degraded: it has served its previous version since 20");
    shows("Failed: the next version, at verify: ");
    // Neither a reload that finds the same nor new instances of the previous version fix it.
    assert_eq!(run(&tree, &["reload"]).status, Some(1));
    degraded(true);
    assert_eq!(run(&tree, &["restart", "hello"]).status, Some(0));
    degraded(true);
    tree.put("hello.wasm", component);
    assert_eq!(run(&tree, &["reload"]).status, Some(0));
    degraded(false);
}

#[test]
fn a_version_that_failed_a_reload_is_shown_as_degraded_until_it_is_fixed() {
    let tree = Tree::new().with("hello").with("counts");
    let daemon = start(&tree);
    tree.put("hello.toml", "[config]\ngreeting = \"\"\n");
    assert_eq!(run(&tree, &["reload"]).status, Some(1));
    assert_eq!(daemon.get("/hello").status(), 200);
    for arguments in [&["list"][..], &["status"], &["status", "hello"]] {
        let ran = run(&tree, arguments);
        assert!(ran.stdout.contains("degraded"), "{arguments:?}: {}", ran.stdout);
        assert_eq!(ran.status, Some(3), "{arguments:?}");
    }
    assert_eq!(run(&tree, &["status", "counts"]).status, Some(0));
    tree.put("hello.toml", "");
    assert_eq!(run(&tree, &["reload"]).status, Some(0));
    assert_eq!(run(&tree, &["status"]).status, Some(0));
    assert!(!run(&tree, &["status"]).stdout.contains("hello"));
}

#[test]
fn a_plugin_that_never_served_does_not_keep_the_others_from_starting() {
    let tree = served().with("start_configuration");
    let mut daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status_and_text(), OLD);
    assert_eq!(daemon.get("/start-configuration").status(), 503);
    let status = run(&tree, &["status"]);
    assert!(status.stdout.contains("failed: start-configuration (start: "), "{}", status.stdout);
    assert_eq!(status.status, Some(3));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_plugin_that_never_served_is_retried_while_it_is_unavailable() {
    let manifest = "[service]\nrestart-sec = \"1ms\"\nrestart-steps = 0\n";
    let tree = served().with_manifest("start_unavailable", manifest);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status_and_text(), OLD);
    let parts = ["instance failed", "plugin=start-unavailable", "result=unavailable"];
    daemon.log.wait_for_times(10, &parts);
    assert_eq!(daemon.log.count(&["plugin failed"]), 0);
    // It serves as soon as it can.
    tree.put_guest("start-unavailable", "counts");
    assert_eq!(run(&tree, &["reload"]).status, Some(0));
    assert_eq!(daemon.get("/start-unavailable").status(), 200);
}

#[test]
fn a_first_start_that_fails_leaves_nothing_that_the_next_one_falls_back_to() {
    let tree = Tree::new().with("hello").with("start_configuration");
    for _ in 0..2 {
        assert_eq!(end_of(&tree, &[]).status, 78);
    }
}

#[test]
fn a_program_that_returned_while_the_daemon_started_is_a_version_to_fall_back_to() {
    let tree = Tree::new().with("program_ends");
    let mut daemon = Daemon::start(&tree);
    tree.wait_for_version("program-ends");
    assert_eq!(daemon.stop(), 0);
    tree.put_guest("program-ends", "traps_on_start");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["plugin failed", "plugin=program-ends", "stage=start "]);
    daemon.log.wait_for(&["warning plugind: previous version serves", "plugin=program-ends"]);
}

#[test]
fn a_version_that_served_and_fails_now_makes_the_start_fail() {
    let tree = Tree::new().with_named("site", "secret", "[grants]\ncredentials = [\"token\"]\n");
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    fs::write(credentials.join("plugind.site.token"), "secret").unwrap();
    assert_eq!(Daemon::start(&tree).stop(), 0);
    fs::remove_dir_all(&credentials).unwrap();
    let ended = end_of(&tree, &[]);
    assert_eq!(ended.status, 78);
    ended.log.wait_for(&["startup failed", "plugind.site.token"]);
}

#[test]
fn a_setting_makes_the_start_fail_instead() {
    let tree = served();
    tree.put("hello.wasm", "no component");
    let tree = tree.with_settings("serve-previous = false\n");
    let ended = end_of(&tree, &[]);
    assert_eq!(ended.status, 78);
    assert_eq!(ended.log.count(&["previous version serves"]), 0);
}

#[test]
fn plugins_of_another_directory_are_not_replaced_by_versions_of_the_machine() {
    let tree = served();
    tree.put("hello.wasm", "no component");
    let plugins = tree.plugins();
    assert_eq!(end_of(&tree, &["--plugins", plugins.to_str().unwrap()]).status, 78);
}

#[test]
fn a_plugin_that_is_removed_leaves_no_version() {
    let tree = served().with("counts");
    let mut daemon = Daemon::start(&tree);
    for file in ["hello.wasm", "hello.toml"] {
        tree.remove(file);
    }
    assert!(daemon.reload().contains("removed=1"));
    assert_eq!(daemon.stop(), 0);
    let versions = tree.root().join("var/lib/plugind/.versions");
    let left: Vec<_> = fs::read_dir(versions).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["counts"]);
}

#[test]
fn a_stored_version_that_was_damaged_does_not_keep_others_from_starting() {
    let tree = Tree::new().with_manifest("hello", "[config]\ngreeting = \"Old\"\n").with("counts");
    assert_eq!(Daemon::start(&tree).stop(), 0);
    let versions = tree.root().join("var/lib/plugind/.versions");
    let stored = fs::read_dir(versions.join("hello")).unwrap().next().unwrap().unwrap().path();
    let component = stored.join("hello.wasm");
    let good = fs::read(&component).unwrap();
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    fs::write(&component, damaged).unwrap();
    // Nor does a file that is no version.
    fs::write(versions.join("stray"), "").unwrap();
    tree.put("hello.toml", "[config]\ngreeting = \"\"\n");

    let mut daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["cannot serve previous version", "plugin=hello"]);
    assert_eq!(daemon.get("/counts").status(), 200);
    assert_eq!(daemon.get("/hello").status(), 503);
    // It is written again when it serves.
    tree.put("hello.toml", "[config]\ngreeting = \"Old\"\n");
    daemon.reload();
    assert_eq!(daemon.get("/hello").status_and_text(), OLD);
    assert_eq!(daemon.stop(), 0);
    tree.put("hello.toml", "[config]\ngreeting = \"\"\n");
    assert_eq!(Daemon::start(&tree).get("/hello").status_and_text(), OLD);
}
