//! Memory pressure, reported as systemd does it: instances without work end, their memory is free, and plugins serve.

use crate::{control, metrics::Measured};
use plugind_tests::{Connection, Daemon, Tree, WAIT_MAX, eventually};
use std::{
    fs::File,
    hint::spin_loop,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};
use tempfile::TempDir;

/// An instance without work is not stopped by itself while a test lasts.
const PATIENT: &str = "idle-timeout-sec = \"1h\"\n";
const MIB: u64 = 1 << 20;
/// Asks the kernel to report when something waited for 1 ms in 2 s, as systemd writes it: `some 1000 2000000` and a NUL,
/// in Base64.
const REQUEST: &str = "c29tZSAxMDAwIDIwMDAwMDAA";

/// Where a test reports memory pressure.
struct Pressure {
    path: PathBuf,
    _directory: TempDir,
}

impl Pressure {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pressure");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { path, _directory: directory }
    }

    fn start(&self, tree: &Tree) -> Daemon {
        let watch = format!("MEMORY_PRESSURE_WATCH={}", self.path.display());
        let listen = "exec \"$@\" --listen metrics=127.0.0.1:0";
        Daemon::start_by(tree, &["env", &watch, "sh", "-c", listen, "sh"])
    }

    fn report(&self) {
        File::options().write(true).open(&self.path).unwrap().write_all(b"x").unwrap();
    }
}

/// The value of a metric.
fn metric(daemon: &Daemon, series: &str) -> u64 {
    let line = daemon.log.wait_for(&["listening ", "socket=metrics"]);
    let (_, address) = line.split_once("address=").unwrap();
    let answer = Connection::to(address.parse().unwrap()).get("/metrics");
    let value = answer.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series}: {}", answer.text())).parse().unwrap()
}

fn instances(daemon: &Daemon, plugin: &str) -> u64 {
    metric(daemon, &format!("plugind_plugin_instances{{plugin=\"{plugin}\"}}"))
}

/// Sends requests at the same time until a plugin has two instances.
fn fill(daemon: &Daemon) {
    eventually("two instances", || {
        thread::scope(|scope| {
            let sleeps = || assert_eq!(daemon.get("/sleeps/sleep/100").status(), 200);
            (0..2).for_each(|_| drop(scope.spawn(sleeps)));
        });
        (instances(daemon, "sleeps") == 2).then_some(())
    });
}

