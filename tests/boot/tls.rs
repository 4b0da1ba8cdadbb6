//! HTTPS with a certificate from credentials of the unit, beside sockets of every other kind.

use crate::{
    HELLO, installed,
    streams::{at_path, example, is_time, over_tcp, time_at_path, time_by_udp},
};
use plugind_tests::{Machine, run, tool};
use std::{fs, path::Path};

const PORT: u16 = 8443;

const UNIT: &str =
    "[Socket]\nListenStream=127.0.0.1:8443\nFileDescriptorName=https\nService=plugind.service\n";
const DROP_IN: &str = "[Service]\nLoadCredential=site.crt:/etc/site/site.crt\n\
    LoadCredential=site.key:/etc/site/site.key\n";
const SETTINGS: &str = "[sockets.https]\nprotocol = \"http\"\n\
    [[sockets.https.tls]]\ncertificate = \"site.crt\"\nkey = \"site.key\"\n";

/// Gives the machine another certificate for `site.example`, which `directory` has as well.
fn certify(machine: &Machine, directory: &Path) {
    let path = |file: &str| directory.join(file).to_str().unwrap().to_owned();
    let said = run(tool("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args("-subj /CN=site -addext subjectAltName=DNS:site.example".split(' '))
        .args(["-addext", "basicConstraints=critical,CA:false"])
        .args(["-keyout", &path("site.key"), "-out", &path("site.crt")]));
    for file in ["site.key", "site.crt"] {
        let contents = fs::read(path(file)).unwrap_or_else(|error| panic!("{error}: {said}"));
        machine.put(&format!("/etc/site/{file}"), contents);
    }
    machine.succeed(&["chmod", "-R", "go=", "/etc/site"]);
}

/// The answer to a client that trusts only the certificate in `directory`.
fn get(machine: &Machine, directory: &Path) -> String {
    get_often(machine, directory, &[], 1)
}

/// The answers to such a client with these options of curl, which sends so many requests on one connection.
pub(super) fn get_often(
    machine: &Machine,
    directory: &Path,
    options: &[&str],
    requests: usize,
) -> String {
    let authority = directory.join("site.crt");
    let resolve = format!("site.example:{PORT}:127.0.0.1");
    let url = format!("https://site.example:{PORT}/hello");
    machine.within(|| {
        run(tool("curl")
            .args(["-sS", "--fail", "--max-time", "30", "--resolve", &resolve, "--cacert"])
            .arg(authority)
            .args(options)
            .args(vec![url; requests]))
    })
}

/// A machine with these plugins, and a socket with TLS whose certificate is also in `directory`.
pub(super) fn boot(plugins: &[&str], directory: &Path) -> Machine {
    let machine = Machine::boot_with(plugins);
    machine.put("/etc/systemd/system/https.socket", UNIT);
    machine.put("/etc/plugind/plugind.toml", SETTINGS);
    certify(&machine, directory);
    machine.put_drop_in("plugind.service", DROP_IN);
    machine
}

#[test]
fn https_has_the_certificate_of_its_credentials_and_takes_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let machine = boot(&["hello"], directory.path());
    machine.succeed(&["systemctl", "start", "https.socket"]);
    machine.start();
    assert_eq!(get(&machine, directory.path()), HELLO);

    certify(&machine, directory.path());
    let refused = get(&machine, directory.path());
    assert!(refused.contains("certificate"), "{refused}");
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    // Older versions of systemd keep the credentials of the start.
    if installed::version(&machine) < 260 {
        assert_eq!(get(&machine, directory.path()), refused);
        machine.succeed(&["systemctl", "restart", "plugind.service"]);
    }
    assert_eq!(get(&machine, directory.path()), HELLO);
}

#[test]
fn sockets_of_every_kind_and_protocol_are_served_whatever_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let machine = boot(&["echo", "clock", "hello"], directory.path());
    for plugin in ["echo", "clock"] {
        example(&machine, plugin);
    }
    machine.reload_units();
    let http = "plugind-http.socket";
    for sockets in [
        ["clock.socket", "https.socket", "echo.socket", http],
        [http, "echo.socket", "clock.socket", "https.socket"],
    ] {
        for socket in sockets {
            machine.succeed(&["systemctl", "start", socket]);
        }
        machine.start();
        assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO), "{sockets:?}");
        assert_eq!(get(&machine, directory.path()), HELLO, "{sockets:?}");
        assert_eq!(over_tcp(&machine, 7007), "hello\n", "{sockets:?}");
        assert_eq!(at_path(&machine, "/run/plugind-echo/socket"), "hello\n", "{sockets:?}");
        assert!(is_time(&time_by_udp(&machine)), "{sockets:?}");
        assert!(is_time(&time_at_path(&machine)), "{sockets:?}");
        machine.succeed(&["systemctl", "stop", "plugind.service", http]);
        machine.succeed(&["systemctl", "stop", "clock.socket", "https.socket", "echo.socket"]);
    }
}

#[test]
fn a_socket_unit_that_is_added_later_is_served_after_a_restart() {
    let machine = Machine::boot_with(&["echo", "hello"]);
    machine.put_manifest("echo", "required = false\n[[serve]]\nsocket = \"echo\"\n");
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    example(&machine, "echo");
    machine.reload_units();
    machine.succeed(&["systemctl", "enable", "echo.socket"]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(over_tcp(&machine, 7007), "hello\n");
    assert_eq!(machine.get("/hello").status(), 200);
}
