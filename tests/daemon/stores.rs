//! Key-value stores: an acknowledged change stays, within a quota, and each plugin has its own.

use crate::control;
use plugind_tests::{Connection, Daemon, Signal, Tree, end_of};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

pub(crate) const GRANTED: &str = "[grants]\nkeyvalue = { quota = \"64M\" }\n";

pub(crate) fn ask(daemon: &Daemon, path: &str) -> String {
    let answer = daemon.get(path);
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().to_owned()
}

fn sorted(keys: &str) -> Vec<&str> {
    let mut keys: Vec<_> = keys.split(' ').collect();
    keys.sort_unstable();
    keys
}

/// Reads, writes, counts and deletes values; `kept` and `visits` stay among others.
pub(crate) fn act_on_values(daemon: &Daemon) {
    for (act, answer) in [
        ("get/a", "none"),
        ("exists/a", "false"),
        ("set/a/1", "done"),
        ("set/a/2", "done"),
        ("get/a", "2"),
        ("exists/a", "true"),
        ("delete/a", "done"),
        ("delete/a", "done"),
        ("get/a", "none"),
        ("exists/a", "false"),
        ("set/kept/value", "done"),
        ("add/visits/5", "5"),
        ("add/visits/-7", "-2"),
        ("add/large/9223372036854775806", "9223372036854775806"),
        ("add/large/1", "9223372036854775807"),
        ("add/large/1", "error: the sum must be a number of 64 bits"),
        ("delete/large", "done"),
        ("add/kept/1", "error: the value must be a whole number of 64 bits in decimal digits"),
        ("swap/kept/other", "swapped"),
        ("swap-late/kept/value", "another instead; then swapped"),
        ("get/kept", "value"),
        ("swap/new/x", "swapped"),
        ("set-many/many/3", "done"),
        ("get-many/many0/none/many2", "many0 none many2"),
        ("delete-many/many0/none/many1", "done"),
        ("set/%C3%A9.*%20=/odd", "done"),
        ("get/%C3%A9.*%20=", "odd"),
        ("delete/%C3%A9.*%20=", "done"),
        ("in/other/keys", "error: access denied"),
    ] {
        assert_eq!(ask(daemon, &format!("/stores/{act}")), answer, "{act}");
    }
    assert_eq!(sorted(&ask(daemon, "/stores/keys")), ["kept", "many2", "new", "visits"]);
}

#[test]
fn a_plugin_keeps_values_across_versions_and_daemons() {
    let tree = Tree::new().with_manifest("stores", GRANTED);
    let mut daemon = Daemon::start(&tree);
    act_on_values(&daemon);
    assert_eq!(ask(&daemon, "/stores/keys"), "kept many2 new visits", "they are in order");
    tree.put("stores.toml", format!("description = \"next\"\n{GRANTED}"));
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(ask(&daemon, "/stores/get/kept"), "value");
    assert_eq!(daemon.stop(), 0);
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/stores/get-many/kept/visits"), "value -2");
}

#[test]
fn a_plugin_sees_its_own_store_and_those_that_it_shares() {
    let shares = |stores: &str| format!("[grants]\nkeyvalue = {{ shared = [{stores}] }}\n");
    let tree = Tree::new()
        .with_named("a", "stores", &shares("\"sessions\""))
        .with_named("b", "stores", &shares("\"sessions\""))
        .with_named("c", "stores", &shares("\"default-of-a\""));
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/a/set/key/own"), "done");
    assert_eq!(ask(&daemon, "/a/in/sessions/set/key/shared"), "done");
    assert_eq!(ask(&daemon, "/b/get/key"), "none");
    assert_eq!(ask(&daemon, "/b/in/sessions/get/key"), "shared");
    for store in ["sessions", "a", "plugin-a", "%2E%2E%2Fa", "plugin-a.redb"] {
        assert_eq!(ask(&daemon, &format!("/c/in/{store}/get/key")), "error: access denied");
    }
    assert_eq!(ask(&daemon, "/c/in/default-of-a/get/key"), "none");
}

#[test]
fn a_store_without_a_grant_is_refused_with_the_line_to_write() {
    let ended = end_of(&Tree::new().with("stores"), &[]);
    let line = ended.log.wait_for(&["err     plugind: plugin failed", "stage=verify "]);
    let line = line.replace("\\\"", "\"");
    assert!(line.contains("wasi:keyvalue/"), "{line}");
    assert!(line.contains("write keyvalue = { quota = \"64M\" } below [grants]"), "{line}");
    assert_eq!(ended.status, 78);
}

#[test]
fn a_store_takes_no_more_than_its_quota_and_no_key_or_value_that_is_too_long() {
    let quota = "[grants]\nkeyvalue = { quota = \"1M\" }\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("stores", quota));
    assert_eq!(ask(&daemon, "/stores/fill/a/600000"), "done");
    let full = ask(&daemon, "/stores/fill/b/600000");
    assert!(full.starts_with("error: the store must not exceed 1M; delete keys, or raise quota"));
    assert_eq!(ask(&daemon, "/stores/exists/b"), "false");
    assert_eq!(ask(&daemon, "/stores/fill/a/1000000"), "done", "it takes the place of the first");
    assert_eq!(ask(&daemon, "/stores/delete/a"), "done");
    assert_eq!(ask(&daemon, "/stores/fill/b/600000"), "done");
    let long = ask(&daemon, "/stores/fill/b/1048577");
    assert_eq!(long, "error: a value must have at most 1048576 bytes, not 1048577");
    let key = "k".repeat(1025);
    let long = ask(&daemon, &format!("/stores/set/{key}/x"));
    assert_eq!(long, "error: a key must have 1 to 1024 bytes, not 1025");
    // Each entry counts, however small it is.
    let many = ask(&daemon, "/stores/set-many/n/9000");
    assert!(many.starts_with("error: the store must not exceed 1M"), "{many}");
}

