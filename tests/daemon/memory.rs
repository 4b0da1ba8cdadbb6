//! The memory that the host keeps for a plugin counts as the plugin's memory.

use crate::control;
use plugind_tests::{Daemon, Tree, eventually};
use std::fs;

/// Growth of the daemon that a plugin with `LIMITS` may cause: its memory, and other allocations at the same time.
const GROWTH: u64 = (16 + 40) << 20;
const LIMITS: &str = "[limits]\nmemory-max = \"64M\"\ninstance-memory-max = \"16M\"\n";
/// The log entry about such a plugin.
const OOM: [&str; 4] =
    ["instance failed", "plugin=hoards", "result=oom", "limits.instance-memory-max"];

/// Has a guest keep resources, of which not all may be kept.
fn keeps_within_its_limit(guest: &str, kind: &str, count: u32) {
    let daemon = Daemon::start(&Tree::new().with_named("hoards", guest, LIMITS).with("counts"));
    assert_eq!(daemon.get("/hoards").status_and_text(), (200, "fine"));
    let before = daemon.peak_memory();
    let answer = daemon.get(&format!("/hoards/{kind}/{count}"));
    let growth = daemon.peak_memory().saturating_sub(before);
    assert!(growth < GROWTH, "{guest}: {kind}: {} MiB", growth >> 20);
    assert_eq!(answer.status(), 502, "{guest}: {kind}: {}", answer.text());
    daemon.log.wait_for(&OOM);
    assert_eq!(
        daemon.get(&format!("/hoards/{kind}/1")).status_and_text(),
        (200, "kept 1"),
        "it has room again"
    );
    assert_eq!(daemon.get("/counts").status(), 200);
    assert_eq!(daemon.log.count(&["instance failed", "plugin=counts"]), 0);
}

#[test]
fn headers_that_a_plugin_keeps_count_as_its_memory() {
    keeps_within_its_limit("hoards", "fields", 9000);
    keeps_within_its_limit("hoards_02", "fields", 9000);
}

#[test]
fn many_headers_without_values_count_as_memory() {
    keeps_within_its_limit("hoards", "small", 9000);
}

#[test]
fn requests_that_a_plugin_makes_and_does_not_send_count_as_its_memory() {
    keeps_within_its_limit("hoards", "requests", 9000);
    keeps_within_its_limit("hoards_02", "requests", 9000);
}

#[test]
fn bodies_that_nobody_reads_count_as_memory() {
    keeps_within_its_limit("hoards_02", "bodies", 3000);
}

#[test]
fn a_method_of_any_length_is_refused() {
    for guest in ["hoards", "hoards_02"] {
        let daemon = Daemon::start(&Tree::new().with_named("hoards", guest, LIMITS));
        assert_eq!(daemon.get("/hoards/methods/100").status_and_text(), (200, "kept 0"));
    }
}

#[test]
fn streams_that_a_plugin_keeps_are_bounded() {
    let daemon = Daemon::start(&Tree::new().with_named("hoards", "hoards", LIMITS));
    assert_eq!(daemon.get("/hoards").status_and_text(), (200, "fine"));
    let before = daemon.peak_memory();
    assert_eq!(daemon.get("/hoards/streams/100000").status(), 502);
    let growth = daemon.peak_memory().saturating_sub(before);
    assert!(growth < GROWTH, "{} MiB", growth >> 20);
    daemon.log.wait_for(&["instance failed", "plugin=hoards"]);
}

#[test]
fn all_plugins_together_use_no_more_than_the_daemon_lets_them() {
    let limits = "[limits]\nmemory-max = \"1G\"\ninstance-memory-max = \"1G\"\n";
    let tree = Tree::new()
        .with_named("grows", "grows", limits)
        .with_named("hoards", "hoards_02", limits)
        .with("counts");
    let tree = tree.with_settings("memory-max = \"64M\"\n");
    let daemon = Daemon::start(&tree);
    for (path, plugin) in
        [("/grows/grow/100", "plugin=grows"), ("/hoards/fields/1000", "plugin=hoards")]
    {
        assert_eq!(daemon.get(path).status(), 502, "{path}");
        // Only then is its memory free.
        let parts = ["instance failed", plugin, "result=oom", "memory-max of plugind.toml"];
        daemon.log.wait_for(&parts);
    }
    assert_eq!(daemon.get("/counts").status(), 200);
}

