//! Plugins serve sockets of every kind that systemd opens.

use plugind_tests::{Machine, WAIT_MAX};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
};

/// The example of a socket unit that a plugin has beside its component.
pub(super) fn example(machine: &Machine, plugin: &str) {
    let file = format!("{}/../plugins/{plugin}/{plugin}.socket", env!("CARGO_MANIFEST_DIR"));
    let contents = std::fs::read(file).unwrap();
    machine.put(&format!("/etc/systemd/system/{plugin}.socket"), contents);
}

/// Returns the reply to a line, up to its end.
fn echo(mut stream: impl Read + Write, finish: impl Fn()) -> String {
    stream.write_all(b"hello\n").unwrap();
    finish();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(super) fn over_tcp(machine: &Machine, port: u16) -> String {
    let stream = machine.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    echo(&stream, || stream.shutdown(Shutdown::Write).unwrap())
}

pub(super) fn at_path(machine: &Machine, path: &str) -> String {
    let stream = UnixStream::connect(machine.path(path)).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    echo(&stream, || stream.shutdown(Shutdown::Write).unwrap())
}

/// Whether the answer is a time, in seconds since 1970.
pub(super) fn is_time(answer: &[u8]) -> bool {
    str::from_utf8(answer).is_ok_and(|text| text.trim().parse::<f64>().is_ok_and(|it| it > 1e9))
}

/// The answer of `clock` over UDP.
pub(super) fn time_by_udp(machine: &Machine) -> Vec<u8> {
    let mut answer = [0; 64];
    let udp = machine.within(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    udp.send_to(b"?", (Ipv4Addr::LOCALHOST, 7013)).unwrap();
    let length = udp.recv(&mut answer).unwrap();
    answer[..length].to_vec()
}

/// The answer of `clock` to a process in the machine, since the daemon answers to the path that the client has there, if
/// it sees that path.
pub(super) fn time_at_path(machine: &Machine) -> Vec<u8> {
    let script = r#"unlink("/run/plugind/client");
        socket(S, AF_UNIX, SOCK_DGRAM, 0) or die $!;
        bind(S, sockaddr_un("/run/plugind/client")) or die $!;
        chmod(0666, "/run/plugind/client") or die $!;
        alarm(30);
        send(S, "?", 0, sockaddr_un("/run/plugind-clock/socket")) or die $!;
        defined(recv(S, $answer, 64, 0)) or die $!;
        print $answer;"#;
    // Every Debian has perl.
    machine.succeed(&["perl", "-MSocket", "-e", script]).into_bytes()
}

#[test]
fn the_datagram_that_starts_the_daemon_has_the_process_that_sent_it() {
    let machine = Machine::boot_with(&[]);
    machine.put_guest("gram", "echoes");
    let unit = "[Socket]\nListenDatagram=/run/gram\nPassCredentials=yes\nFileDescriptorName=gram\n\
                Service=plugind.service\n";
    machine.put("/etc/systemd/system/gram.socket", unit);
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "gram.socket"]);
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    // The daemon, which does not see the files of the client, can answer to an abstract address.
    let script = r#"socket(S, AF_UNIX, SOCK_DGRAM, 0) or die $!;
        bind(S, pack_sockaddr_un("\0client")) or die $!;
        alarm(60);
        for (1, 2) {
            send(S, "who", 0, pack_sockaddr_un("/run/gram")) or die $!;
            defined(recv(S, $answer, 64, 0)) or die $!;
            print $answer eq "gram process $$ user 0 group 0" ? "yes " : "$$: $answer ";
        }"#;
    assert_eq!(machine.succeed(&["perl", "-MSocket", "-e", script]), "yes yes ");
}

#[test]
fn sockets_of_every_kind_are_served_at_once_and_a_reload_claims_another() {
    let machine = Machine::boot_with(&["echo", "hello"]);
    for plugin in ["echo", "clock"] {
        example(&machine, plugin);
    }
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "clock.socket", "echo.socket"]);
    machine.start();
    assert_eq!(over_tcp(&machine, 7007), "hello\n");
    assert_eq!(at_path(&machine, "/run/plugind-echo/socket"), "hello\n");
    assert_eq!(machine.get("/hello").status(), 200);
    assert!(machine.daemon("StatusText").contains("unused sockets: clock"));

    machine.put_guest("clock", "clock");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert!(is_time(&time_by_udp(&machine)));
    assert!(is_time(&time_at_path(&machine)));
    assert!(!machine.daemon("StatusText").contains("unused"));
    assert_eq!(over_tcp(&machine, 7007), "hello\n");
}
