//! From no plugin at all to a hundred.

use plugind_tests::{Daemon, Tree, another, end_of};

#[test]
fn a_daemon_without_plugins_is_ready() {
    let tree = Tree::new();
    let mut daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["info    plugind: ready plugins=0"]);
    assert_eq!(daemon.get("/").status_and_text(), (404, "no plugin serves this path\n"));
    assert_eq!(daemon.stop(), 0);

    // Nor do the directories of a system have to exist.
    let bare = Tree::new();
    std::fs::remove_dir_all(bare.root().join("etc")).unwrap();
    Daemon::start(&bare).log.wait_for(&["info    plugind: ready plugins=0"]);
}

#[test]
fn a_directory_that_was_asked_for_must_exist() {
    let ended = end_of(&Tree::new(), &["--plugins", "/nowhere/at/all"]);
    assert_eq!(ended.status, 78);
    ended.log.wait_for(&["err     plugind: startup failed", "/nowhere/at/all"]);
}

#[test]
fn a_hundred_plugins_are_served() {
    let tree = Tree::with_own_cache();
    // Of ten components, since a hundred would take the compiler too long.
    for component in 0..10 {
        let bytes = another("greeter_02");
        for number in 0..10 {
            tree.put(&format!("plugin-{component}{number}.wasm"), &bytes);
        }
    }
    let mut daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["info    plugind: ready plugins=100"]);
    let mut client = daemon.connect();
    for number in 0..100 {
        let answer = client.get(&format!("/plugin-{number:02}"));
        assert_eq!(
            answer.status_and_text(),
            (200, "Hello from a wasi:http 0.2 component\n"),
            "{number}"
        );
    }
    assert_eq!(daemon.log.count(&["info    plugind: plugin ready"]), 100);
    tree.remove("plugin-07.wasm");
    tree.put("plugin-08.wasm", another("hello"));
    assert!(daemon.reload().contains("changed=1 failed=0 removed=1 unchanged=98"));
    assert_eq!(daemon.get("/plugin-08").status_and_text(), (200, "Hello from plugin-08\n"));
    assert_eq!(daemon.stop(), 0);
}
