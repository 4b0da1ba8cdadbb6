//! Sockets come from socket units, and are known by their names.

use crate::{CLIENTS, HELLO, message};
use plugind_tests::{Connection, Load, Machine};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// A socket unit that hands its socket to the daemon.
fn unit(kind: &str, listen: &str, name: &str) -> String {
    format!("[Socket]\n{kind}={listen}\nFileDescriptorName={name}\nService=plugind.service\n")
}

/// An answer from another port of the machine.
fn get(machine: &Machine, port: u16, path: &str) -> (u16, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = machine.within(|| Connection::to(address));
    let answer = connection.get(path);
    (answer.status(), answer.text().to_owned())
}

#[test]
fn the_first_connection_starts_the_service_and_is_answered() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["systemctl", "start", "plugind-http.socket"]);
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    assert_eq!(machine.daemon("ActiveState"), "active");
}

#[test]
fn several_sockets_of_one_name_are_served_and_one_of_no_use_is_reported_and_kept() {
    let machine = Machine::boot_with(&["hello"]);
    let extra = [
        ("a.socket", unit("ListenStream", "127.0.0.1:8081", "http")),
        ("z.socket", unit("ListenStream", "127.0.0.1:8082", "http")),
        ("m.socket", unit("ListenStream", "127.0.0.1:8083", "somebody-elses")),
    ];
    for (name, contents) in &extra {
        machine.put(&format!("etc/systemd/system/{name}"), contents);
    }
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "z.socket", "m.socket", "a.socket"]);
    machine.start();
    for port in [8080, 8081, 8082] {
        assert_eq!(get(&machine, port, "/hello"), (200, HELLO.to_owned()), "{port}");
    }
    // It answers on its control socket, whatever came before it.
    let status = machine.succeed(&["pluginctl", "status"]);
    assert!(status.contains("unused sockets: somebody-elses"), "{status}");
    let warnings = machine.journal(&["PRIORITY=4", "SYSLOG_IDENTIFIER=plugind"]);
    let reported =
        |part: &str| warnings.iter().filter(|entry| format!("{entry:?}").contains(part)).count();
    assert_eq!(reported("somebody-elses"), 1, "{warnings:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn a_second_socket_of_one_name_is_served_once_it_is_enabled() {
    let machine = Machine::boot_with(&["hello"]);
    let put = |name: &str, port: u16, lines: &str| {
        let wanted = "[Install]\nWantedBy=sockets.target plugind.service\n";
        let contents = unit("ListenStream", &format!("127.0.0.1:{port}"), "http") + wanted + lines;
        machine.put(&format!("etc/systemd/system/{name}"), contents);
        machine.reload_units();
    };
    let serves = |ports: &[u16]| {
        for port in ports {
            assert_eq!(get(&machine, *port, "/hello"), (200, HELLO.to_owned()), "{port}");
        }
        assert_eq!(machine.daemon("StatusText"), "1 of 1 plugins ready");
    };
    // Its first client starts a daemon that does not run.
    put("second.socket", 8081, "");
    machine.succeed(&["systemctl", "enable", "--now", "second.socket"]);
    serves(&[8081, 8080]);
    // systemd starts no socket of a daemon that runs, and enables it nevertheless.
    put("third.socket", 8082, "");
    assert_ne!(machine.systemctl(&["enable", "--now", "third.socket"]).status, 0);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    serves(&[8080, 8081, 8082]);
    // Unless the unit has the daemon restart first, under load and without losing anything.
    let restarts = "[Unit]\nWants=plugind-socket@%N.service\nAfter=plugind-socket@%N.service\n";
    put("fourth.socket", 8083, restarts);
    let before = machine.daemon("MainPID");
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        load.wait_for(50);
        machine.succeed(&["systemctl", "enable", "--now", "fourth.socket"]);
        load.wait_for(50);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_ne!(machine.daemon("MainPID"), before);
    serves(&[8080, 8081, 8082, 8083]);
    // Neither a restart nor a reload of the daemon restarts it a second time.
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    let after = machine.daemon("MainPID");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    serves(&[8080, 8081, 8082, 8083]);
    assert_eq!(machine.daemon("MainPID"), after);
    // A daemon that was stopped is not started by it.
    machine.succeed(&["systemctl", "stop", "fourth.socket", "plugind.service"]);
    machine.succeed(&["systemctl", "start", "fourth.socket"]);
    assert_eq!(machine.daemon("ActiveState"), "inactive");
    serves(&[8083]);
}

