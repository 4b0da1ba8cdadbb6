//! File systems that are full or read-only, mounted for the daemon alone.

use crate::control;
use plugind_tests::{Tree, another, guest, program};
use std::{fs, path::Path, process::Command};

/// Fills a file system. `dd` ends with an error when the file system is full, which is expected.
const FILL: &str = "dd if=/dev/zero of=full bs=1k 2>/dev/null || :";
const MAKE_READ_ONLY: &str = "mount -o remount,ro plugind-test .";

/// A script that mounts a small file system on the state directory, seen by the daemon alone.
fn mount(tree: &Tree, then: &str) -> String {
    let state = tree.root().join("var/lib/plugind");
    fs::create_dir_all(&state).unwrap();
    mount_on(&state, then)
}

/// The same for any directory.
fn mount_on(directory: &Path, then: &str) -> String {
    mount_with(directory, "64k", then)
}

/// The same for a file system of any size.
fn mount_with(directory: &Path, size: &str, then: &str) -> String {
    let directory = directory.display();
    format!(
        "mount -t tmpfs -o size={size},mode=0755 plugind-test '{directory}'\ncd '{directory}'\n{then}\ncd /"
    )
}

#[test]
fn status_names_a_state_directory_on_a_file_system_that_is_full() {
    let tree = Tree::new().with("hello");
    let script = mount(&tree, FILL);
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
    let script = mount(&tree, MAKE_READ_ONLY);
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
    let script = mount(&tree, MAKE_READ_ONLY);
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

#[test]
fn plugins_run_without_a_file_where_the_cache_is_full_or_read_only() {
    for (script, why) in
        [(FILL, "No space left on device"), (MAKE_READ_ONLY, "Read-only file system")]
    {
        let tree = Tree::with_own_cache().with("hello");
        let daemon = control::start_by(&tree, &mount_on(&tree.cache(), script));
        assert_eq!(daemon.get("/hello").status(), 200, "{why}");
        tree.put("second.wasm", another("hello"));
        assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=1"), "{why}");
        assert_eq!(daemon.get("/second").status(), 200, "{why}");
        let warning = daemon.log.wait_for(&["warning plugind: compiled code not kept"]);
        assert!(warning.contains(why), "{warning}");
        assert_eq!(daemon.log.count(&["compiled code not kept"]), 1, "{why}: it is logged once");
        let status = control::run(&tree, &["status"]).stdout;
        for line in ["Status: 2 of 2 plugins ready; ", "Storage: "] {
            let line = format!("{line}compiled code is not kept: cannot write to the cache");
            assert!(status.contains(&line), "{line}: {status}");
        }
        // The code is mapped as that of a file is: never writable.
        let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid().as_raw_pid())).unwrap();
        let code = |line: &&str| line.contains(" r-xp ") && line.contains("/memfd:plugind-code");
        assert_eq!(maps.lines().filter(code).count(), 2, "{maps}");
        assert!(!maps.contains("wx"), "{maps}");
    }
}

#[test]
fn a_cache_on_an_overlay_keeps_compiled_code_as_any_other_does() {
    let tree = Tree::with_own_cache().with("hello");
    let layers = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.cache()).unwrap();
    let cache = tree.cache().display().to_string();
    // An overlay cannot be the upper layer of another one, and the directory for temporary files may be on one.
    let script = format!(
        "{}\ncd '{}'\nmkdir lower upper work\nmount -t overlay plugind-test -o \
         lowerdir=lower,upperdir=upper,workdir=work '{cache}'\ncd /",
        mount_with(layers.path(), "64m", ""),
        layers.path().display()
    );
    let daemon = control::start_by(&tree, &script);
    assert_eq!(daemon.get("/hello").status(), 200);
    tree.put("second.wasm", another("hello"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(daemon.get("/second").status(), 200);
    // Each is mapped from its file, which only the daemon and its compiler see.
    let process = format!("/proc/{}", daemon.pid().as_raw_pid());
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let code = |line: &&str| line.contains(" r-xp ") && line.ends_with(".cwasm");
    assert_eq!(maps.lines().filter(code).count(), 2, "{maps}");
    let upper = format!("{process}/root{}/upper", layers.path().display());
    assert_eq!(fs::read_dir(upper).unwrap().count(), 2);
    assert_eq!(daemon.log.count(&["warning "]), 0);
}

#[test]
fn a_check_needs_no_space_for_compiled_code_unless_it_is_to_keep_that() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!("{}\nexec \"$@\"", mount_on(directory.path(), FILL));
    let check = |keep: bool| {
        let mut check = Command::new("unshare");
        check.args(["--mount", "/bin/sh", "-euc", &script, "sh"]).arg(program("plugind"));
        check.arg("--check").arg(guest("hello"));
        if keep {
            check.arg("--cache").arg(directory.path());
        }
        let check = check.env("TMPDIR", directory.path()).env("CACHE_DIRECTORY", "/nowhere");
        let ran = check.output().unwrap();
        let [out, err] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
        (ran.status.code(), out.trim().to_owned(), err)
    };
    assert_eq!(check(false), (Some(0), "[]".to_owned(), String::new()));
    let (status, out, err) = check(true);
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("compiled code is not kept: cannot write to the cache"), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
}
