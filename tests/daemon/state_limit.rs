//! The limit of a plugin's state: calls that would exceed it fail with `quota`, in WASI 0.2 and 0.3, and no other call
//! does.

use crate::control;
use plugind_tests::{Daemon, Tree, eventually};
use std::fs;

const LIMITED: &str = "[grants]\nstate = true\n[limits]\nstate-max = \"1M\"\n";
const MIB: usize = 1 << 20;

fn ask(daemon: &Daemon, path: &str) -> String {
    let answer = daemon.get(path);
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().to_owned()
}

/// Fills the state by one version of WASI: `suffix` is that of the names of its acts in the guest, and `root` begins
/// its paths.
fn fill(suffix: &str, root: &str) {
    let tree = Tree::new().with_manifest("files", LIMITED).with_named("other", "files", LIMITED);
    let tree = tree.with_named("unlimited", "files", "[grants]\nstate = true\n");
    let mut daemon = control::start(&tree);
    let act = |daemon: &Daemon, how: &str, path: &str| {
        let (how, count) = how.split_once(' ').unwrap_or((how, ""));
        let slash = if count.is_empty() { "" } else { "/" };
        ask(daemon, &format!("/files/{how}{suffix}{slash}{count}/{root}{path}"))
    };
    let state = tree.root().join("var/lib/plugind/files");
    let size = |name: &str| fs::metadata(state.join(name)).unwrap().len();

    assert_eq!(act(&daemon, "write 600000", "a"), "done");
    assert_eq!(act(&daemon, "write 600000", "b"), "quota");
    assert!(size("a") == 600_000 && size("b") < 600_000);
    // The same bytes may be written again, and do not count twice.
    for _ in 0..5 {
        assert_eq!(act(&daemon, "write 600000", "a"), "done");
    }
    assert_eq!(ask(&daemon, "/files/remove/state/b"), "done");
    assert_eq!(act(&daemon, "append 300000", "a"), "done");
    assert_eq!(act(&daemon, "append 300000", "a"), "quota");
    assert_eq!(act(&daemon, "resize 2000000", "a"), "quota");
    assert_eq!(ask(&daemon, "/files/remove/state/a"), "done");
    // A size counts, also without contents.
    assert_eq!(act(&daemon, "resize 1000000", "c"), "done");
    assert_eq!(act(&daemon, "write 100000", "d"), "quota");
    assert_eq!(act(&daemon, "resize 10", "c"), "done");
    assert_eq!(act(&daemon, "write 900000", "e"), "done");
    if suffix.is_empty() {
        assert_eq!(act(&daemon, "put 900000", "e"), "done");
        assert_eq!(act(&daemon, "put 200000", "f"), "quota");
        assert_eq!(ask(&daemon, "/files/remove/state/f"), "done");
    }

    // Empty files and directories count, too.
    let nested = (0..200).take_while(|nth| act(&daemon, "nest", &format!("n{nth}")) == "done");
    let nested = nested.count();
    assert!((1..200).contains(&nested), "{nested}");
    assert_eq!(act(&daemon, "write 0", "empty"), "quota");
    assert_eq!(act(&daemon, "write 10", "c"), "done", "it is there");

    // Neither the plugin nor another one is disturbed.
    assert_eq!(ask(&daemon, "/files/nothing"), "fine");
    let other = format!("/other/write{suffix}/1000000/{root}a");
    assert_eq!(ask(&daemon, &other), "done");
    for how in ["write", "append"] {
        let unlimited = format!("/unlimited/{how}{suffix}/2000000/{root}a");
        assert_eq!(ask(&daemon, &unlimited), "done");
    }

    // It is still full after a restart.
    assert_eq!(daemon.stop(), 0);
    let daemon = control::start(&tree);
    assert_eq!(act(&daemon, "append 100000", "e"), "quota");
    let total: u64 = ["c", "d", "e"].iter().map(|name| size(name)).sum();
    assert!(total <= MIB as u64, "{total}");
    assert_eq!(ask(&daemon, "/files/remove/state/e"), "done");
    assert_eq!(act(&daemon, "append 100000", "e"), "done");
}

#[test]
fn writes_of_wasi_0_2_beyond_the_limit_of_a_state_fail_with_quota() {
    fill("", "state/");
}

#[test]
fn writes_of_wasi_0_3_beyond_the_limit_of_a_state_fail_with_quota() {
    fill("-03", "");
}

#[test]
fn a_plugin_whose_state_is_full_is_degraded_until_it_has_room() {
    let tree = Tree::new().with_manifest("files", LIMITED);
    let daemon = control::start(&tree);
    let shown = |word: &str| control::run(&tree, &[word, "files"]).stdout;
    assert_eq!(ask(&daemon, "/files/write/1000000/state/a"), "done");
    // More than the whole limit is refused, and the state has room for others.
    assert_eq!(ask(&daemon, "/files/remove/state/a"), "done");
    assert_eq!(ask(&daemon, "/files/resize/2000000/state/a"), "quota");
    assert!(!shown("status").contains("degraded"), "{}", shown("status"));
    assert_eq!(ask(&daemon, "/files/write/1000000/state/a"), "done");
    for _ in 0..3 {
        assert_eq!(ask(&daemon, "/files/append/100000/state/a"), "quota");
    }
    let why = "its state is full (1M of 1M)";
    let status = shown("status");
    assert!(status.contains("degraded") && status.contains(why), "{status}");
    let list = control::run(&tree, &["list"]).stdout;
    assert!(list.contains("degraded"), "{list}");
    assert_eq!(daemon.log.count(&["state is full", "plugin=files", "max=1048576"]), 1);

    // No write has to follow.
    assert_eq!(ask(&daemon, "/files/remove/state/a"), "done");
    eventually("the state to have room", || (!shown("status").contains("degraded")).then_some(()));
    assert_eq!(daemon.log.count(&["info    plugind: state has room again"]), 1);
    assert_eq!(ask(&daemon, "/files/write/1000000/state/a"), "done");

    // A reload changes the limit.
    tree.put("files.toml", LIMITED.replace("1M", "2M"));
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(ask(&daemon, "/files/append/1000000/state/a"), "done");
}
