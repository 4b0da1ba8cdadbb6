//! Plugins that serve connections as they are, over TCP and at a path.

use plugind_tests::{Daemon, Tree, WAIT_MAX};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// A manifest that asks for the socket `echo`.
pub(crate) const ECHO: &str = "[[serve]]\nsocket = \"echo\"\n";

/// A tree with the guest that echoes, and what its manifest says beside its socket.
pub(crate) fn tree(manifest: &str) -> Tree {
    Tree::new().with_manifest("echoes", &format!("{ECHO}{manifest}"))
}

/// An address that is free now.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A daemon that has the socket `echo` over TCP.
fn over_tcp(manifest: &str) -> (Daemon, SocketAddr) {
    let address = free();
    let listen = format!("echo={address}");
    (Daemon::start_with(&tree(manifest), &["--listen", &listen]), address)
}

/// The path of the socket below the root of a tree.
pub(crate) fn path(tree: &Tree) -> PathBuf {
    tree.root().join("echo")
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream
}

/// Sends something and receives as much.
pub(crate) fn echo(stream: &mut (impl Read + Write), text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Sends a word and receives a line.
fn ask(stream: &mut (impl Read + Write), word: &str) -> String {
    stream.write_all(format!("{word}\n").as_bytes()).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Reads the rest, up to the end.
pub(crate) fn rest(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

/// Sends a text and closes this direction; returns all that the other one brings.
pub(crate) fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    String::from_utf8(rest(&mut stream).unwrap()).unwrap()
}

#[test]
fn a_connection_is_served_over_tcp_and_at_a_path_and_knows_its_client() {
    let (_daemon, address) = over_tcp("");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "hello"), "hello");
    let own = stream.local_addr().unwrap();
    assert_eq!(ask(&mut stream, "who"), format!("echo {} {}\n", own.ip(), own.port()));

    let tree = tree("");
    let listen = format!("echo=unix:{}", path(&tree).display());
    let _daemon = Daemon::start_with(&tree, &["--listen", &listen]);
    let mut stream = UnixStream::connect(path(&tree)).unwrap();
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (user, group) = (user.as_raw(), group.as_raw());
    let process = std::process::id();
    let expected = format!("echo process {process} user {user} group {group}\n");
    assert_eq!(ask(&mut stream, "who"), expected);
}

#[test]
fn each_direction_of_a_connection_can_be_closed_on_its_own() {
    let (daemon, address) = over_tcp("");
    let mut stream = connect(address);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"last words");

    let mut stream = connect(address);
    stream.write_all(b"finish\n").unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"", "the plugin has finished, and still reads");
    daemon.log.wait_for(&["write after finish: Err(ConnectionError { code: 2"]);
    stream.write_all(b"more").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn a_connection_that_the_plugin_closes_ends_after_its_last_byte() {
    let (_daemon, address) = over_tcp("");
    let mut stream = connect(address);
    // Bytes that the plugin does not read any more must not break the connection.
    stream.write_all(b"close\n").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    stream.write_all(&[0; 10_000]).unwrap();
    assert_eq!(&answer, b"bye\n");
    assert_eq!(rest(&mut stream).unwrap(), b"");
}

#[test]
fn a_failure_and_a_client_that_resets_are_seen_at_the_other_end() {
    let (daemon, address) = over_tcp("");
    let mut stream = connect(address);
    stream.write_all(b"fail\n").unwrap();
    assert_eq!(rest(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.log.wait_for(&["connection failed", "plugin=echoes", "socket=echo", "asked to fail"]);

    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "hello"), "hello");
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    daemon.log.wait_for(&["connection ended: ConnectionError { code: 0"]);
}

