//! The harness for authors, `plugind-test`, with guests of these tests.

use plugind_test::Host;
use plugind_tests::{guest, program};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Once,
};

/// Names the programs that are tested.
fn with(name: &str, component: &str) -> plugind_test::HostBuilder {
    static PROGRAMS: Once = Once::new();
    PROGRAMS.call_once(|| plugind_test::use_programs(&program("plugind"), &program("pluginctl")));
    Host::with(name, guest(component))
}

#[test]
fn a_plugin_is_tested_with_its_configuration_and_its_log() {
    let host = with("shows", "config").manifest("[config]\nword = \"one\"\n").start();
    let response = host.get("");
    assert_eq!((response.status, response.text()), (200, "word=one\n"));
    assert_eq!(host.status()["plugin"]["activeState"], "active");
    host.wait_for_log("plugin ready plugin=shows");
    host.replace_manifest("[config]\nword = \"two\"\n");
    assert_eq!(host.get("").text(), "word=two\n");
    host.replace_component(guest("greeter_02"));
    assert_eq!(host.get("").text(), "Hello from a wasi:http 0.2 component\n");
    host.restart();
    let (status, log) = host.stop();
    assert!(status.success());
    log.wait_for("plugind: stopped");
}

#[test]
fn a_plugin_of_a_socket_is_tested() {
    let (host, address) = with("echo", "echo").tcp("echo");
    let _host = host.start();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
}

#[test]
#[should_panic(expected = "did not become ready")]
fn a_plugin_that_does_not_become_ready_fails_the_test() {
    let _host = with("shows", "config").manifest("[limits]\nmemory-max = 3\n").start();
}
