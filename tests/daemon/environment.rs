//! Variables and signals that another program leaves to the daemon do not keep it from starting.

use plugind_tests::{Daemon, Signal, Tree};
use std::os::unix::net::UnixDatagram;

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