#[test]
fn all_plugins_together_use_three_quarters_of_the_memory_of_the_control_group() {
    let limits = "[limits]\nmemory-max = \"1G\"\ninstance-memory-max = \"1G\"\n";
    let tree = Tree::new().with_named("grows", "grows", limits);
    // What the kernel says of a control group with 100 MiB, seen by the daemon alone.
    let group = tree.root().join("control-group");
    fs::write(&group, "0::/system.slice/plugind.service\n").unwrap();
    let script = format!(
        "mount --bind {} /proc/$$/cgroup\nmount -t tmpfs plugind-test /sys/fs/cgroup\n\
         own=/sys/fs/cgroup/system.slice/plugind.service\nmkdir -p $own\n\
         echo 104857600 >$own/memory.high\necho max >$own/memory.max",
        group.display()
    );
    let daemon = control::start_by(&tree, &script);
    assert_eq!(daemon.get("/grows/grow/50").status_and_text(), (200, "grown by 50 MiB"));
    assert_eq!(daemon.get("/grows/grow/30").status(), 502);
    let parts = ["instance failed", "plugin=grows", "result=oom", "memory-max of plugind.toml"];
    daemon.log.wait_for(&parts);
}

#[test]
fn memory_that_plugins_needed_returns_to_the_system() {
    let limits = "[limits]\nmemory-max = \"1G\"\ninstance-memory-max = \"1G\"\n";
    let daemon = Daemon::start(&Tree::new().with_named("hoards", "hoards_02", limits));
    assert_eq!(daemon.get("/hoards").status_and_text(), (200, "fine"));
    let before = daemon.memory();
    assert_eq!(daemon.get("/hoards/fields/2000").status_and_text(), (200, "kept 2000"));
    assert!(daemon.peak_memory() > before + (150 << 20));
    let returned = || (daemon.memory() < before + (30 << 20)).then_some(());
    eventually("what was freed returns", returned);
}

#[test]
fn plugins_that_take_all_instances_they_can_leave_some_to_another() {
    // Requests that wait for an instance are given up; those that have one keep it for a minute.
    let slow = "[limits]\nrequest-timeout = \"1s\"\n[service]\ntimeout-stop-sec = \"1min\"\n";
    let tree = Tree::new()
        .with_named("one", "sleeps_02", slow)
        .with_named("two", "sleeps_02", slow)
        .with_named("third", "sleeps_02", "")
        .with_settings("[pool]\ninstances = 20\n");
    let daemon = control::start(&tree);
    // Of each more than there are instances.
    let mut clients: Vec<_> = (0..50).map(|_| daemon.connect()).collect();
    for (nth, client) in clients.iter_mut().enumerate() {
        let path = if nth % 2 == 0 { "/one/sleep/60000" } else { "/two/sleep/60000" };
        client.request("GET", path, &[]);
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response().status()).collect();
    let (busy, late) = (503, 504);
    assert!(answers.iter().all(|status| [busy, late].contains(status)), "{answers:?}");
    assert!(answers.contains(&busy), "the pool is full: {answers:?}");
    let list = control::run(&tree, &["list"]).stdout;
    assert!(list.contains("degraded") && list.contains("no instance had room for"), "{list}");

    assert_eq!(daemon.get("/third").status_and_text(), (200, "fine"));
    tree.put_guest("fourth", "sleeps_02");
    daemon.reload();
    assert_eq!(daemon.get("/fourth").status_and_text(), (200, "fine"), "a first instance has room");
}

#[test]
fn eight_ordinary_plugins_with_slow_requests_do_not_starve_a_ninth() {
    // Requests that wait for an instance are given up; those that have one keep it for a minute.
    let slow = "[limits]\nrequest-timeout = \"1s\"\n[service]\ntimeout-stop-sec = \"1min\"\n";
    let names: Vec<_> = (1..=8).map(|nth| format!("slow-{nth}")).collect();
    let tree = Tree::new().with_named("ninth", "sleeps_02", "");
    let tree = tree.with_settings("[pool]\ninstances = 40\n");
    let tree = names.iter().fold(tree, |tree, name| tree.with_named(name, "sleeps_02", slow));
    let daemon = Daemon::start(&tree);
    let mut clients = Vec::new();
    for _ in 0..10 {
        for name in &names {
            let mut client = daemon.connect();
            client.request("GET", &format!("/{name}/sleep/60000"), &[]);
            clients.push(client);
        }
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response().status()).collect();
    assert!(answers.contains(&503), "the pool is full: {answers:?}");
    for _ in 0..20 {
        assert_eq!(daemon.get("/ninth").status_and_text(), (200, "fine"));
    }
}

#[test]
fn a_guest_that_drops_its_resources_late_fails_no_request() {
    let daemon = Daemon::start(&Tree::new().with_manifest("drops_late", "[instances]\nmax = 1\n"));
    for _ in 0..2500 {
        assert_eq!(daemon.get("/drops-late").status(), 200);
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}
