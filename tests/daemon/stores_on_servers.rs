//! Key-value stores on real servers: NATS with JetStream, and Redis, whose protocol Valkey speaks.

use crate::{
    control,
    metrics::Measured,
    nats::NatsClient,
    stores::{GRANTED, act_on_values, ask},
};
use plugind_tests::{Background, Daemon, Signal, Tree, end_of, eventually, tool};
use std::{fs, net::SocketAddr, path::Path, process::Command, thread};
use tempfile::TempDir;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Nats,
    Valkey,
}

/// A server with files of its own, which is stopped and started again at its address.
pub(crate) struct Server {
    /// It ends before its files are removed.
    running: Option<Background>,
    kind: Kind,
    directory: TempDir,
    address: SocketAddr,
    password: Option<&'static str>,
}

fn command(kind: Kind, directory: &Path, password: Option<&str>, address: SocketAddr) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut command;
    match kind {
        Kind::Nats => {
            command = tool("nats-server");
            command.args(["--addr", &host, "--port", &port, "--jetstream", "--store_dir"]);
            command.arg(directory).args(["--log"]).arg(directory.join("log"));
            if let Some(password) = password {
                command.args(["--user", "plugind", "--pass", password]);
            }
        }
        Kind::Valkey => {
            command = tool("redis-server");
            command.args(["--bind", &host, "--port", &port, "--appendonly", "yes"]);
            command.args(["--save", "", "--dir"]);
            command.arg(directory).args(["--logfile"]).arg(directory.join("log"));
            if let Some(password) = password {
                command.args(["--requirepass", password]);
            }
        }
    }
    command
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, None)
    }

    fn start_with(kind: Kind, password: Option<&'static str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running =
            Background::start(|address| command(kind, directory.path(), password, address));
        let address = running.address;
        Self { kind, directory, address, password, running: Some(running) }
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) fn start_again(&mut self) {
        let start = |address| command(self.kind, self.directory.path(), self.password, address);
        self.running = Some(Background::start_at(self.address, start));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.kind == Kind::Nats { "nats" } else { "valkey" };
        format!("{scheme}://{}", self.address)
    }

    fn settings(&self) -> String {
        let backend = if self.kind == Kind::Nats { "nats" } else { "valkey" };
        format!("[keyvalue]\nbackend = \"{backend}\"\nurl = \"{}\"\n", self.url())
    }

    /// A tree whose stores are on this server.
    pub(crate) fn tree(&self) -> Tree {
        Tree::new().with_settings(&self.settings())
    }
}

fn keep_values(kind: Kind) {
    let server = Server::start(kind);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let mut daemon = Daemon::start(&tree);
    act_on_values(&daemon);
    assert_eq!(daemon.stop(), 0);
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/stores/get-many/kept/visits"), "value -2");
    assert_eq!(ask(&daemon, "/stores/set-many/key/2500"), "done");
    assert_eq!(ask(&daemon, "/stores/count"), "2504");
}

#[test]
fn values_in_nats_outlast_the_daemon() {
    keep_values(Kind::Nats);
}

#[test]
fn values_in_valkey_outlast_the_daemon() {
    keep_values(Kind::Valkey);
}

#[test]
fn a_key_that_another_client_of_nats_deleted_can_be_written_again() {
    let server = Server::start(Kind::Nats);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let daemon = Daemon::start(&tree);
    let mut other = NatsClient::connect(server.address, "");
    for (key, act, answer) in
        [("visits", "add/visits/2", "2"), ("swapped", "swap/swapped/x", "swapped")]
    {
        assert_eq!(ask(&daemon, &format!("/stores/set/{key}/7")), "done");
        let subject = format!("$KV.plugind-plugin-stores.{key}");
        other.publish_with(&subject, "KV-Operation: DEL\r\n", "");
        other.flush();
        eventually("the key to be deleted", || {
            (ask(&daemon, &format!("/stores/get/{key}")) == "none").then_some(())
        });
        assert_eq!(ask(&daemon, &format!("/stores/exists/{key}")), "false");
        assert_eq!(ask(&daemon, &format!("/stores/{act}")), answer);
    }
    assert_eq!(ask(&daemon, "/stores/get-many/visits/swapped"), "2 x");
}

