//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

#[test]
fn everyone_is_greeted_as_configured() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let manifest = "[config]\ngreeting = \"Good morning\"\n";
    let (host, address) = Host::with("@NAME@", component).manifest(manifest).tcp("@NAME@");
    let host = host.start();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"Ada\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "Good morning, Ada\n");
    assert!(host.stop().0.success());
}
