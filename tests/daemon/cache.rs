//! Compiled files are used if they can be trusted, compiled again if not, and removed when they are unused.

use plugind_tests::{Daemon, Tree, end_of, program};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};
use xxhash_rust::xxh3::Xxh3;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The compiled files of a tree, sorted by name.
fn entries(tree: &Tree) -> Vec<PathBuf> {
    let all = fs::read_dir(tree.cache()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

/// The compiled file of the guest.
fn entry_of(tree: &Tree, guest: &str) -> PathBuf {
    let component = fs::read(plugind_tests::guest(guest)).unwrap();
    let digest: String =
        Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&digest);
    entries(tree).into_iter().find(named).unwrap()
}

/// Puts other contents in the place of a file, as somebody who may write there can.
fn replace(path: &Path, contents: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, contents).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

fn compiled() -> Tree {
    let tree = Tree::with_own_cache().with("hello").with("greeter_02");
    drop(Daemon::start(&tree));
    tree
}

#[test]
fn what_was_compiled_once_is_not_compiled_again() {
    let tree = compiled();
    let inodes = || entries(&tree).iter().map(|path| path.metadata().unwrap().ino()).collect();
    let before: Vec<_> = inodes();
    assert_eq!(before.len(), 2);
    for path in entries(&tree) {
        assert_eq!(path.extension().unwrap(), "cwasm");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o444);
    }
    // Without a compiler there is no other way to be served.
    let daemon = Daemon::start_with(&tree, &["--compiler", "/nowhere"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    assert_eq!(inodes(), before);
}

#[test]
fn what_was_compiled_for_a_start_that_failed_is_kept() {
    let tree = Tree::with_own_cache().with("hello").with("traps_on_start");
    assert_eq!(end_of(&tree, &[]).status, 1);
    tree.remove("traps-on-start.wasm");
    let daemon = Daemon::start_with(&tree, &["--compiler", "/nowhere"]);
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn a_check_compiles_no_component_that_the_daemon_has_compiled() {
    let tree = compiled();
    let check = || {
        let mut check = Command::new(program("pluginctl"));
        check.arg("check").arg(plugind_tests::guest("hello"));
        // A compiler that fails shows whether it is used.
        check.args(["--compiler", concat!(env!("CARGO_MANIFEST_DIR"), "/compilers/dies")]);
        check.env_clear().env("CACHE_DIRECTORY", tree.cache()).output().unwrap()
    };
    let ran = check();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    fs::remove_file(entry_of(&tree, "hello")).unwrap();
    assert_eq!(check().status.code(), Some(1));
}

#[test]
fn an_untrusted_compiled_file_is_compiled_again() {
    let tree = compiled();
    let hello = entry_of(&tree, "hello");
    let good = fs::read(&hello).unwrap();
    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes
    };
    // The input of the seal is no secret, so anyone who may write there could seal this.
    let name = hello.file_stem().unwrap().to_str().unwrap();
    let sealed = |code: &[u8]| {
        let mut seal = Xxh3::new();
        seal.update(name.as_bytes());
        seal.update(code);
        [code, &seal.digest128().to_be_bytes(), b"plugind compiled"].concat()
    };
    let code = &good[..good.len() - 32];
    assert_eq!(sealed(code), good, "the seal is what this test takes it for");
    // The runtime writes its major version at the beginning, behind the length of that text.
    let place = code.windows(3).position(|bytes| bytes == b"\x0248").unwrap();
    let mut of_47 = code.to_vec();
    of_47[place + 2] = b'7';
    for (what, contents) in [
        ("empty", Vec::new()),
        ("garbage", b"garbage".repeat(1000)),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("without its last byte", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], b"x"].concat()),
        ("flipped at its beginning", flipped(0)),
        ("flipped in the middle", flipped(good.len() / 2)),
        ("flipped in its seal", flipped(good.len() - 20)),
        ("another plugin's", fs::read(entry_of(&tree, "greeter_02")).unwrap()),
        ("sealed garbage", sealed(&b"garbage".repeat(1000))),
        ("sealed, but of another runtime", sealed(&of_47)),
    ] {
        replace(&hello, &contents);
        let daemon = Daemon::start(&tree);
        let parts = ["warning plugind: compiled file rejected, compiling again", "plugin=hello"];
        assert!(daemon.log.wait_for(&parts).contains("error="), "{what}");
        assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"), "{what}");
        assert_eq!(daemon.log.count(&parts[..1]), 1, "{what}");
        assert!(fs::read(&hello).unwrap() == good, "{what}: the file is not what it was");
        assert_eq!(hello.metadata().unwrap().permissions().mode() & 0o7777, 0o444, "{what}");
    }
}

