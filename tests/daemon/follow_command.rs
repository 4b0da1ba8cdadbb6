//! `pluginctl follow` asks the systemd that has its daemon for the state of this daemon, and no other.

use crate::control::{pluginctl, start};
use plugind_tests::{Daemon, Tree, WAIT_MAX, program};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A `systemctl` for which the daemon of the user runs, and that of the system does not.
const SYSTEMCTL: &str = "#!/bin/sh\n\
    case \" $* \" in *\" list-jobs \"*) ;; *\" --user \"*) echo ActiveState=active ;; *) echo ActiveState=inactive ;; esac\n";

/// The process of a unit, and the socket on which systemd would receive its state.
struct Followed {
    child: Child,
    systemd: UnixDatagram,
}

impl Followed {
    /// Starts it, and waits until the plugin serves.
    fn start(mut command: Command, socket: &Path) -> Self {
        let systemd = UnixDatagram::bind(socket).unwrap();
        systemd.set_read_timeout(Some(WAIT_MAX)).unwrap();
        command.env("NOTIFY_SOCKET", socket).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let followed = Self { child, systemd };
        followed.wait_for("READY=1");
        followed
    }

    fn wait_for(&self, state: &str) {
        let mut buffer = [0; 4096];
        while {
            let length = self.systemd.recv(&mut buffer).unwrap();
            !String::from_utf8_lossy(&buffer[..length]).contains(state)
        } {}
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until it ends with success.
    fn succeed(self) {
        let Output { status, stderr, .. } = self.child.wait_with_output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }
}

/// A user with a systemd of their own, and the daemon of this user.
fn user(tree: &Tree) -> (PathBuf, Daemon) {
    let runtime = tree.root().join("runtime");
    for directory in ["plugind", "systemd", "bin"] {
        fs::create_dir_all(runtime.join(directory)).unwrap();
    }
    let systemctl = runtime.join("bin/systemctl");
    fs::write(&systemctl, SYSTEMCTL).unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let control = format!("control={}", runtime.join("plugind/control").display());
    let daemon = Daemon::start_with(tree, &["--listen", &control]);
    (runtime, daemon)
}

#[test]
fn follow_asks_the_systemd_of_the_user_whose_daemon_it_uses() {
    let tree = Tree::new().with("hello");
    let (runtime, daemon) = user(&tree);
    let mut command = Command::new(program("pluginctl"));
    command.args(["follow", "--user", "hello"]).env_clear();
    let path = format!("{}:/usr/bin:/bin", runtime.join("bin").display());
    command.env("PATH", path).env("XDG_RUNTIME_DIR", &runtime).env("HOME", tree.root());
    let followed = Followed::start(command, &runtime.join("notify"));
    followed.terminate();
    followed.wait_for("STOPPING=1");
    followed.succeed();
    daemon.log.wait_for(&["info    plugind: plugin stopped", "plugin=hello"]);
}

#[test]
fn follow_of_a_daemon_without_systemd_ends_with_the_daemon() {
    let tree = Tree::new().with("hello");
    let mut daemon = start(&tree);
    let command = pluginctl(&tree, &["follow", "hello"]);
    let followed = Followed::start(command, &tree.root().join("notify"));
    assert_eq!(daemon.stop(), 0);
    followed.wait_for("STATUS=plugind has ended");
    followed.succeed();
}