#[test]
fn cleaning_says_that_keys_on_a_server_stay() {
    let server = Server::start(Kind::Valkey);
    let tree = server.tree().with_manifest("stores", GRANTED);
    // The file of a store from before the stores moved to the server.
    let files = tree.root().join("var/lib/plugind/.keyvalue");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("plugin-stores.redb"), "old").unwrap();
    let daemon = control::start(&tree);
    assert_eq!(ask(&daemon, "/stores/set/a/1"), "done");
    let described = control::run(&tree, &["status", "stores", "--json"]).stdout;
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["kept"]["keyValue"], serde_json::Value::Null);
    control::run(&tree, &["stop", "stores"]);
    let cleaned = control::run(&tree, &["clean", "stores", "--what=state"]);
    assert_eq!(cleaned.stdout, "stores: removed state; keys on the valkey server stay\n");
    assert!(!files.join("plugin-stores.redb").exists());
    control::run(&tree, &["start", "stores"]);
    assert_eq!(ask(&daemon, "/stores/get/a"), "1");
}

#[test]
fn the_size_of_a_state_leaves_out_a_file_from_before_the_server() {
    let server = Server::start(Kind::Valkey);
    let tree = server.tree().with_manifest("stores", GRANTED);
    let state = tree.root().join("var/lib/plugind");
    for (directory, file) in [(".keyvalue", "plugin-stores.redb"), ("stores", "note")] {
        fs::create_dir_all(state.join(directory)).unwrap();
        fs::write(state.join(directory).join(file), [0; 1234]).unwrap();
    }
    let measured = Measured::start(&tree, &[]);
    measured.wait_for("plugind_plugin_state_size_bytes{plugin=\"stores\"}", 1234.0);
}

fn see_own_stores(kind: Kind) {
    let server = Server::start(kind);
    let shares = "[grants]\nkeyvalue = { shared = [\"sessions\"] }\n";
    let tree = server
        .tree()
        .with_named("a", "stores", shares)
        .with_named("b", "stores", shares)
        .with_named("c", "stores", GRANTED);
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/a/set/key/own"), "done");
    assert_eq!(ask(&daemon, "/a/in/sessions/set/key/shared"), "done");
    assert_eq!(ask(&daemon, "/b/get/key"), "none");
    assert_eq!(ask(&daemon, "/b/in/sessions/get/key"), "shared");
    assert_eq!(ask(&daemon, "/c/keys"), "");
    for store in ["sessions", "a", "plugin-a", "plugind-plugin-a", "plugind:plugin:a"] {
        assert_eq!(ask(&daemon, &format!("/c/in/{store}/get/key")), "error: access denied");
    }
    // A key has no meaning beyond its store.
    for key in ["..%2Fa", "$KV.plugind-plugin-a.key", "%3E", "*", "plugind:plugin:a"] {
        assert_eq!(ask(&daemon, &format!("/c/get/{key}")), "none", "{key}");
    }
}

#[test]
fn a_plugin_sees_its_own_store_in_nats_and_those_that_it_shares() {
    see_own_stores(Kind::Nats);
}

#[test]
fn a_plugin_sees_its_own_store_in_valkey_and_those_that_it_shares() {
    see_own_stores(Kind::Valkey);
}