#[test]
fn a_compiled_file_with_write_permissions_is_not_used() {
    let tree = compiled();
    let hello = entry_of(&tree, "hello");
    // As a plugin would write it, whatever directory it may use: it can set no permissions.
    fs::set_permissions(&hello, fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(&tree);
    let rejected = ["warning plugind: compiled file rejected, compiling again", "plugin=hello"];
    assert!(daemon.log.wait_for(&rejected).contains("has write permissions"));
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(hello.metadata().unwrap().permissions().mode() & 0o7777, 0o444);
}

#[test]
fn a_compiled_file_that_is_a_link_is_not_used() {
    let tree = compiled();
    let hello = entry_of(&tree, "hello");
    let elsewhere = tree.root().join("elsewhere");
    fs::rename(&hello, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &hello).unwrap();
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["warning plugind: compiled file rejected", "plugin=hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert!(hello.symlink_metadata().unwrap().is_file());
}

#[test]
fn a_file_that_another_build_compiled_is_left_to_that_build() {
    let tree = compiled();
    let hello = entry_of(&tree, "hello");
    let name = hello.file_stem().unwrap().to_str().unwrap();
    let (component, _) = name.split_once('-').unwrap();
    let foreign = tree.cache().join(format!("{component}-0123456789abcdef.cwasm"));
    fs::rename(&hello, &foreign).unwrap();
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.log.count(&["compiled file"]), 0);
    assert!(foreign.exists() && hello.exists());
}

#[test]
fn what_nobody_uses_is_swept_when_something_is_compiled() {
    let tree = Tree::with_own_cache().with("greeter_02");
    let aged = |name: &str, age: Duration| {
        let path = tree.cache().join(name);
        fs::write(&path, "").unwrap();
        let then = SystemTime::now() - age;
        let times = FileTimes::new().set_modified(then).set_accessed(then);
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        path
    };
    let old = aged("old.cwasm", 31 * DAY);
    let used = aged("used.cwasm", 29 * DAY);
    let abandoned = aged(".abandoned.1.part", DAY / 12);
    let being_written = aged(".written.2.part", DAY / 240);
    let others = aged("notes.txt", 100 * DAY);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    for (path, stays) in
        [(&old, false), (&used, true), (&abandoned, false), (&being_written, true), (&others, true)]
    {
        assert_eq!(path.exists(), stays, "{}", path.display());
    }
    assert!(entry_of(&tree, "greeter_02").exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_named_and_plugins_start_without_it() {
    let tree = Tree::with_own_cache().with("hello").with("greeter_02");
    fs::remove_dir(tree.cache()).unwrap();
    fs::write(tree.cache(), "a file in its place").unwrap();
    for _ in 0..2 {
        let daemon = Daemon::start(&tree);
        assert_eq!(daemon.get("/hello").status(), 200);
        assert_eq!(daemon.get("/greeter-02").status(), 200);
        let unkept = daemon.log.wait_for(&["warning plugind: compiled code not kept error="]);
        assert!(unkept.contains("cannot write to the cache"), "{unkept}");
        assert!(unkept.contains("var/cache/plugind"), "{unkept}");
        assert_eq!(daemon.log.count(&["compiled code not kept"]), 1, "it is logged once");
    }
}
