//! Servers that are reached by TLS: NATS, and Redis, whose protocol Valkey speaks.

use crate::{
    authority::{certify, found_authority},
    messaging::{PLAIN, manifest},
    metrics::Measured,
    stores::{GRANTED, ask},
};
use plugind_tests::{Background, Daemon, Tree, end_of, eventually, tool};
use std::{fs, net::SocketAddr, path::Path, process::Command};
use tempfile::TempDir;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nats,
    Valkey,
}

/// The names in the certificate of a server: its own address, or another name.
const OWN: &str = "IP:127.0.0.1";
const OTHER: &str = "DNS:other.example";

/// A server that has a certificate, and is stopped and started again at its address.
struct TlsServer {
    /// It ends before its files are removed.
    running: Option<Background>,
    kind: Kind,
    directory: TempDir,
    address: SocketAddr,
}

impl TlsServer {
    /// Makes the authorities `ca` and `other`. The one that `authority` names signs the certificate for `names`.
    fn start(kind: Kind, authority: &str, names: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        found_authority(directory.path(), "ca");
        found_authority(directory.path(), "other");
        certify(directory.path(), authority, "server", names);
        let running = Background::start(|address| command(kind, directory.path(), address));
        Self { kind, address: running.address, directory, running: Some(running) }
    }

    /// Ends, and starts again with another certificate.
    fn restart_with(&mut self, authority: &str, names: &str) {
        self.running = None;
        certify(self.directory.path(), authority, "server", names);
        let start = |address| command(self.kind, self.directory.path(), address);
        self.running = Some(Background::start_at(self.address, start));
    }

    fn url(&self) -> String {
        let scheme = if self.kind == Kind::Nats { "tls" } else { "valkeys" };
        format!("{scheme}://{}", self.address)
    }

    fn ca(&self) -> String {
        self.directory.path().join("ca.crt").display().to_string()
    }

    fn tree(&self) -> Tree {
        let backend = if self.kind == Kind::Nats { "nats" } else { "valkey" };
        let (url, ca) = (self.url(), self.ca());
        let settings =
            format!("[keyvalue]\nbackend = \"{backend}\"\nurl = \"{url}\"\nca = \"{ca}\"\n");
        Tree::new().with_settings(&settings).with_manifest("stores", GRANTED)
    }
}

fn command(kind: Kind, directory: &Path, address: SocketAddr) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let file = |name: &str| directory.join(name).display().to_string();
    let (certificate, key) = (file("server.crt"), file("server.key"));
    match kind {
        Kind::Nats => {
            let tls = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}");
            let store = format!("jetstream {{ store_dir: \"{}\" }}", directory.display());
            fs::write(directory.join("nats.conf"), format!("{tls}\n{store}\n")).unwrap();
            let mut command = tool("nats-server");
            command.args(["--addr", &host, "--port", &port, "--config", &file("nats.conf")]);
            command.args(["--log", &file("log")]);
            command
        }
        Kind::Valkey => {
            let mut command = tool("redis-server");
            command.args(["--bind", &host, "--port", "0", "--tls-port", &port]);
            command.args(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
            command.args(["--tls-ca-cert-file", &file("ca.crt"), "--tls-auth-clients", "no"]);
            command.args(["--appendonly", "yes", "--dir", &file("")]);
            command.args(["--logfile", &file("log")]);
            command
        }
    }
}

fn wait_until_works(daemon: &Daemon, act: &str, answer: &str) {
    eventually("the store to work", || {
        (ask(daemon, &format!("/stores/{act}")) == answer).then_some(())
    });
}

fn keep_values(kind: Kind) {
    let mut server = TlsServer::start(kind, "ca", OWN);
    let daemon = Daemon::start(&server.tree());
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    assert_eq!(ask(&daemon, "/stores/add/n/2"), "2");
    assert_eq!(daemon.log.count(&["cannot reach server"]), 0);
    // A certificate that was renewed is accepted when the connection is made again.
    server.restart_with("ca", OWN);
    wait_until_works(&daemon, "get-many/key/n", "value 2");
}

#[test]
fn values_are_kept_in_nats_by_tls() {
    keep_values(Kind::Nats);
}

#[test]
fn values_are_kept_in_valkey_by_tls() {
    keep_values(Kind::Valkey);
}

fn refuse(kind: Kind) {
    let by_other = ("other", OWN, "UnknownIssuer; ca in plugind.toml must have the authority");
    let for_other = ("ca", OTHER, "; url in plugind.toml must have a name or an address");
    for (authority, names, why) in [by_other, for_other] {
        let mut server = TlsServer::start(kind, authority, names);
        let daemon = Daemon::start(&server.tree());
        let error = ask(&daemon, "/stores/get/key");
        let url = server.url();
        assert!(error.contains(&format!("{url} cannot be reached: ")), "{error}");
        assert!(error.contains("invalid peer certificate: ") && error.contains(why), "{error}");
        daemon.log.wait_for(&["warning plugind: cannot reach server", &url, why]);
        server.restart_with("ca", OWN);
        wait_until_works(&daemon, "get/key", "none");
        assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
        // The certificate of a server that was reached before becomes invalid.
        server.restart_with(authority, names);
        eventually("the store to fail", || {
            let error = ask(&daemon, "/stores/get/key");
            error.contains(why).then_some(())
        });
        server.restart_with("ca", OWN);
        wait_until_works(&daemon, "get/key", "value");
    }
}

#[test]
fn a_certificate_that_does_not_fit_keeps_nats_from_being_used() {
    refuse(Kind::Nats);
}

#[test]
fn a_certificate_that_does_not_fit_keeps_valkey_from_being_used() {
    refuse(Kind::Valkey);
}

#[test]
fn messages_are_received_and_sent_by_tls() {
    let server = TlsServer::start(Kind::Nats, "ca", OWN);
    let settings = format!("[messaging]\nurl = \"{}\"\nca = \"{}\"\n", server.url(), server.ca());
    let tree = Tree::new().with_settings(&settings);
    let tree = tree
        .with_manifest("takes_messages", &manifest(PLAIN, ""))
        .with_manifest("sends_messages", "[grants]\npublish = [\"orders.*\"]\n");
    let measured = Measured::start(&tree, &[]);
    measured.daemon.log.wait_for(&["info    plugind: subscribed", "subject=\"orders.*\""]);
    let sent = measured.daemon.get("/sends-messages/send/orders.new/one");
    assert_eq!(sent.status_and_text(), (200, "sent"));
    let name = "plugind_plugin_messages_delivered_total{plugin=\"takes-messages\"}";
    measured.wait_for(name, 1.0);
    assert_eq!(measured.daemon.log.count(&["cannot reach server"]), 0);
}

#[test]
fn a_server_by_tls_needs_an_authority_that_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.crt");
    fs::write(&other, "no certificate\n").unwrap();
    let named = format!("ca = \"{}\"\n", other.display());
    for (ca, why) in [
        ("", "keyvalue.ca is missing; TLS needs the authorities"),
        (
            "ca = \"/nowhere/ca.crt\"\n",
            "keyvalue.ca: cannot read /nowhere/ca.crt: it does not exist",
        ),
        (named.as_str(), "other.crt must have certificates in PEM format"),
    ] {
        for (backend, url) in [("valkey", "valkeys://a"), ("nats", "tls://a")] {
            let settings = format!("[keyvalue]\nbackend = \"{backend}\"\nurl = \"{url}\"\n{ca}");
            let ended = end_of(&Tree::new().with_settings(&settings), &[]);
            assert_eq!(ended.status, 78, "{why}");
            ended.log.wait_for(&[why]);
        }
    }
}