#[test]
fn a_trap_resets_the_connections_of_its_instance_and_the_next_one_serves() {
    let (daemon, address) = over_tcp("[instances]\nmode = \"shared\"\nmax = 1\n");
    let mut others: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for other in &mut others {
        assert_eq!(echo(other, "x"), "x");
    }
    let mut stream = connect(address);
    stream.write_all(b"trap\n").unwrap();
    for mut stream in others.into_iter().chain([stream]) {
        assert_eq!(rest(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    daemon.log.wait_for(&["instance failed", "plugin=echoes", "result=trap"]);
    assert_eq!(echo(&mut connect(address), "again"), "again");
}

#[test]
fn with_an_instance_for_each_connection_a_trap_costs_that_one_alone() {
    for mode in ["fresh", "exclusive"] {
        let (_daemon, address) = over_tcp(&format!("[instances]\nmode = \"{mode}\"\n"));
        let mut others: Vec<_> = (0..3).map(|_| connect(address)).collect();
        for other in &mut others {
            assert_eq!(echo(other, "x"), "x", "{mode}");
        }
        let mut stream = connect(address);
        stream.write_all(b"trap\n").unwrap();
        assert_eq!(rest(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset, "{mode}");
        for other in &mut others {
            assert_eq!(echo(other, "y"), "y", "{mode}");
        }
    }
}

/// The number of a connection within its instance.
fn number(stream: &mut TcpStream) -> String {
    ask(stream, "number").trim().to_owned()
}

/// The numbers of two connections at once.
fn numbers_at_once(address: SocketAddr) -> [String; 2] {
    let mut streams = [(); 2].map(|()| connect(address));
    streams.each_mut().map(number)
}

/// The number of a connection that has ended when this returns.
fn number_of_one(address: SocketAddr) -> String {
    let mut stream = connect(address);
    let number = number(&mut stream);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"");
    number
}

#[test]
fn a_fresh_instance_serves_one_connection() {
    let (_daemon, address) = over_tcp("[instances]\nmode = \"fresh\"\n");
    assert_eq!([(); 3].map(|()| number_of_one(address)), ["1"; 3]);
    assert_eq!(numbers_at_once(address), ["1"; 2]);
}

#[test]
fn an_exclusive_instance_serves_one_connection_after_the_other() {
    let exclusive = |max| over_tcp(&format!("[instances]\nmode = \"exclusive\"\nmax = {max}\n"));
    let (daemon, address) = exclusive(1);
    assert_eq!([(); 3].map(|()| number_of_one(address)), ["1", "2", "3"]);
    drop(daemon);
    let (_daemon, address) = exclusive(2);
    assert_eq!(numbers_at_once(address), ["1"; 2], "each has an instance of its own");
}

#[test]
fn a_shared_instance_serves_connections_at_once() {
    let (_daemon, address) = over_tcp("[instances]\nmode = \"shared\"\nmax = 1\n");
    assert_eq!(numbers_at_once(address), ["1", "2"]);
    assert_eq!(number_of_one(address), "3");
}

#[test]
fn the_daemon_is_ready_when_a_plugin_that_serves_a_socket_has_started() {
    let manifest = format!("{ECHO}[config]\nstart = \"500\"\n");
    let tree = Tree::new().with_manifest("numbers_connections", &manifest);
    let address = free();
    let daemon = Daemon::begin(&tree, &["--listen", &format!("echo={address}")]);
    daemon.log.wait_for(&["plugind: listening ", "socket=echo"]);
    // It waits for the plugin.
    let early = ask(&mut connect(address), "");
    assert!(early.starts_with("1 "), "{early}");
    daemon.wait_until_ready();
    let lines = daemon.log.all();
    let place = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
    let (plugin, all) =
        (place("plugind: plugin ready plugin=numbers-connections"), place("plugind: ready"));
    assert!(plugin < all, "{lines:?}");
}

#[test]
fn a_reload_keeps_the_connections_of_the_previous_version_until_they_end() {
    let (daemon, address) = over_tcp("");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "before"), "before");
    daemon.tree().put("echoes.wasm", plugind_tests::another("echoes"));
    daemon.reload();
    assert_eq!(echo(&mut stream, "after"), "after");
    assert_eq!(echo(&mut connect(address), "new"), "new");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"");
}

