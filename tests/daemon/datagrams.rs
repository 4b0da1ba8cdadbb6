//! Plugins that answer the datagrams of a socket, over IP and at a path.

use crate::streams::tree;
use plugind_tests::{Daemon, WAIT_MAX};
use std::{
    net::{Ipv4Addr, UdpSocket},
    os::unix::net::UnixDatagram,
};

#[test]
fn datagrams_are_answered_over_ip_and_at_a_path_and_know_their_sender() {
    let (tree, udp) = (tree(""), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let place = tree.root().join("gram");
    let (over_ip, at_path) =
        (format!("echo=udp:{port}"), format!("echo=unixgram:{}", place.display()));
    let _daemon = Daemon::start_with(&tree, &["--listen", &over_ip, "--listen", &at_path]);
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let own = udp.local_addr().unwrap();
    let mut answer = vec![0; 1 << 16];
    for (question, expected) in [
        ("hello", "hello".to_owned()),
        ("who", format!("echo {} {}", own.ip(), own.port())),
        ("", String::new()),
    ] {
        udp.send_to(question.as_bytes(), port).unwrap();
        let (length, from) = udp.recv_from(&mut answer).unwrap();
        assert_eq!(from, port);
        assert_eq!(&answer[..length], expected.as_bytes());
    }
    // The first datagram gets no answer; the next one does.
    udp.send_to(b"none", port).unwrap();
    udp.send_to(b"next", port).unwrap();
    let length = udp.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"next");

    let client = UnixDatagram::bind(tree.root().join("client")).unwrap();
    client.set_read_timeout(Some(WAIT_MAX)).unwrap();
    client.send_to(b"who", &place).unwrap();
    let length = client.recv(&mut answer).unwrap();
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (process, user, group) = (std::process::id(), user.as_raw(), group.as_raw());
    let expected = format!("echo process {process} user {user} group {group}");
    assert_eq!(str::from_utf8(&answer[..length]), Ok(expected.as_str()));
}

#[test]
fn datagrams_are_answered_side_by_side_and_those_too_large_are_dropped_and_counted() {
    let tree = tree("[limits]\ndatagram-max = \"1K\"\n");
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo=udp:{port}")]);
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut answer = vec![0; 1 << 16];
    udp.send_to(b"slow", port).unwrap();
    udp.send_to(&[7; 1025], port).unwrap();
    udp.send_to(&[7; 1024], port).unwrap();
    assert_eq!(udp.recv(&mut answer).unwrap(), 1024, "it does not wait for the slow one");
    let length = udp.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"slow");
    daemon.log.wait_for(&["datagrams dropped", "socket=echo", "too_large=1", "total=1"]);

    udp.send_to(b"trap", port).unwrap();
    daemon.log.wait_for(&["datagrams dropped", "failed=1", "total=2"]);
    udp.send_to(b"again", port).unwrap();
    let length = udp.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"again");
}

/// A daemon with this mode and number of instances, and a client of it.
fn client(mode: &str, max: u32) -> (Daemon, UdpSocket) {
    let tree = tree(&format!("[instances]\nmode = \"{mode}\"\nmax = {max}\n"));
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo=udp:{port}")]);
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    udp.connect(port).unwrap();
    (daemon, udp)
}

/// The number of a datagram within its instance.
fn number(udp: &UdpSocket) -> String {
    udp.send(b"number").unwrap();
    let mut answer = [0; 64];
    let length = udp.recv(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

#[test]
fn the_mode_decides_which_instance_gets_a_datagram() {
    for (mode, expected) in
        [("fresh", ["1"; 3]), ("exclusive", ["1", "2", "3"]), ("shared", ["1", "2", "3"])]
    {
        let (_daemon, udp) = client(mode, 1);
        assert_eq!([(); 3].map(|()| number(&udp)), expected, "{mode}");
    }
}

#[test]
fn a_datagram_that_is_not_answered_keeps_an_instance_unless_it_is_shared() {
    for (mode, max, expected) in [("fresh", 2, "1"), ("exclusive", 2, "1"), ("shared", 1, "2")] {
        let (_daemon, udp) = client(mode, max);
        udp.send(b"never").unwrap();
        assert_eq!(number(&udp), expected, "{mode}");
    }
}

#[test]
fn a_datagram_is_answered_by_the_version_that_has_it_while_a_reload_replaces_that() {
    let tree = tree("");
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo=udp:{port}")]);
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    tree.put("echoes.wasm", plugind_tests::another("echoes"));
    udp.send_to(b"slow", port).unwrap();
    daemon.reload();
    udp.send_to(b"new", port).unwrap();
    let mut answers: Vec<_> = (0..2)
        .map(|_| {
            let mut answer = [0; 64];
            let length = udp.recv(&mut answer).unwrap();
            answer[..length].to_vec()
        })
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, [b"new".to_vec(), b"slow".to_vec()]);
}

#[test]
fn datagrams_beyond_those_that_may_wait_are_dropped_and_counted() {
    let tree = tree("[limits]\nrequest-timeout = \"2s\"\n");
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo=udp:{port}")]);
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let is_full = || {
        let dropped =
            daemon.log.all().into_iter().filter(|line| line.contains("datagrams dropped"));
        dropped.into_iter().any(|line| !line.contains("queue_full=0"))
    };
    // The kernel drops those that the daemon does not receive in time.
    plugind_tests::eventually("a full queue", || {
        (0..2000).for_each(|_| drop(udp.send_to(b"never", port)));
        is_full().then_some(())
    });
    // Those that wait are given up after request-timeout, and the socket is served again.
    plugind_tests::eventually("an answer", || {
        udp.send_to(b"again", port).unwrap();
        udp.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        udp.recv(&mut [0; 64]).is_ok().then_some(())
    });
}