#[test]
fn keys_are_listed_in_pages_and_counters_lose_nothing() {
    let daemon = Daemon::start(&Tree::new().with_manifest("stores", GRANTED));
    assert_eq!(ask(&daemon, "/stores/set-many/key/2500"), "done");
    assert_eq!(ask(&daemon, "/stores/count"), "2500");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = daemon.connect();
                for _ in 0..50 {
                    assert_eq!(client.get("/stores/add/visits/1").status(), 200);
                }
            });
        }
    });
    assert_eq!(ask(&daemon, "/stores/get/visits"), "200");
}

/// Whether a daemon that may be killed meanwhile has acknowledged a key.
fn is_set(address: SocketAddr, key: &str) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    let mut client = Connection::over(stream);
    let request = format!(
        "GET /stores/set/{key}/{key} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    client.try_write(request.as_bytes())
        && String::from_utf8_lossy(&client.wait_until_closed()).contains("\r\ndone\r\n")
}

#[test]
fn what_was_acknowledged_survives_fifty_kills_of_the_daemon() {
    let tree = Tree::new().with_manifest("stores", GRANTED);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..50 {
        let daemon = Daemon::start(&tree);
        let last = acknowledged.len().saturating_sub(20);
        for key in &acknowledged[last..] {
            assert_eq!(ask(&daemon, &format!("/stores/get/{key}")), *key, "round {round}");
        }
        let count = AtomicUsize::new(0);
        let write = |writer: usize| {
            let mut written = Vec::new();
            loop {
                let key = format!("r{round}w{writer}n{}", written.len());
                if !is_set(daemon.address(), &key) {
                    return written;
                }
                written.push(key);
                count.fetch_add(1, Relaxed);
            }
        };
        thread::scope(|scope| {
            let write = &write;
            let writers = [0, 1].map(|writer| scope.spawn(move || write(writer)));
            while count.load(Relaxed) < 6 {
                thread::yield_now();
            }
            daemon.signal(Signal::KILL);
            for writer in writers {
                acknowledged.extend(writer.join().unwrap());
            }
        });
    }
    let daemon = Daemon::start(&tree);
    for key in &acknowledged {
        assert_eq!(ask(&daemon, &format!("/stores/get/{key}")), *key);
    }
}

#[test]
fn a_damaged_store_fails_its_plugin_with_the_remedy_and_no_panic() {
    let tree = Tree::new().with_manifest("stores", &format!("required = false\n{GRANTED}"));
    let start = || {
        let daemon = Daemon::start(&tree);
        daemon.log.wait_for(&["plugin ready plugin=stores"]);
        daemon
    };
    let mut daemon = start();
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    assert_eq!(daemon.stop(), 0);
    let file = tree.root().join("var/lib/plugind/.keyvalue/plugin-stores.redb");
    let length = fs::metadata(&file).unwrap().len();
    let whole = fs::read(&file).unwrap();
    // From the beginning, and behind the header.
    for start in [0, 4096] {
        let mut damaged = whole.clone();
        damaged[start..].fill(b'x');
        fs::write(&file, damaged).unwrap();
        let daemon = Daemon::start(&tree);
        let line = daemon.log.wait_for(&["plugin failed", "plugin=stores", "stage=link"]);
        assert!(line.contains("move it away") && !line.contains("rebuild"), "{line}");
        assert_eq!(daemon.log.panics(), Vec::<String>::new());
    }
    assert!(length > 4096);
    fs::remove_file(&file).unwrap();
    assert_eq!(ask(&start(), "/stores/get/key"), "none");
}

#[test]
fn a_store_that_is_damaged_in_use_shows_in_status_until_it_works_again() {
    let tree = Tree::new().with_manifest("stores", GRANTED);
    let daemon = control::start(&tree);
    let status = || control::run(&tree, &["status", "stores"]).stdout;
    for nth in 0..100 {
        assert_eq!(ask(&daemon, &format!("/stores/fill/key{nth}/20000")), "done");
    }
    assert!(!status().contains("degraded"), "{}", status());
    let file = tree.root().join("var/lib/plugind/.keyvalue/plugin-stores.redb");
    let length = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    fs::write(&file, "damage ".repeat(length / 7)).unwrap();
    let error = ask(&daemon, "/stores/set/key/value");
    assert!(error.contains("the store cannot be used at present"), "{error}");
    let shown = status();
    let reason = format!("its key-value store {} cannot be used: ", file.display());
    assert!(shown.contains("degraded") && shown.contains(&reason), "{shown}");
    let list = control::run(&tree, &["list"]).stdout;
    assert!(list.contains("degraded"), "{list}");
    fs::remove_file(&file).unwrap();
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    assert!(!status().contains("degraded"), "{}", status());
    assert_eq!(daemon.log.count(&["cannot use key-value store"]), 1);
}