fn keep_to_the_quota(kind: Kind) {
    let server = Server::start(kind);
    let quota = "[grants]\nkeyvalue = { quota = \"1M\" }\n";
    let tree = server.tree().with_manifest("stores", quota);
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/stores/fill/a/600000"), "done");
    let full = "error: the store must not exceed 1M; delete keys, or raise quota";
    let answer = ask(&daemon, "/stores/fill/b/600000");
    assert!(answer.starts_with(full), "{answer}");
    assert_eq!(ask(&daemon, "/stores/exists/b"), "false");
    if kind == Kind::Valkey {
        // NATS needs room for both for a moment.
        assert_eq!(
            ask(&daemon, "/stores/fill/a/900000"),
            "done",
            "it takes the place of the first"
        );
    }
    assert_eq!(ask(&daemon, "/stores/delete/a"), "done");
    assert_eq!(ask(&daemon, "/stores/fill/b/600000"), "done");
    let many = ask(&daemon, "/stores/set-many/n/20000");
    assert!(many.starts_with(full), "{many}");
    // A larger quota takes effect with a reload.
    tree.put("stores.toml", GRANTED);
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(ask(&daemon, "/stores/fill/a/900000"), "done");
    let key = "k".repeat(1025);
    let long = ask(&daemon, &format!("/stores/set/{key}/x"));
    assert_eq!(long, "error: a key must have 1 to 1024 bytes, not 1025");
    let longest = format!("/stores/set/{}/x", "*".repeat(1024));
    assert_eq!(ask(&daemon, &longest), "done");
    let long = ask(&daemon, "/stores/fill/b/1048577");
    assert_eq!(long, "error: a value must have at most 1048576 bytes, not 1048577");
    if kind == Kind::Nats {
        let long = ask(&daemon, "/stores/fill/b/1048576");
        let message = "error: a value must have at most 1048320 bytes on this server";
        assert!(long.starts_with(message), "{long}");
    }
}

#[test]
fn a_bucket_of_nats_takes_no_more_than_the_quota() {
    keep_to_the_quota(Kind::Nats);
}

#[test]
fn a_store_in_valkey_takes_no_more_than_the_quota() {
    keep_to_the_quota(Kind::Valkey);
}

fn count_together(kind: Kind) {
    let server = Server::start(kind);
    let tree = || server.tree().with_manifest("stores", GRANTED);
    let daemons = [Daemon::start(&tree()), Daemon::start(&tree())];
    thread::scope(|scope| {
        for daemon in &daemons {
            for act in ["add/sum/1", "cas-add/swapped"] {
                scope.spawn(move || {
                    let mut client = daemon.connect();
                    for _ in 0..50 {
                        let answer = client.get(&format!("/stores/{act}"));
                        assert!(answer.text().parse::<u64>().is_ok(), "{}", answer.text());
                    }
                });
            }
        }
    });
    for daemon in &daemons {
        assert_eq!(ask(daemon, "/stores/get-many/sum/swapped"), "100 100");
    }
}

#[test]
fn two_daemons_lose_no_increment_and_no_swap_in_nats() {
    count_together(Kind::Nats);
}

#[test]
fn two_daemons_lose_no_increment_and_no_swap_in_valkey() {
    count_together(Kind::Valkey);
}

fn log_in(kind: Kind) {
    let server = Server::start_with(kind, Some("right-secret"));
    let settings = format!("{}credential = \"login\"\n", server.settings());
    let tree = Tree::new().with_settings(&settings).with_manifest("stores", GRANTED);
    let missing = end_of(&tree, &[]);
    assert_eq!(missing.status, 78);
    let line = missing.log.wait_for(&["startup failed"]);
    assert!(line.contains("plugind.toml:4:14: keyvalue.credential: "), "{line}");
    assert!(line.contains("LoadCredential=login:PATH"), "{line}");

    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    let user = if kind == Kind::Nats { "plugind" } else { "default" };
    fs::write(credentials.join("login"), format!("{user}:wrong-secret\n")).unwrap();
    let mut daemon = Daemon::start(&tree);
    let error = ask(&daemon, "/stores/get/key");
    assert!(error.contains(" cannot be reached: "), "{error}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["secret"]), 0);

    fs::write(credentials.join("login"), format!("{user}:right-secret\n")).unwrap();
    let daemon = Daemon::start(&tree);
    assert_eq!(ask(&daemon, "/stores/set/key/value"), "done");
    assert_eq!(ask(&daemon, "/stores/get/key"), "value");
}

#[test]
fn a_daemon_logs_in_to_nats_with_a_credential() {
    log_in(Kind::Nats);
}

#[test]
fn a_daemon_logs_in_to_valkey_with_a_credential() {
    log_in(Kind::Valkey);
}
