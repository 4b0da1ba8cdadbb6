//! Variables and signals that another program leaves to the daemon do not keep it from starting.

use crate::control;
use plugind_tests::{Daemon, Log, Signal, Tree, copy_program, program};
use rustix::process::{Pid, kill_process};
use std::{
    fs,
    os::unix::{fs::chown, net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
};

#[test]
fn a_full_notify_socket_keeps_no_signal_from_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let _never_read = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.connect(&path).unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send(b"x").is_ok() {}
    let tree = Tree::new().with("hello");
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    let mut daemon = Daemon::start_by(&tree, &["env", &socket]);
    for _ in 0..3 {
        assert!(daemon.reload().contains("changed=0 failed=0"));
    }
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.log.wait_for(&["warning plugind: cannot notify systemd"]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_notify_socket_that_leads_nowhere_is_a_warning() {
    for socket in ["/nowhere/notify", "/dev/null", "vsock:2:1234", "@plugind-nobody-listens"] {
        let tree = Tree::new().with("greeter_02");
        let mut daemon = Daemon::start_by(&tree, &["env", &format!("NOTIFY_SOCKET={socket}")]);
        daemon.log.wait_for(&["warning plugind: cannot notify systemd", socket]);
        assert_eq!(daemon.get("/greeter-02").status(), 200, "{socket}");
        assert_eq!(daemon.stop(), 0, "{socket}");
        assert_eq!(daemon.log.count(&["cannot notify systemd"]), 1, "{socket}");
    }
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let tree = Tree::new().with("greeter_02");
    let environment = ["env", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=http"];
    let daemon = Daemon::start_by(&tree, &environment);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    assert_eq!(daemon.log.count(&["warning"]), 0);
}

#[test]
fn blocked_and_ignored_signals_are_reset() {
    // With a cache of its own it has to wait for a compiler, which is a child.
    let tree = Tree::with_own_cache().with("greeter_02");
    let signals = ["env", "--block-signal=TERM,HUP,INT,CHLD", "--ignore-signal=CHLD,PIPE,TERM,HUP"];
    let mut daemon = Daemon::start_by(&tree, &signals);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    daemon.signal(Signal::HUP);
    daemon.log.wait_for(&["plugind: reload finished "]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn backtraces_in_the_environment_change_nothing_for_plugins_and_the_log() {
    let tree = Tree::new().with("environment").with("fails");
    let daemon = Daemon::start_by(&tree, &["env", "RUST_BACKTRACE=full"]);
    assert_eq!(daemon.get("/environment").text(), "");
    assert_eq!(daemon.get("/fails").status_and_text(), (502, "plugin fails failed\n"));
    daemon.log.wait_for(&["secret detail"]);
    assert_eq!(daemon.log.count(&["std::"]), 0);
}

#[test]
fn a_working_directory_that_was_deleted_does_not_matter() {
    let tree = Tree::new().with("greeter_02");
    let script = "gone=$(mktemp -d); cd \"$gone\"; rmdir \"$gone\"; exec \"$@\"";
    let daemon = Daemon::start_by(&tree, &["/bin/sh", "-euc", script, "sh"]);
    assert!(daemon.reload().contains("changed=0 failed=0"));
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

/// Runs a daemon in a shell that has prepared for it with this script, and returns what it says before it ends with
/// an error.
pub(crate) fn reason_not_to_start(tree: &Tree, shell: &[&str], script: &str) -> String {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-euc", &format!("{script}; exec \"$@\""), "sh"]);
    command.arg(program("plugind")).args(["--listen", "http=127.0.0.1:0", "--root"]);
    let ended = command.arg(tree.root()).env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn relative_directories_are_those_of_the_working_directory() {
    let tree = Tree::new().with("greeter_02");
    let script = format!("cd {}; exec \"$@\" --plugins etc/plugind/plugins", tree.root().display());
    let daemon = Daemon::start_by(&tree, &["/bin/sh", "-euc", &script, "sh"]);
    assert!(daemon.reload().contains("changed=0 failed=0"));
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn a_daemon_with_little_address_space_compiles_and_says_what_is_missing() {
    let tree = Tree::with_own_cache().with("greeter_02");
    let said = reason_not_to_start(&tree, &["/bin/sh"], "ulimit -v 1000000");
    assert!(said.contains("result=oom") && said.contains("(ulimit -v)"), "{said}");
    assert!(said.contains("startup failed") && !said.contains("panicked"), "{said}");
}

#[test]
fn a_daemon_without_proc_says_that_it_needs_it() {
    let tree = Tree::new().with("greeter_02");
    let shell = ["/usr/bin/unshare", "--mount", "/bin/sh"];
    let said = reason_not_to_start(&tree, &shell, "mount -t tmpfs plugind-test /proc");
    assert!(said.contains("startup failed") && said.contains("/proc must be mounted"), "{said}");
}

#[test]
fn a_daemon_with_few_descriptors_serves_or_says_why_not() {
    let tree = Tree::new().with("greeter_02");
    let daemon = control::start_by(&tree, "ulimit -n 64");
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    drop(daemon);
    let said = reason_not_to_start(&tree, &["/bin/sh"], "ulimit -n 12");
    assert!(said.contains("Too many open files"), "{said}");
}

/// A user who runs nothing else, so that their threads are those of the daemon.
const UNUSED_UID: u32 = 54_321;

fn give_to_unused_uid(path: &Path) {
    chown(path, Some(UNUSED_UID), Some(UNUSED_UID)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_to_unused_uid(&entry.unwrap().path());
        }
    }
}

/// Starts the program as the user, with at most so many threads.
fn start_with_threads(program: &Path, root: &Path, threads: u32) -> (Child, Log) {
    let mut command = Command::new("/usr/bin/setpriv");
    let user = ["--reuid", "--regid"].map(|option| format!("{option}={UNUSED_UID}"));
    command.args(user).args(["--clear-groups", "/usr/bin/prlimit"]);
    command.arg(format!("--nproc={threads}")).arg(program);
    command.args(["--listen", "http=127.0.0.1:0", "--root"]).arg(root);
    let mut child =
        command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Log::read(child.stderr.take().unwrap());
    (child, log)
}

#[test]
fn a_daemon_with_few_threads_becomes_ready_or_says_why_not() {
    let tree = Tree::with_own_cache().with("greeter_02");
    // Compiled before, since the compiler needs a process of its own.
    drop(Daemon::start(&tree));
    // The user need not be able to read the directory of the programs.
    let copy = tree.root().join("plugind");
    copy_program("plugind", &copy);
    give_to_unused_uid(tree.root());
    let mut ready = 0;
    for threads in 1..=24 {
        let (mut child, log) = start_with_threads(&copy, tree.root(), threads);
        let ends = ["plugind: ready plugins=1", "startup failed", "cannot start threads"];
        let found = log.wait_for_any(&ends);
        let is_ready = found.contains(ends[0]);
        assert!(is_ready || found.contains("Resource temporarily unavailable"), "{found}");
        if is_ready {
            ready += 1;
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        }
        assert_eq!(child.wait().unwrap().success(), is_ready, "{threads}: {found}");
        assert_eq!(log.panics(), Vec::<String>::new(), "{threads}: {found}");
    }
    assert!((1..24).contains(&ready), "{ready}");
}

#[test]
fn a_second_daemon_with_the_same_cache_says_so() {
    let tree = Tree::with_own_cache().with("greeter_02");
    let first = Daemon::start(&tree);
    let cache = tree.cache();
    let shared = ["info    plugind: cache shared with another daemon", cache.to_str().unwrap()];
    let second = Daemon::start(&tree);
    second.log.wait_for(&shared);
    assert_eq!(first.log.count(&shared), 0);
}

#[test]
fn a_second_daemon_with_the_same_state_says_so() {
    let tree = Tree::new().with("greeter_02");
    let state = tree.root().join("var/lib/plugind");
    fs::create_dir_all(&state).unwrap();
    let mut first = Daemon::start(&tree);
    let shared = ["warning plugind: state directory in use by another daemon"];
    let second = Daemon::start(&tree);
    assert!(second.log.wait_for(&shared).contains(state.to_str().unwrap()));
    assert_eq!(first.log.count(&shared), 0);
    drop(second);
    assert_eq!(first.stop(), 0);
    assert_eq!(Daemon::start(&tree).log.count(&shared), 0);
}
