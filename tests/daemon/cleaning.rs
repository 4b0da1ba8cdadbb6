//! `pluginctl clean`: state and saved state of a plugin are removed only when it is not in use, and its compiled files
//! at any time.

use crate::control::{Ran, run, socket, start};
use plugind_tests::{Tree, program};
use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

fn succeed(tree: &Tree, arguments: &[&str]) -> String {
    let Ran { status, stdout, stderr } = run(tree, arguments);
    assert_eq!((status, &*stderr), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout
}

fn refused(tree: &Tree, arguments: &[&str]) -> String {
    let Ran { status, stdout, stderr } = run(tree, arguments);
    assert_eq!((status, &*stdout), (Some(1), ""), "{arguments:?}: {stderr}");
    stderr
}

fn kept(tree: &Tree, name: &str) -> serde_json::Value {
    let described = run(tree, &["status", name, "--json"]).stdout;
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    described["kept"].clone()
}

fn compiled_files(tree: &Tree) -> Vec<PathBuf> {
    let entries = fs::read_dir(tree.root().join("var/cache/plugind")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "cwasm")).collect()
}

const FILES: &str = "[grants]\nstate = true\n";
const STORES: &str = "[grants]\nkeyvalue = { quota = \"64M\" }\n";
const IN_USE: &str = "files: not cleaned: it is in use; stop it first: `pluginctl stop files`\n";

#[test]
fn the_state_of_a_plugin_is_removed_only_after_it_was_stopped() {
    let tree = Tree::new().with_manifest("files", FILES).with_manifest("stores", STORES);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/files/make/state/note").text(), "done");
    assert_eq!(daemon.get("/stores/set/a/1").text(), "done");
    assert_eq!(kept(&tree, "files")["state"], "made".len());
    assert!(kept(&tree, "stores")["keyValue"].as_u64().unwrap() > 0);
    let shown = run(&tree, &["status", "files"]).stdout;
    assert!(shown.contains("Kept: state 4B, cache "), "{shown}");

    assert_eq!(refused(&tree, &["clean", "files", "--what=state"]), IN_USE);
    assert_eq!(refused(&tree, &["clean", "files", "--what=cache,saved"]), IN_USE);
    assert_eq!(daemon.get("/files/read/state/note").text(), "made");

    succeed(&tree, &["stop", "files", "stores"]);
    let cleaned = succeed(&tree, &["clean", "files", "stores", "--what=state"]);
    assert_eq!(cleaned, "files: removed state\nstores: removed state\n");
    daemon.log.wait_for(&["info    plugind: plugin cleaned", "plugin=files"]);
    assert_eq!(kept(&tree, "files")["state"], serde_json::Value::Null);
    succeed(&tree, &["start", "files", "stores"]);
    assert_eq!(daemon.get("/files/list/state").text(), "");
    assert_eq!(daemon.get("/stores/get/a").text(), "none");
}