#[test]
fn under_pressure_instances_without_work_end_and_memory_is_free() {
    let several = format!("{PATIENT}[instances]\nmode = \"exclusive\"\nmax = 2\n");
    let on_demand =
        format!("on-demand = true\n{PATIENT}[limits]\ninstance-memory-max = \"128M\"\n");
    let tree = Tree::new()
        .with_manifest("sleeps", &several)
        .with_manifest("grows", &on_demand)
        .with_manifest("keeps", PATIENT);
    let pressure = Pressure::new();
    let daemon = pressure.start(&tree);
    assert_eq!(daemon.get("/grows/grow/64").status_and_text(), (200, "grown by 64 MiB"));
    assert!(daemon.get("/keeps").text().ends_with(" count=1"));
    fill(&daemon);
    let before = daemon.memory();

    pressure.report();
    daemon.log.wait_for(&["info    plugind: memory pressure ", "instances=2 ", "reports=1"]);
    let after = daemon.memory();
    assert!(after + 48 * MIB < before, "{} MiB, then {} MiB", before / MIB, after / MIB);
    daemon.log.wait_for(&["plugind: plugin idle", "plugin=grows"]);
    assert_eq!((instances(&daemon, "grows"), instances(&daemon, "sleeps")), (0, 1));
    assert_eq!(metric(&daemon, "plugind_memory_pressure_total"), 1);
    assert_eq!(metric(&daemon, "plugind_memory_pressure_instances_ended_total"), 2);
    // The places that they had keep a part for the next instances.
    let unused = metric(&daemon, "plugind_pool_unused_memory_bytes");
    assert!(unused > 0 && unused < 8 * MIB, "{unused}");

    assert_eq!(daemon.get("/grows").status_and_text(), (200, "fine"));
    assert_eq!(daemon.get("/sleeps").status(), 200);
    assert!(daemon.get("/keeps").text().ends_with(" count=2"), "as many as min are left");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_burst_of_instances_leaves_only_what_the_pool_keeps_of_each() {
    let many = "[instances]\nmode = \"fresh\"\nmax = 64\n";
    let tree = Tree::new().with_manifest("sleeps", many).with("hello");
    let measured = Measured::start_with_control(&tree);
    let mut clients: Vec<_> = (0..64).map(|_| measured.daemon.connect()).collect();
    for client in &mut clients {
        client.request("GET", "/sleeps/sleep/60000", &[]);
    }
    measured.wait_for("plugind_plugin_instances{plugin=\"sleeps\"}", 64.0);
    drop(clients);
    // It waits until all instances have ended.
    assert_eq!(control::run(&tree, &["stop", "sleeps"]).status, Some(0));
    let unused = measured.value("plugind_pool_unused_memory_bytes").unwrap();
    // 256 KiB of the memory of each, and 16 KiB of each of its tables.
    let of_each = f64::from((256 + 4 * 16) * 1024);
    assert!(unused > 0.0 && unused <= 65.0 * of_each, "{unused}");
    assert_eq!(measured.daemon.get("/hello").status(), 200);
}

#[test]
fn requests_succeed_while_pressure_is_reported() {
    let tree = Tree::new().with_manifest("keeps", &format!("on-demand = true\n{PATIENT}"));
    let pressure = Pressure::new();
    let daemon = pressure.start(&tree);
    for round in 1..=12 {
        pressure.report();
        // Each comes at another moment of the reaction.
        for _ in 0..round % 4 {
            assert_eq!(daemon.get("/keeps").status(), 200);
        }
        eventually("the reaction", || {
            (metric(&daemon, "plugind_memory_pressure_total") == round).then_some(())
        });
    }
    assert!(daemon.get("/keeps").text().ends_with(" count=19"), "its state is kept");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_report_of_the_kernel_ends_an_instance_without_work() {
    let tree = Tree::new().with_manifest("keeps", &format!("on-demand = true\n{PATIENT}"));
    // The kernel reports pressure on processors by the same kind of file, and a test can cause that.
    assert!(
        Path::new("/proc/pressure/cpu").exists(),
        "the kernel reports no pressure; boot with psi=1"
    );
    let watch = "MEMORY_PRESSURE_WATCH=/proc/pressure/cpu";
    let daemon =
        Daemon::start_by(&tree, &["env", watch, &format!("MEMORY_PRESSURE_WRITE={REQUEST}")]);
    assert_eq!(daemon.get("/keeps").status(), 200);
    let (has_ended, begun) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for _ in 0..=thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !has_ended.load(Relaxed) && begun.elapsed() < WAIT_MAX {
                    spin_loop();
                }
            });
        }
        daemon.log.wait_for(&["plugind: plugin idle", "plugin=keeps"]);
        has_ended.store(true, Relaxed);
    });
    assert!(daemon.get("/keeps").text().ends_with(" count=2"), "its state is kept");
    assert_eq!(daemon.log.count(&["memory pressure not watched"]), 0);
}

#[test]
fn a_watch_that_cannot_be_used_is_a_warning_and_dev_null_is_not() {
    let tree = Tree::new().with("hello");
    for (variable, warned) in [
        ("MEMORY_PRESSURE_WATCH=pressure", "must be an absolute path, not pressure"),
        ("MEMORY_PRESSURE_WATCH=/nowhere/pressure", "cannot watch /nowhere/pressure"),
    ] {
        let daemon = Daemon::start_by(&tree, &["env", variable]);
        daemon.log.wait_for(&["warning plugind: memory pressure not watched", warned]);
        assert_eq!(daemon.get("/hello").status(), 200);
    }
    let mut daemon = Daemon::start_by(&tree, &["env", "MEMORY_PRESSURE_WATCH=/dev/null"]);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["memory pressure"]), 0);
}
