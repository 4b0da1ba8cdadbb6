//! File operations that block until another process allows them: the kernel opens a file with a lease only after the
//! owner of the lease has given it back.

use plugind_tests::{Daemon, Tree, tool};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

/// Takes a lease of a file, and keeps it until its standard input ends.
const LEASE: &str = "\
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
leased = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
sys.stdin.read()
";

/// The most calls of one plugin that block at a time.
const BLOCKED_MAX: usize = 16;

/// A lease of a file, until it is dropped.
struct Lease(Child);

impl Lease {
    fn of(path: &Path) -> Self {
        let mut python = tool("/usr/bin/python3");
        python.args(["-c", LEASE]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut owner = python.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(owner.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "leased\n");
        Self(owner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It ends by this.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// The threads that wait for the end of a lease.
fn blocked(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let waits_for = |task: fs::DirEntry| fs::read_to_string(task.path().join("wchan"));
    // A thread may have ended meanwhile.
    let waits = tasks.filter_map(|task| waits_for(task.ok()?).ok());
    waits.filter(|wait| wait.contains("break_lease")).count()
}

#[test]
fn a_plugin_with_600_blocked_calls_for_files_keeps_no_other_plugin_waiting() {
    let files = tempfile::tempdir().unwrap();
    for name in ["leased", "free"] {
        fs::write(files.path().join(name), "").unwrap();
    }
    let manifest = format!("[grants]\nread = [{:?}]\n", files.path());
    let tree = Tree::new();
    let tree = tree.with_named("slow", "opens", &manifest).with_named("other", "opens", &manifest);
    // With one processor, the calls of all plugins would share the same threads.
    let daemon = Daemon::start_by(&tree, &["/usr/bin/taskset", "-c", "0"]);
    let lease = Lease::of(&files.path().join("leased"));
    assert_eq!(daemon.get("/slow/often/600/leased").text(), "opening");
    while blocked(&daemon) < BLOCKED_MAX {
        thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..20 {
        assert_eq!(daemon.get("/other/once/free").text(), "opened");
    }
    tree.put("other.toml", format!("description = \"changed\"\n{manifest}"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(daemon.get("/other/once/free").text(), "opened");
    assert!(blocked(&daemon) <= BLOCKED_MAX);
    drop(lease);
    assert_eq!(daemon.get("/slow/once/leased").text(), "opened");
}