#[test]
fn compiled_files_of_a_plugin_that_serves_can_be_removed() {
    let tree = Tree::with_own_cache().with("hello").with("counts");
    let mut daemon = start(&tree);
    assert!(kept(&tree, "hello")["cache"].as_u64().unwrap() > 0);
    assert_eq!(compiled_files(&tree).len(), 2);
    assert_eq!(succeed(&tree, &["clean", "hello", "--what=cache"]), "hello: removed cache\n");
    assert_eq!(compiled_files(&tree).len(), 1);
    assert_eq!(daemon.get("/hello").status(), 200);
    succeed(&tree, &["restart", "hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(compiled_files(&tree).len(), 2);
}

#[test]
fn a_plugin_that_is_gone_can_be_cleaned_and_an_unknown_one_is_an_error() {
    let tree = Tree::new().with_manifest("files", FILES).with("hello");
    let daemon = start(&tree);
    assert_eq!(daemon.get("/files/make/state/note").text(), "done");
    tree.remove("files.wasm");
    tree.remove("files.toml");
    succeed(&tree, &["reload"]);
    let state = tree.root().join("var/lib/plugind/files");
    assert!(state.exists());
    succeed(&tree, &["clean", "files", "--what=all"]);
    assert!(!state.exists());
    assert_eq!(
        refused(&tree, &["clean", "files", "--what=state"]),
        "there is no plugin files; `pluginctl list` shows the plugins\n"
    );
}

#[test]
fn an_unknown_plugin_is_an_error_while_the_daemon_does_not_run_either() {
    let tree = Tree::with_own_cache().with_manifest("files", FILES);
    drop(start(&tree));
    for what in ["state", "cache", "saved", "all"] {
        let reason = refused(&tree, &["clean", "typo", &format!("--what={what}")]);
        assert_eq!(
            reason, "there is no plugin typo; `pluginctl list` shows the plugins\n",
            "{what}"
        );
    }
}

#[test]
fn state_and_compiled_files_can_be_removed_while_the_daemon_does_not_run() {
    let tree = Tree::with_own_cache().with_manifest("files", FILES);
    let mut daemon = start(&tree);
    assert_eq!(daemon.get("/files/make/state/note").text(), "done");
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let saved = refused(&tree, &["clean", "files", "--what=saved"]);
    assert!(saved.contains("`systemctl clean --what=fdstore plugind.service`"), "{saved}");
    let cleaned = succeed(&tree, &["clean", "files", "--what=all"]);
    assert_eq!(cleaned, "files: removed state, cache\n");
    assert!(!tree.root().join("var/lib/plugind/files").exists());
    assert_eq!(compiled_files(&tree), [] as [PathBuf; 0]);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/files/list/state").text(), "");
}

#[test]
fn a_saved_state_is_removed_while_the_daemon_does_not_run() {
    let tree = Tree::with_own_cache().with_manifest("files", FILES);
    let saved = tree.root().join("var/lib/plugind/.saved");
    fs::create_dir_all(&saved).unwrap();
    for (what, removed) in [("saved", "saved"), ("all", "saved, cache"), ("state,saved", "saved")] {
        for plugin in ["files", "other"] {
            fs::write(saved.join(plugin), "state").unwrap();
        }
        let cleaned = succeed(&tree, &["clean", "files", &format!("--what={what}")]);
        assert!(cleaned.ends_with(&format!("{removed}\n")), "{cleaned}");
        assert!(!saved.join("files").exists() && saved.join("other").exists());
    }
}

#[test]
fn nothing_is_removed_if_a_part_that_is_named_cannot_be() {
    let tree = Tree::with_own_cache().with_manifest("files", FILES);
    let state = tree.root().join("var/lib/plugind/files");
    let mut daemon = start(&tree);
    assert_eq!(daemon.get("/files/make/state/note").text(), "done");
    succeed(&tree, &["stop", "files"]);
    let by_socket = |what: &str| {
        let mut command = Command::new(program("pluginctl"));
        let socket = socket(&tree);
        command.args(["clean", "files", what, "--socket"]).arg(socket).env_clear();
        command.output().unwrap()
    };
    for what in ["--what=all", "--what=state,cache"] {
        let refused = by_socket(what);
        let reason = String::from_utf8(refused.stderr).unwrap();
        assert!(reason.contains("--what=cache cannot be used with --socket"), "{reason}");
        assert!(!refused.status.success() && state.join("note").exists(), "{what}");
    }
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    let reason = refused(&tree, &["clean", "files", "--what=state,saved"]);
    assert!(reason.contains("there is no file with saved state"), "{reason}");
    assert!(state.join("note").exists());
}

#[test]
fn what_was_removed_is_reported_if_the_compiled_files_cannot_be() {
    let tree = Tree::with_own_cache().with_manifest("files", FILES);
    let mut daemon = start(&tree);
    assert_eq!(daemon.get("/files/make/state/note").text(), "done");
    succeed(&tree, &["stop", "files"]);
    assert_eq!(daemon.stop(), 0);
    drop(daemon);
    fs::remove_dir_all(tree.cache()).unwrap();
    fs::write(tree.cache(), "").unwrap();
    let Ran { status, stdout, stderr } = run(&tree, &["clean", "files", "--what=all"]);
    assert_eq!((status, &*stdout), (Some(1), "files: removed state\n"), "{stderr}");
    assert!(stderr.starts_with("cannot remove compiled files of files from "), "{stderr}");
}

#[test]
fn state_behind_a_link_is_not_removed_and_the_target_is_named() {
    let tree = Tree::new().with_manifest("files", FILES);
    let state = tree.root().join("var/lib/plugind");
    let elsewhere = tree.root().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(&state).unwrap();
    fs::write(elsewhere.join("note"), "made").unwrap();
    symlink(&elsewhere, state.join("files")).unwrap();
    let why = format!("is a link to {}, which stays", elsewhere.display());
    let reason = refused(&tree, &["clean", "files", "--what=state"]);
    assert!(reason.contains(&why), "{reason}");
    let daemon = start(&tree);
    succeed(&tree, &["stop", "files"]);
    let reason = refused(&tree, &["clean", "files", "--what=state"]);
    assert!(reason.contains(&why), "{reason}");
    assert!(state.join("files").is_symlink() && elsewhere.join("note").exists());
    drop(daemon);
}

#[test]
fn no_file_is_removed_by_way_of_a_link_that_the_daemon_may_have_left() {
    let tree = Tree::new().with_manifest("files", FILES);
    let state = tree.root().join("var/lib/plugind");
    let elsewhere = tree.root().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(state.join("files")).unwrap();
    fs::write(elsewhere.join("files"), "of others").unwrap();
    for link in [".removed", ".saved"] {
        symlink(&elsewhere, state.join(link)).unwrap();
        refused(&tree, &["clean", "files", "--what=state,saved"]);
        assert!(elsewhere.join("files").exists(), "{link}");
        fs::remove_file(state.join(link)).unwrap();
    }
}
