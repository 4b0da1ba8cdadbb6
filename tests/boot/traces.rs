//! One request in the journal: what nginx in front, the daemon and the plugin say about it.

use crate::message;
use plugind_tests::{Connection, Machine, eventually, tool};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Child,
};

/// The example that is installed, for a port and a journal.
fn example(address: SocketAddr, journal: &Path) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../units/plugind-nginx.conf");
    let text = fs::read_to_string(file).unwrap();
    let places = [
        ("listen 80;", format!("listen {address};")),
        ("unix:/run/systemd/journal/socket", format!("unix:{}", journal.display())),
    ];
    places.into_iter().fold(text, |text, (place, other)| {
        assert_eq!(text.matches(place).count(), 1, "{place}");
        text.replace(place, &other)
    })
}

/// nginx of this system, in front of the daemon of a machine. It ends with the machine.
fn nginx(machine: &Machine, address: SocketAddr, directory: &Path) -> Child {
    let own = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {own}/{kind};\n"))
        .concat();
    let server = example(address, &machine.path("/run/systemd/journal/socket"));
    // Only root gets to the files of the machine from here.
    let configuration = format!(
        "user root;\ndaemon off;\nworker_processes 1;\npid {own}/pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\n{temporary}{server}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = machine.beside(&tool("nginx"));
    command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
    let child = command.spawn().unwrap();
    eventually("nginx to listen", || machine.within(|| TcpStream::connect(address)).ok());
    child
}

#[test]
fn a_trace_in_the_journal_shows_nginx_the_daemon_and_the_plugin() {
    let machine = Machine::boot_with(&["traced"]);
    let settings = "[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\naccess-log = \"journal\"\n";
    machine.put("etc/plugind/plugind.toml", settings);
    machine.start();
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let mut nginx = nginx(&machine, address, directory.path());
    let forged = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = machine.within(|| Connection::to(address));
    // What a client sends cannot add a field.
    for path in ["/traced/log?%0aTRACE_ID=x", "/traced/log"] {
        client.request("GET", path, &[forged]);
        assert_eq!(client.response().status(), 200);
        let line = format!("127.0.0.1 \"GET {path} HTTP/1.1\" 200 ");
        let proxy = eventually("the entry of nginx", || {
            let all = machine.journal(&["SYSLOG_IDENTIFIER=nginx"]);
            all.into_iter().find(|entry| entry.field("MESSAGE").starts_with(&line))
        });
        assert_eq!((proxy.field("PRIORITY"), proxy.field("STATUS")), ("6", "200"));
        let trace = format!("TRACE_ID={}", proxy.field("TRACE_ID"));
        assert!(!forged.contains(proxy.field("TRACE_ID")), "{proxy:?}");
        let served = machine.wait_for_entry(&[&trace, &message("REQUEST_SERVED")]);
        assert_eq!((served.field("TARGET"), served.field("CLIENT")), (path, "127.0.0.1"));
        machine.wait_for_entry(&[&trace, "MESSAGE=a line on stderr"]);
        let entries = machine.journal(&[&trace]);
        for text in ["an entry", "a line on stdout", "a line on stderr"] {
            let entry = entries.iter().find(|entry| entry.get("MESSAGE") == Some(text));
            let entry = entry.unwrap_or_else(|| panic!("{text} is not there: {entries:?}"));
            assert_eq!(entry.field("SYSLOG_IDENTIFIER"), "plugind/traced");
            assert_eq!(entry.field("REQUEST_ID"), served.field("REQUEST_ID"));
        }
        assert_eq!(entries.len(), 5, "{entries:?}");
    }
    drop(machine);
    nginx.wait().unwrap();
}
