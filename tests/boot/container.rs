//! A container without systemd, as the manual describes it.

use crate::HELLO;
use plugind_tests::{Machine, eventually, guest};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

const COMMAND: &str = "plugind --listen http=127.0.0.1:8080 --listen control=/run/plugind/control";

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Runs the daemon in a container whose root is read-only, with or without compiled files.
fn run(is_compiled: bool) -> Machine {
    let plugins = tempfile::tempdir().unwrap();
    fs::copy(guest("hello"), plugins.path().join("hello.wasm")).unwrap();
    let machine = Machine::run_container(COMMAND, plugins.path(), is_compiled);
    machine.within(|| {
        eventually("the daemon to listen", || TcpStream::connect(ADDRESS).ok().map(drop));
    });
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    machine
}

#[test]
fn a_read_only_container_without_a_cache_serves_and_reports_that() {
    let machine = run(false);
    assert_ne!(machine.run(&["test", "-e", "/var/cache/plugind"]).status, 0);
    let status = machine.succeed(&["pluginctl", "status"]);
    let reported = "compiled code is not kept: cannot write to the cache /var/cache/plugind: \
                    Read-only file system";
    assert!(status.contains(reported), "{status}");
}

#[test]
fn a_container_without_systemd_serves_from_a_read_only_image() {
    let machine = run(true);
    assert_ne!(machine.run(&["touch", "/var/cache/plugind/file"]).status, 0);
    let list = machine.succeed(&["pluginctl", "list"]);
    assert!(list.contains("1 plugin, 0 failed"), "{list}");
    machine.succeed(&["rm", "/run/plugind/control"]);
    let list = machine.run(&["pluginctl", "list"]);
    let remedy = "start one with `plugind --listen control=/run/plugind/control`";
    assert!(list.status == 3 && list.errors.contains(remedy), "{list:?}");
    // Its first process passes no signals on, so this one is for the daemon itself. The container ends with the daemon,
    // perhaps before this command has.
    let killed = machine.run(&["sh", "-c", "kill -TERM $(pidof plugind)"]);
    assert!([0, -1].contains(&killed.status), "{killed:?}");
    machine.within(|| {
        eventually("the daemon to stop", || TcpStream::connect(ADDRESS).err().map(drop));
    });
}
