//! Directories and files in every bad state: plugins keep serving, the mistake is reported once, and the next reload
//! after its repair takes effect.

use crate::control;
use plugind_tests::{Daemon, Signal, Tree, another, end_of, golden};
use rustix::process::{Resource, Rlimit, prlimit};
use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

/// Has the daemon read its directories, which it cannot, and returns what it says of that.
fn reload_in_vain(daemon: &Daemon) -> String {
    let place = daemon.log.place();
    daemon.signal(Signal::HUP);
    let reported = ["err     plugind: cannot read configuration"];
    let said = daemon.log.wait_for_after(place, &reported);
    assert_eq!(
        daemon.log.all()[place..].iter().filter(|line| line.contains(reported[0])).count(),
        1
    );
    said
}

#[test]
fn a_directory_that_was_replaced_by_a_file_changes_nothing_until_it_is_back() {
    let tree = Tree::new().with("hello");
    let daemon = Daemon::start(&tree);
    let (plugins, elsewhere) = (tree.plugins(), tree.root().join("elsewhere"));
    fs::rename(&plugins, &elsewhere).unwrap();
    for make in [&|path: &Path| fs::write(path, "a file").unwrap(), &|path: &Path| {
        symlink(path, path).unwrap()
    }] as [&dyn Fn(&Path); 2]
    {
        make(&plugins);
        let said = reload_in_vain(&daemon);
        assert!(said.contains("etc/plugind/plugins"), "{said}");
        assert_eq!(daemon.get("/hello").status(), 200);
        fs::remove_file(&plugins).unwrap();
    }
    fs::rename(&elsewhere, &plugins).unwrap();
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=1"));
}

#[test]
fn a_directory_that_cannot_be_read_is_in_the_status_until_it_can() {
    let tree = Tree::new().with("hello");
    let daemon = control::start(&tree);
    let status = |arguments: &[&str]| control::run(&tree, &[&["status"], arguments].concat());
    assert_eq!(status(&[]).status, Some(0));
    let (plugins, elsewhere) = (tree.plugins(), tree.root().join("elsewhere"));
    fs::rename(&plugins, &elsewhere).unwrap();
    fs::write(&plugins, "a file").unwrap();
    assert_eq!(control::run(&tree, &["reload"]).status, Some(1));
    let (text, json) = (status(&[]), status(&["--json"]));
    assert!(text.stdout.contains(" Unreadable: "), "{}", text.stdout);
    assert!(text.stdout.contains("etc/plugind/plugins"), "{}", text.stdout);
    let said: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(said["unreadable"].as_str().unwrap().contains("etc/plugind/plugins"), "{said}");
    assert_eq!([text.status, json.status], [Some(3); 2]);
    assert_eq!(daemon.get("/hello").status(), 200);

    fs::remove_file(&plugins).unwrap();
    fs::rename(&elsewhere, &plugins).unwrap();
    assert_eq!(control::run(&tree, &["reload"]).status, Some(0));
    assert_eq!(status(&[]).status, Some(0));
}

#[test]
fn a_directory_that_vanishes_takes_no_plugin_with_it_and_one_that_is_emptied_does() {
    let tree = Tree::new().with("hello");
    let daemon = Daemon::start(&tree);
    fs::remove_dir_all(tree.plugins()).unwrap();
    let said = reload_in_vain(&daemon);
    assert!(
        said.contains("etc/plugind/plugins: No such file or directory")
            && said.contains("plugins that were read from it are serving"),
        "{said}"
    );
    assert_eq!(daemon.get("/hello").status(), 200);
    fs::create_dir(tree.plugins()).unwrap();
    assert!(daemon.reload().contains("changed=0 failed=0 removed=1 unchanged=0"));
    assert_eq!(daemon.get("/hello").status(), 404);
}

#[test]
fn a_component_that_is_no_file_any_more_leaves_the_version_that_serves() {
    let tree = Tree::new().with("hello");
    let daemon = Daemon::start(&tree);
    let path = tree.plugins().join("hello.wasm");
    let make_fifo = |path: &Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for (what, make) in [
        ("is a directory", &|path: &Path| fs::create_dir(path).unwrap()),
        ("is a pipe", &make_fifo),
        ("leads back to itself", &|path: &Path| symlink("hello.wasm", path).unwrap()),
        ("/nowhere/at/all", &|path: &Path| symlink("/nowhere/at/all", path).unwrap()),
    ] as [(&str, &dyn Fn(&Path)); 4]
    {
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        make(&path);
        let place = daemon.log.place();
        assert!(daemon.reload().contains("changed=0 failed=1 removed=0 unchanged=0"), "{what}");
        daemon.log.wait_for_after(place, &["plugin failed", "plugin=hello", what]);
        assert_eq!(daemon.get("/hello").status(), 200, "{what}");
    }
    fs::remove_file(&path).unwrap();
    tree.put_guest("hello", "hello");
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=1"));
}

