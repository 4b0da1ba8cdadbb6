//! A container without systemd, as the manual describes it.

use crate::HELLO;
use plugind_tests::{Machine, eventually, guest};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
};

const COMMAND: &str = "plugind --listen http=127.0.0.1:8080 --listen control=/run/plugind/control";

#[test]
fn a_container_without_systemd_serves_from_a_read_only_image() {
    let plugins = tempfile::tempdir().unwrap();
    fs::copy(guest("hello"), plugins.path().join("hello.wasm")).unwrap();
    let machine = Machine::run_container(COMMAND, plugins.path());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    machine.within(|| {
        eventually("the daemon to listen", || TcpStream::connect(address).ok().map(drop));
    });
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    assert_ne!(machine.run(&["touch", "/var/cache/plugind/file"]).status, 0);
    let list = machine.succeed(&["pluginctl", "list"]);
    assert!(list.contains("1 plugin, 0 failed"), "{list}");
    machine.succeed(&["rm", "/run/plugind/control"]);
    let list = machine.run(&["pluginctl", "list"]);
    let remedy = "start one with `plugind --listen control=/run/plugind/control`";
    assert!(list.status == 3 && list.errors.contains(remedy), "{list:?}");
    // Its first process passes no signals on, so this one is for the daemon itself.
    machine.succeed(&["sh", "-c", "kill -TERM $(pidof plugind)"]);
    machine.within(|| {
        eventually("the daemon to stop", || TcpStream::connect(address).err().map(drop));
    });
}
