//! A plugin that systemd-resolved asks by varlink: the names that it knows, and the records that it sends.

use crate::varlink_client::VarlinkClient;
use plugind_tests::{Daemon, Tree};
use serde_json::{Value, json};

const A: u16 = 1;
const AAAA: u16 = 28;
const MX: u16 = 15;

/// A client of the plugin `resolve-hook`.
struct Client(VarlinkClient);

fn start() -> (Daemon, Client) {
    let config =
        "[config]\n\"Printer.example\" = \"192.0.2.7, 2001:db8::7\"\nscanner = \"192.0.2.8\"\n";
    let tree = Tree::new().with_manifest("resolve_hook", config);
    let listen = format!("resolve-hook=unix:{}", tree.root().join("names").display());
    let daemon = Daemon::start_with(&tree, &["--listen", &listen]);
    let client = Client::of(&daemon);
    (daemon, client)
}

impl Client {
    fn of(daemon: &Daemon) -> Self {
        Self(VarlinkClient::to(&daemon.tree().root().join("names")))
    }

    fn send(&mut self, method: &str, more: bool, parameters: &Value) {
        let method = format!("io.systemd.Resolve.Hook.{method}");
        self.0.send(&json!({ "method": method, "more": more, "parameters": parameters }));
    }

    fn receive(&mut self) -> Value {
        self.0.receive()
    }

    /// The reply to a question for records of these types and names.
    fn resolve(&mut self, keys: &[(u16, &str)]) -> Value {
        let keys = keys.iter().map(|(kind, name)| json!({ "key": { "type": kind, "name": name } }));
        let question = keys.collect::<Vec<_>>();
        self.send("ResolveRecord", false, &json!({ "question": question }));
        self.receive()["parameters"].take()
    }
}

#[test]
fn the_addresses_of_a_name_are_resolved_as_records_of_dns() {
    let (_daemon, mut client) = start();
    let reply = client.resolve(&[(A, "printer.example"), (AAAA, "printer.example")]);
    assert_eq!(reply["rcode"], 0);
    let addresses = [&reply["answer"][0], &reply["answer"][1]].map(|it| &it["rr"]["address"]);
    assert_eq!(addresses[0], &json!([192, 0, 2, 7]));
    assert_eq!(addresses[1], &json!([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]));
    // 7 "printer" 7 "example" 0, type 1, class 1, no time to live, 4 bytes of address.
    let raw = "B3ByaW50ZXIHZXhhbXBsZQAAAQABAAAAAAAEwAACBw==";
    assert_eq!(reply["answer"][0]["raw"], raw);
    let reply = client.resolve(&[(A, "SCANNER.")]);
    assert_eq!(reply["answer"].as_array().unwrap().len(), 1, "{reply}");
}

#[test]
fn a_name_without_such_a_record_has_none_and_an_unknown_one_is_left_to_others() {
    let (_daemon, mut client) = start();
    for kind in [AAAA, MX] {
        assert_eq!(client.resolve(&[(kind, "scanner")]), json!({ "rcode": 0, "answer": [] }));
    }
    for name in ["example", "a.printer.example", "printer", "", "\u{e4}"] {
        assert_eq!(client.resolve(&[(A, name)]), json!({}), "{name}");
    }
}

#[test]
fn a_filter_has_the_names_and_lasts_until_the_plugin_is_replaced() {
    let (daemon, mut client) = start();
    client.send("QueryFilter", false, &json!({}));
    let names = json!(["printer.example", "scanner"]);
    assert_eq!(client.receive(), json!({ "parameters": { "filterDomains": names } }));

    let mut observer = Client::of(&daemon);
    observer.send("QueryFilter", true, &json!({}));
    let first = observer.receive();
    assert_eq!(
        (&first["continues"], &first["parameters"]["filterDomains"]),
        (&json!(true), &names)
    );
    let manifest = "[config]\nplotter = \"192.0.2.9\"\n[service]\ntimeout-stop-sec = \"100ms\"\n";
    daemon.tree().put("resolve-hook.toml", manifest);
    daemon.reload();
    // The end of the previous version is the end of its filter.
    assert_eq!(observer.0.rest(), b"");
    let mut observer = Client::of(&daemon);
    observer.send("QueryFilter", true, &json!({}));
    assert_eq!(observer.receive()["parameters"]["filterDomains"], json!(["plotter"]));
}

#[test]
fn an_invalid_name_or_address_is_a_mistake_of_its_plugin() {
    let long = format!("{} = \"192.0.2.1\"", "a".repeat(64));
    for (line, expected) in [
        ("\"a b\" = \"192.0.2.1\"", "letters, digits, - or _"),
        ("\"a..b\" = \"192.0.2.1\"", "letters, digits, - or _"),
        (&long, "letters, digits, - or _"),
        ("a = \"192.0.2\"", "a: an address must be one of IPv4 or IPv6; it is"),
    ] {
        let tree = Tree::new().with_manifest("resolve_hook", &format!("[config]\n{line}\n"));
        let listen = format!("resolve-hook=unix:{}", tree.root().join("names").display());
        let ended = plugind_tests::end_of(&tree, &["--listen", &listen]);
        assert_eq!(ended.status, 78, "{line}");
        let log = ended.log.all().join("\n");
        assert!(log.contains(expected), "{log}");
    }
}
