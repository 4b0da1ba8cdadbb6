//! File systems that are full or read-only, mounted for the daemon alone.

use crate::control;
use plugind_tests::Tree;
use std::fs;

/// A script that mounts a small file system on the state directory, seen by the daemon alone.
fn mount(tree: &Tree, then: &str) -> String {
    let state = tree.root().join("var/lib/plugind");
    fs::create_dir_all(&state).unwrap();
    let state = state.display();
    format!(
        "mount -t tmpfs -o size=64k,mode=0755 plugind-test '{state}'\ncd '{state}'\n{then}\ncd /"
    )
}

#[test]
fn status_names_a_state_directory_on_a_file_system_that_is_full() {
    let tree = Tree::new().with("hello");
    // It ends with an error when the file system is full.
    let script = mount(&tree, "dd if=/dev/zero of=full bs=1k 2>/dev/null || :");
    let daemon = control::start_by(&tree, &script);
    assert_eq!(daemon.get("/hello").status(), 200);
    let status = control::run(&tree, &["status"]).stdout;
    assert!(status.contains("is on a file system without space"), "{status}");
    let version = daemon.log.wait_for(&["warning plugind: version not kept plugin=hello "]);
    assert!(version.contains("No space left on device"), "{version}");
}

#[test]
fn status_names_a_state_directory_on_a_file_system_that_is_read_only() {
    let tree = Tree::new().with("hello");
    let script = mount(&tree, "mount -o remount,ro plugind-test .");
    let daemon = control::start_by(&tree, &script);
    assert_eq!(daemon.get("/hello").status(), 200);
    let status = control::run(&tree, &["status"]).stdout;
    assert!(status.contains("is on a read-only file system"), "{status}");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_not_the_components_fault() {
    let optional = "required = false\n[grants]\nstate = true\n";
    let tree = Tree::new().with("hello").with_manifest("files", optional);
    let script = mount(&tree, "mount -o remount,ro plugind-test .");
    let daemon = control::start_by(&tree, &script);
    let failed = daemon.log.wait_for(&["plugin failed", "plugin=files", "stage=link"]);
    let remedy = "remedy=\"fix that and reload\"";
    for part in ["Read-only file system", "var/lib/plugind/files", remedy] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    let status = control::run(&tree, &["status", "files"]).stdout;
    assert!(status.contains("fix that and reload") && !status.contains("rebuild"), "{status}");
    assert_eq!(daemon.get("/hello").status(), 200);
}
