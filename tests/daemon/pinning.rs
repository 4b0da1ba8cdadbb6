//! Pinned plugins keep the version that serves, whatever becomes of their files.

use crate::control::{Ran, row, run, start, start_by};
use plugind_tests::{Tree, another, guest};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

fn succeed(tree: &Tree, arguments: &[&str]) -> String {
    let Ran { status, stdout, stderr } = run(tree, arguments);
    assert_eq!((status, &*stderr), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout
}

const UNUSED: &str = "app is pinned: its files are not used until `pluginctl unpin app`\n";

#[test]
fn a_pinned_plugin_keeps_its_version_over_reloads_and_restarts() {
    let tree = Tree::new().with_named("app", "hello", "").with("counts");
    let mut daemon = start(&tree);
    let old = daemon.get("/app").text().to_owned();
    assert_eq!(succeed(&tree, &["pin", "app"]), "app: pinned to the version that serves\n");
    assert_eq!(succeed(&tree, &["pin", "app"]), "app: pinned to the version that serves\n");
    for files in [fs::read(guest("counts")).unwrap(), b"no component".to_vec()] {
        tree.put("app.wasm", files);
        tree.put("counts.wasm", another("counts"));
        let reloaded = run(&tree, &["reload"]);
        assert_eq!((reloaded.status, &*reloaded.stderr), (Some(0), UNUSED));
        assert!(reloaded.stdout.contains("swapped counts"), "{}", reloaded.stdout);
        assert_eq!(daemon.get("/app").text(), old);
    }
    let component = run(&tree, &["install", guest("counts").to_str().unwrap(), "--name", "app"]);
    assert_eq!((component.status, &*component.stderr), (Some(0), UNUSED));
    for arguments in [["reload", "app"], ["rollback", "app"]] {
        let refused = run(&tree, &arguments);
        assert_eq!(refused.status, Some(1));
        let remedy = "it is pinned; `pluginctl unpin app` ends that\n";
        assert!(refused.stderr.ends_with(remedy), "{}", refused.stderr);
    }
    succeed(&tree, &["restart", "app"]);
    succeed(&tree, &["stop", "app"]);
    succeed(&tree, &["start", "app"]);
    assert_eq!(daemon.get("/app").text(), old);

    for _ in 0..2 {
        assert_eq!(daemon.stop(), 0);
        drop(daemon);
        daemon = start(&tree);
        assert_eq!(daemon.get("/app").text(), old);
        let list = succeed(&tree, &["list"]);
        assert_eq!(row(&list, "app")[1..3], ["active", "(pinned)"], "{list}");
    }
    assert!(succeed(&tree, &["status", "app"]).contains("Pinned: its files are not used"));
    assert!(succeed(&tree, &["status", "app", "--json"]).contains(r#""pinned":true"#));

    succeed(&tree, &["unpin", "app"]);
    assert_eq!(daemon.get("/app").text(), old, "a reload takes over the files");
    assert!(succeed(&tree, &["reload"]).contains("swapped app"));
    assert_ne!(daemon.get("/app").text(), old);
    assert!(!succeed(&tree, &["list"]).contains("pinned"));
}

#[test]
fn a_plugin_that_was_rolled_back_can_be_pinned_to_its_previous_version() {
    let tree = Tree::new().with_named("app", "hello", "");
    let mut daemon = start(&tree);
    let old = daemon.get("/app").text().to_owned();
    tree.wait_for_version("app");
    tree.put_guest("app", "counts");
    succeed(&tree, &["reload"]);
    succeed(&tree, &["rollback", "app"]);
    succeed(&tree, &["pin", "app"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/app").text(), old);
}

#[test]
fn a_pin_ends_with_its_plugin() {
    let tree = Tree::new().with_named("app", "hello", "").with("counts");
    let mut daemon = start(&tree);
    for arguments in [["pin", "nobody"], ["unpin", "nobody"]] {
        let refused = run(&tree, &arguments);
        assert_eq!(
            (refused.status, &*refused.stderr),
            (Some(1), "there is no plugin nobody; `pluginctl list` shows the plugins\n")
        );
    }
    succeed(&tree, &["pin", "app", "counts"]);
    tree.remove("app.wasm");
    succeed(&tree, &["reload"]);
    daemon.log.wait_for(&["info    plugind: plugin unpinned ", "plugin=app"]);
    tree.put_guest("app", "sleeps");
    succeed(&tree, &["reload"]);
    assert_eq!(daemon.get("/app").status(), 200);
    assert!(!row(&succeed(&tree, &["list"]), "app").contains(&"(pinned)"));

    // Nothing that serves could be kept.
    succeed(&tree, &["stop", "app"]);
    let refused = run(&tree, &["pin", "app"]);
    let error = "app: cannot change its pin: no version of it serves; only a version that serves can be pinned\n";
    assert_eq!((refused.status, &*refused.stderr), (Some(1), error));

    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    tree.remove("counts.wasm");
    let mut daemon = start(&tree);
    daemon.log.wait_for(&["info    plugind: plugin unpinned ", "plugin=counts"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    tree.put_guest("counts", "hello");
    let _daemon = start(&tree);
    assert!(!row(&succeed(&tree, &["list"]), "counts").contains(&"(pinned)"));
}

#[test]
fn a_start_that_finds_no_plugin_keeps_pins_and_versions_for_a_later_reload() {
    let tree = Tree::new().with_named("app", "hello", "");
    let mut daemon = start(&tree);
    let old = daemon.get("/app").text().to_owned();
    succeed(&tree, &["pin", "app"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    // As if the directory was not mounted.
    tree.remove("app.wasm");
    for _ in 0..2 {
        let mut daemon = start(&tree);
        let kept = "warning plugind: no plugin found, stored data kept ";
        daemon.log.wait_for(&[kept, "missing=app"]);
        assert_eq!(daemon.stop(), 0);
        assert_eq!(daemon.log.count(&["plugin unpinned"]), 0);
    }
    let mut daemon = start(&tree);
    tree.put_guest("app", "counts");
    assert_eq!(run(&tree, &["reload"]).stderr, UNUSED);
    assert_eq!(daemon.get("/app").text(), old);
    assert_eq!(row(&succeed(&tree, &["list"]), "app")[1..3], ["active", "(pinned)"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    // A start that finds another plugin removes what is left of this one.
    tree.remove("app.wasm");
    tree.put_guest("counts", "counts");
    let mut daemon = start(&tree);
    daemon.log.wait_for(&["info    plugind: plugin unpinned ", "plugin=app"]);
    assert_eq!(daemon.stop(), 0);
    assert!(!tree.root().join("var/lib/plugind/.versions/app").exists());
}

#[test]
fn a_pinned_version_that_is_lost_is_a_failure_and_not_replaced() {
    let tree = Tree::new().with_named("app", "hello", "required = false\n");
    let mut daemon = start(&tree);
    succeed(&tree, &["wait", "app"]);
    succeed(&tree, &["pin", "app"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let versions = tree.root().join("var/lib/plugind/.versions/app");
    for entry in fs::read_dir(versions).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    tree.put_guest("app", "counts");
    let daemon = start(&tree);
    assert_eq!(daemon.get("/app").status(), 503);
    let status = run(&tree, &["status", "app"]);
    assert_eq!(status.status, Some(3));
    let error = "the pinned version cannot be read: it is not among the versions that the daemon keeps; \
                 `pluginctl unpin app` ends the pin";
    assert!(status.stdout.contains(error), "{}", status.stdout);
    succeed(&tree, &["unpin", "app"]);
    succeed(&tree, &["reload"]);
    assert_eq!(daemon.get("/app").status(), 200);
}

#[test]
fn versions_of_one_plugin_that_cannot_be_read_end_no_pin_of_another() {
    let tree = Tree::new().with_named("app", "hello", "").with("counts");
    let mut daemon = start(&tree);
    let old = daemon.get("/app").text().to_owned();
    succeed(&tree, &["pin", "app"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let unreadable = tree.root().join("var/lib/plugind/.versions/counts");
    fs::set_permissions(&unreadable, Permissions::from_mode(0o000)).unwrap();
    tree.put_guest("app", "counts");
    // Root, for which the rights of files count as for any other user.
    let less = "-dac_override,-dac_read_search";
    let script = format!("set -- setpriv --inh-caps={less} --bounding-set={less} \"$@\"");
    let daemon = start_by(&tree, &script);
    daemon.log.wait_for(&["warning plugind: cannot read versions ", "plugin=counts"]);
    assert_eq!(daemon.get("/app").text(), old);
    assert_eq!(daemon.get("/counts").status(), 200);
    assert_eq!(row(&succeed(&tree, &["list"]), "app")[1..3], ["active", "(pinned)"]);
}

#[test]
fn a_pin_can_be_removed_while_the_daemon_does_not_run() {
    let tree = Tree::new().with_named("app", "hello", "");
    let mut daemon = start(&tree);
    let old = daemon.get("/app").text().to_owned();
    succeed(&tree, &["pin", "app"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    tree.put_guest("app", "counts");
    assert_eq!(
        succeed(&tree, &["unpin", "app"]),
        "app: unpinned; the next start of plugind uses its files\n"
    );
    let again = run(&tree, &["unpin", "app"]);
    assert_eq!((again.status, &*again.stderr), (Some(1), "app: it is not pinned\n"));
    let daemon = start(&tree);
    assert!(!run(&tree, &["list"]).stdout.contains("pinned"));
    assert_ne!(daemon.get("/app").text(), old);
}

#[test]
fn a_plugin_that_is_held_gets_changed_credentials_by_a_reload() {
    let granted = "[grants]\ncredentials = [\"token\"]\n";
    let tree = Tree::new().with_named("app", "secret", granted);
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    let put = |value: &str| fs::write(credentials.join("plugind.app.token"), value).unwrap();
    put("old");
    let daemon = start(&tree);
    let ask = || daemon.get("/app/token").text().to_owned();
    assert_eq!(ask(), "old");
    tree.wait_for_version("app");
    tree.put("app.toml", format!("description = \"new\"\n{granted}"));
    succeed(&tree, &["reload"]);
    succeed(&tree, &["rollback", "app"]);
    for (value, is_pinned) in [("new", false), ("newer", true)] {
        if is_pinned {
            succeed(&tree, &["pin", "app"]);
        }
        put(value);
        let reloaded = run(&tree, &["reload"]);
        assert!(reloaded.stdout.contains("swapped app"), "{}", reloaded.stdout);
        assert_eq!(ask(), value);
        assert!(run(&tree, &["reload"]).stdout.contains("0 changed"));
        let status = run(&tree, &["status", "app"]);
        assert!(status.stdout.contains("an operator rolled it back"), "{}", status.stdout);
    }
    fs::remove_file(credentials.join("plugind.app.token")).unwrap();
    let withdrawn = run(&tree, &["reload"]);
    assert_eq!(withdrawn.status, Some(1));
    assert!(withdrawn.stderr.contains("plugind.app.token was withdrawn"), "{}", withdrawn.stderr);
    assert_eq!(daemon.get("/app/token").status(), 503);
}