#[test]
fn a_socket_of_the_wrong_kind_is_reported_with_the_remedy() {
    let machine = Machine::boot_with(&["hello"]);
    let contents = unit("ListenDatagram", "127.0.0.1:8084", "http");
    machine.put("etc/systemd/system/p.socket", contents);
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "p.socket"]);
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    assert_eq!(machine.daemon("ExecMainStatus"), "78");
    let entry = machine.wait_for_entry(&[&message("STARTUP_FAILED")]);
    assert!(entry.field("ERROR").contains("ListenStream="), "{entry:?}");
}

#[test]
fn another_address_is_a_drop_in() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put_drop_in("plugind-http.socket", "[Socket]\nListenStream=\nListenStream=8089\n");
    machine.start();
    assert_eq!(get(&machine, 8089, "/hello"), (200, HELLO.to_owned()));
}

#[test]
fn a_reload_claims_a_socket_that_was_passed_at_the_start() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put("etc/systemd/system/w.socket", unit("ListenStream", "127.0.0.1:8085", "web"));
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "w.socket"]);
    machine.start();
    machine.put("etc/plugind/plugind.toml", "[sockets.web]\nprotocol = \"http\"\n");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(get(&machine, 8085, "/hello"), (200, HELLO.to_owned()));
}

#[test]
fn a_restart_of_the_socket_alone_moves_the_port() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    assert_eq!(get(&machine, 8080, "/hello"), (200, HELLO.to_owned()));
    let drop_in = "etc/systemd/system/plugind-http.socket.d/port.conf";
    machine.put(drop_in, "[Socket]\nListenStream=\nListenStream=127.0.0.1:8090\n");
    machine.reload_units();
    machine.succeed(&["systemctl", "restart", "plugind-http.socket"]);
    assert_eq!(get(&machine, 8090, "/hello"), (200, HELLO.to_owned()));
    let old = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let refused = machine.within(|| TcpStream::connect(old).unwrap_err());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    machine.wait_for("ActiveState", |state| state == "active");
}

#[test]
fn a_socket_unit_that_failed_is_shown_by_the_daemon_that_runs_without_it() {
    let machine = Machine::boot_with(&["hello"]);
    let taken = machine.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).unwrap());
    let is_missing = || {
        let status = machine.run(&["pluginctl", "status"]);
        assert_eq!(status.status, 3, "{status:?}");
        assert!(
            machine.daemon("StatusText").ends_with("1 of 1 plugins ready; missing sockets: http")
        );
        let warnings = machine.journal(&["PRIORITY=4", "SYSLOG_IDENTIFIER=plugind"]);
        let remedy = warnings.last().expect("it is reported").field("REMEDY");
        assert!(remedy.contains("`systemctl status plugind-http.socket`"), "{warnings:?}");
    };
    machine.start();
    assert_eq!(machine.property("plugind-http.socket", "ActiveState"), "failed");
    is_missing();

    // As its type is another one, systemd cannot pass it.
    drop(taken);
    machine.succeed(&["systemctl", "stop", "plugind.target"]);
    machine.wait_for("ActiveState", |state| state == "inactive");
    machine.put_drop_in("plugind-http.socket", "[Socket]\nAccept=yes\n");
    machine.start();
    is_missing();

    machine.succeed(&["rm", "-r", "/etc/systemd/system/plugind-http.socket.d"]);
    machine.reload_units();
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.start();
    assert_eq!(machine.run(&["pluginctl", "status"]).status, 0);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}