#[test]
fn a_connection_that_outlasts_the_time_to_stop_is_reset() {
    let (daemon, address) = over_tcp("[service]\ntimeout-stop-sec = \"200ms\"\n");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "before"), "before");
    daemon.tree().put("echoes.wasm", plugind_tests::another("echoes"));
    daemon.reload();
    assert_eq!(rest(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(echo(&mut connect(address), "new"), "new");
}

#[test]
fn a_daemon_that_stops_lets_connections_end() {
    let (mut daemon, address) = over_tcp("");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "before"), "before");
    daemon.signal(plugind_tests::Signal::TERM);
    daemon.log.wait_for(&["stopping"]);
    assert_eq!(echo(&mut stream, "after"), "after");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"");
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_connection_without_a_byte_for_too_long_is_closed_and_the_plugin_learns_why() {
    let (daemon, address) = over_tcp("[limits]\nidle-timeout = \"200ms\"\n");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "hello"), "hello");
    assert_eq!(rest(&mut stream).unwrap(), b"");
    daemon.log.wait_for(&["connection ended: ConnectionError { code: 1"]);
}

#[test]
fn connections_whose_functions_block_are_served_side_by_side() {
    let manifest = format!("{ECHO}[service]\nwatchdog-sec = \"1s\"\n");
    let tree = Tree::new().with_manifest("echoes_blocking", &manifest);
    let address = free();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo={address}")]);
    let mut streams: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for stream in &mut streams {
        assert_eq!(echo(stream, "hello"), "hello");
    }
    let client = streams[0].local_addr().unwrap();
    assert_eq!(ask(&mut streams[0], "who"), format!("echo 127.0.0.1 {}\n", client.port()));
    streams[1].write_all(b"trap\n").unwrap();
    assert_eq!(rest(&mut streams[1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(echo(&mut streams[2], "still here"), "still here");
    streams[2].write_all(b"fail\n").unwrap();
    assert_eq!(rest(&mut streams[2]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.log.wait_for(&["connection failed", "asked to fail"]);

    // The reload does not wait for the connection that blocks its instance.
    daemon.reload();
    assert_eq!(echo(&mut streams[0], "hello"), "hello");
    streams[0].write_all(b"finish\n").unwrap();
    assert_eq!(rest(&mut streams[0]).unwrap(), b"");
    daemon.log.wait_for(&["write after finish: Err(ConnectionError { code: 2"]);
    let stream = connect(address);
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    daemon.log.wait_for(&["connection ended: ConnectionError { code: 0"]);
}

#[test]
fn more_connections_than_may_be_are_refused_until_one_ends() {
    let (daemon, address) = over_tcp("[limits]\nconnections-max = 2\n");
    let mut kept: Vec<_> = (0..2).map(|_| connect(address)).collect();
    for stream in &mut kept {
        assert_eq!(echo(stream, "x"), "x");
    }
    assert!(rest(&mut connect(address)).is_err());
    daemon.log.wait_for(&["warning plugind: connection limit reached", "plugin=echoes"]);
    drop(kept);
    plugind_tests::eventually("a place is free again", || {
        let mut stream = connect(address);
        stream.write_all(b"x").ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()
    });
}

#[test]
fn a_gigabyte_goes_through_a_connection_and_leaves_nothing_behind() {
    let (daemon, address) = over_tcp("");
    let mut stream = connect(address);
    assert_eq!(echo(&mut stream, "warm"), "warm");
    let before = daemon.peak_memory();
    let mut writer = stream.try_clone().unwrap();
    const PIECES: usize = 1 << 14;
    let writes = thread::spawn(move || {
        let piece = vec![7; 64 << 10];
        for _ in 0..PIECES {
            writer.write_all(&piece).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            length => read += length,
        }
    }
    writes.join().unwrap();
    assert_eq!(read, PIECES * (64 << 10));
    let more = daemon.peak_memory().saturating_sub(before);
    assert!(more < 32 << 20, "{more} bytes more");
}

#[test]
fn a_client_that_does_not_read_keeps_the_plugin_from_reading() {
    let (daemon, address) = over_tcp("");
    let mut stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    let (piece, mut written) = (vec![7; 64 << 10], 0_usize);
    // Until the buffers of the kernel are full in both directions, and everything stands still.
    let mut full = 0;
    while full < 20 {
        match stream.write(&piece) {
            Ok(length) => (written, full) = (written + length, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                // Something else has its turn: the daemon, which answers another client meanwhile.
                assert_eq!(echo(&mut connect(address), "other"), "other");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written < 64 << 20, "{written} bytes were taken");
    stream.set_nonblocking(false).unwrap();
    let writer = stream.try_clone().unwrap();
    let closes = thread::spawn(move || writer.shutdown(Shutdown::Write).unwrap());
    assert_eq!(rest(&mut stream).unwrap().len(), written);
    closes.join().unwrap();
    drop(daemon);
}

#[test]
fn the_state_of_a_plugin_goes_to_the_version_that_serves_the_next_connection() {
    let manifest = "[[serve]]\nsocket = \"echo\"\n[handover]\ntimeout-sec = \"500ms\"\n";
    let tree = Tree::new().with_manifest("numbers_connections", manifest);
    let address = free();
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("echo={address}")]);
    let number = |stream: &mut TcpStream| {
        let line = ask(stream, "");
        let (number, generation) = line.trim().split_once(' ').unwrap();
        (number.parse::<u32>().unwrap(), generation.to_owned())
    };
    let mut first = connect(address);
    let (one, old) = number(&mut first);
    assert_eq!(one, 1);
    tree.put("numbers-connections.wasm", plugind_tests::another("numbers_connections"));
    assert!(daemon.reload().contains("failed=1"), "the state is in use by a connection");
    let mut second = connect(address);
    assert_eq!(number(&mut second), (2, old.clone()));
    drop((first, second));
    daemon.reload();
    let (three, new) = number(&mut connect(address));
    assert_eq!(three, 3);
    assert_ne!(new, old);
}

/// Returns the output of a program for `input`.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed; tests/setup installs it: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nc_and_socat_are_answered_on_sockets_of_every_kind() {
    let tree = tree("");
    let (tcp, udp) = (free(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr());
    let udp = udp.unwrap();
    let [stream, gram] =
        ["stream", "gram"].map(|name| tree.root().join(name).display().to_string());
    let listens = [
        format!("echo={tcp}"),
        format!("echo=udp:{udp}"),
        format!("echo=unix:{stream}"),
        format!("echo=unixgram:{gram}"),
    ];
    let arguments: Vec<_> = listens.iter().flat_map(|listen| ["--listen", listen]).collect();
    let _daemon = Daemon::start_with(&tree, &arguments);
    let (tcp_port, udp_port) = (tcp.port().to_string(), udp.port().to_string());
    let client = format!("UNIX-SENDTO:{gram},bind={}", tree.root().join("client").display());
    for (program, arguments) in [
        ("nc", vec!["-N", "127.0.0.1", &tcp_port]),
        ("nc", vec!["-N", "-U", &stream]),
        ("nc", vec!["-u", "-w", "1", "127.0.0.1", &udp_port]),
        ("socat", vec!["-t", "60", "-", &format!("TCP:127.0.0.1:{tcp_port}")]),
        ("socat", vec!["-t", "60", "-", &format!("UNIX-CONNECT:{stream}")]),
        ("socat", vec!["-t", "1", "-", &format!("UDP:127.0.0.1:{udp_port}")]),
        ("socat", vec!["-t", "1", "-", &client]),
    ] {
        let answer = piped(program, &arguments, b"hello from a client\n");
        assert_eq!(answer, "hello from a client\n", "{program} {arguments:?}");
    }
    assert!(fs::exists(&stream).unwrap());
}