#[test]
fn a_mask_takes_a_plugin_away_until_it_is_taken_away_itself() {
    let tree = Tree::new().with("hello");
    let vendor = tree.root().join("usr/lib/plugind/plugins");
    fs::create_dir_all(&vendor).unwrap();
    fs::rename(tree.plugins().join("hello.wasm"), vendor.join("hello.wasm")).unwrap();
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
    symlink("/dev/null", tree.plugins().join("hello.wasm")).unwrap();
    assert!(daemon.reload().contains("changed=0 failed=0 removed=1 unchanged=0"));
    daemon.log.wait_for(&["plugin masked", "plugin=hello", "etc/plugind/plugins/hello.wasm"]);
    assert_eq!(daemon.get("/hello").status(), 404);
    tree.remove("hello.wasm");
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=0"));
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn a_drop_in_is_taken_over_as_the_manifest_is() {
    let tree = Tree::new().with_manifest("hello", "[config]\ngreeting = \"Old\"\n");
    let daemon = Daemon::start(&tree);
    let drop_ins = tree.plugins().join("hello.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10-new.toml"), "[config]\ngreeting = \"New\"\n").unwrap();
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "New from hello\n"));
    fs::write(drop_ins.join("20-comment.toml"), "# says nothing\n").unwrap();
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=1"));
    fs::write(drop_ins.join("30-bad.toml"), "[config]\ngreeting = 1\n").unwrap();
    assert!(daemon.reload().contains("changed=0 failed=1"));
    daemon.log.wait_for(&["plugin failed", "hello.toml.d/30-bad.toml:2:12"]);
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "New from hello\n"));
}

#[test]
fn broken_settings_stop_a_start_and_change_nothing_at_a_reload() {
    let tree = Tree::new().with("hello");
    let settings = tree.root().join("etc/plugind/plugind.toml");
    fs::write(&settings, "log-level = \"loud\"\nstart-deadline = \"1min\"\n").unwrap();
    let ended = end_of(&tree, &[]);
    assert_eq!(ended.status, 78);
    ended.log.wait_for(&["plugind.toml:1:13", "plugind.toml:2:1", "start-deadline-sec"]);

    fs::write(&settings, "log-level = \"info\"\n").unwrap();
    let daemon = Daemon::start(&tree);
    fs::write(&settings, "nonsense").unwrap();
    tree.put_guest("greeter", "greeter_02");
    tree.remove("hello.wasm");
    assert!(reload_in_vain(&daemon).contains("plugind.toml:1:"));
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.get("/greeter").status(), 404);
    fs::remove_file(&settings).unwrap();
    assert!(daemon.reload().contains("changed=1 failed=0 removed=1 unchanged=0"));
}

#[test]
fn the_log_level_is_a_setting_and_the_command_line_overrides_it() {
    let tree = Tree::new();
    fs::write(tree.root().join("etc/plugind/plugind.toml"), "log-level = \"err\"\n").unwrap();
    let mut daemon = Daemon::launch(&tree, &["--log", "info"]);
    daemon.wait_until_ready();
    assert_eq!(daemon.stop(), 0);
    let ended = end_of(&tree, &["--plugins", "/nowhere/at/all"]);
    ended.log.wait_for(&["err     plugind: startup failed"]);
    assert_eq!(ended.log.count(&["info    "]), 0);
}

#[test]
fn a_compiler_that_may_write_no_file_leaves_the_version_that_serves() {
    let tree = Tree::with_own_cache().with("hello");
    let daemon = Daemon::start(&tree);
    tree.put("hello.wasm", another("hello"));
    // No file may be longer than this, not even one in memory.
    let limit =
        |current| prlimit(Some(daemon.pid()), Resource::Fsize, Rlimit { current, maximum: None });
    limit(Some(4096)).unwrap();
    assert!(daemon.reload().contains("changed=0 failed=1 removed=0 unchanged=0"));
    daemon.log.wait_for(&["plugin failed", "stage=compile", "compiler"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    limit(None).unwrap();
    assert!(daemon.reload().contains("changed=1 failed=0"));
}

#[test]
fn a_reload_needs_no_cache_and_the_status_reports_that_until_one_can_be_written() {
    let tree = Tree::with_own_cache().with("hello");
    let daemon = control::start(&tree);
    let status = || control::run(&tree, &["status"]).stdout;
    let reported = "compiled code is not kept: cannot write to the cache";
    let reload = || {
        tree.put("hello.wasm", another("hello"));
        assert!(daemon.reload().contains("changed=1 failed=0"));
        assert_eq!(daemon.get("/hello").status(), 200);
    };
    assert!(!status().contains(reported));
    let elsewhere = tree.root().join("elsewhere");
    fs::rename(tree.cache(), &elsewhere).unwrap();
    fs::write(tree.cache(), "a file").unwrap();
    reload();
    assert_eq!(status().matches(reported).count(), 2, "{}", status());
    // It stays, also where nothing was compiled.
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=1"));
    assert_eq!(status().matches(reported).count(), 2, "{}", status());
    fs::remove_file(tree.cache()).unwrap();
    fs::rename(&elsewhere, tree.cache()).unwrap();
    reload();
    daemon.log.wait_for(&["info    plugind: compiled code kept again"]);
    assert!(!status().contains(reported), "{}", status());
}

#[test]
fn a_component_that_changes_all_the_time_is_never_taken_for_whole() {
    let tree = Tree::new().with("hello");
    let daemon = Daemon::start(&tree);
    let path = tree.plugins().join("hello.wasm");
    let whole = fs::read(&path).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // It is changed in place, which is a mistake: it shrinks and grows while it is read.
        let writer = scope.spawn(|| {
            while !over.load(Relaxed) {
                File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
                fs::write(&path, &whole).unwrap();
            }
        });
        for _ in 0..20 {
            daemon.reload();
            assert_eq!(daemon.get("/hello").status(), 200);
        }
        over.store(true, Relaxed);
        writer.join().unwrap();
    });
    daemon.reload();
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_thousand_plugins_are_held() {
    let tree = Tree::new().with("hello");
    let tiny = golden::component("http");
    for number in 1..1000 {
        fs::write(tree.plugins().join(format!("tiny-{number}.wasm")), &tiny).unwrap();
    }
    let mut daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["info    plugind: ready plugins=1000"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    tree.remove("tiny-7.wasm");
    assert!(daemon.reload().contains("changed=0 failed=0 removed=1 unchanged=999"));
    assert_eq!(daemon.stop(), 0);
}
