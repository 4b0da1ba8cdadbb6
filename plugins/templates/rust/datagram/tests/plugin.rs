//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};
use std::{net::UdpSocket, time::Duration};

#[test]
fn everyone_is_greeted_as_configured() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let manifest = "[config]\ngreeting = \"Good morning\"\n";
    let (host, address) = Host::with("@NAME@", component).manifest(manifest).udp("@NAME@");
    let host = host.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.send_to(b"Ada", address).unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"Good morning, Ada\n");
    assert!(host.stop().0.success());
}
