//! A plugin that systemd asks by varlink: the messages that it takes and sends.

use crate::{control, varlink_client::VarlinkClient};
use plugind_tests::{Daemon, Tree, WAIT_MAX};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

const CONFIG: &str =
    "[config]\nada = \"60001\"\ngrace = \"60002\"\n\"@navy\" = \"60100:grace,ada\"\n";
const NOT_FOUND: &str = "io.systemd.UserDatabase.NoRecordFound";

fn start() -> (Daemon, VarlinkClient) {
    let tree = Tree::new().with_manifest("userdb", CONFIG);
    let path = tree.root().join("userdb");
    let listen = format!("userdb=unix:{}", path.display());
    let daemon = Daemon::start_with(&tree, &["--listen", &listen]);
    (daemon, VarlinkClient::to(&path))
}

/// A call of a method of `io.systemd.UserDatabase`, with the name of the service among its parameters.
fn query(method: &str, mut parameters: Value) -> Value {
    parameters["service"] = json!("io.plugind.Users");
    json!({ "method": format!("io.systemd.UserDatabase.{method}"), "parameters": parameters })
}

fn with(mut call: Value, flag: &str) -> Value {
    call[flag] = json!(true);
    call
}

#[test]
fn a_user_and_a_group_are_found_by_number_and_by_name() {
    let (_daemon, mut client) = start();
    for parameters in [json!({ "userName": "ada" }), json!({ "uid": 60001 })] {
        let reply = client.call(&query("GetUserRecord", parameters));
        let record = &reply["parameters"]["record"];
        assert_eq!(
            (&record["userName"], &record["uid"]),
            (&json!("ada"), &json!(60001)),
            "{reply}"
        );
    }
    let reply = client.call(&query("GetGroupRecord", json!({ "groupName": "navy" })));
    assert_eq!(reply["parameters"]["record"]["members"], json!(["grace", "ada"]));
    let reply = client.call(&query("GetGroupRecord", json!({ "gid": 60002 })));
    assert_eq!(reply["parameters"]["record"]["groupName"], "grace", "each user has a group");

    let unknown = query("GetUserRecord", json!({ "userName": "root" }));
    assert_eq!(client.error(&unknown), NOT_FOUND);
    let both = query("GetUserRecord", json!({ "userName": "ada", "uid": 60002 }));
    assert_eq!(client.error(&both), "io.systemd.UserDatabase.ConflictingRecordFound");
}

#[test]
fn several_replies_are_sent_to_a_client_that_asks_for_more_and_to_no_other() {
    let (_daemon, mut client) = start();
    let all = query("GetUserRecord", json!({}));
    assert_eq!(client.error(&all), "org.varlink.service.ExpectedMore");
    let first = client.call(&with(all, "more"));
    let last = client.receive();
    assert_eq!((&first["continues"], &last["continues"]), (&json!(true), &Value::Null));
    let names = [first, last].map(|reply| reply["parameters"]["record"]["userName"].clone());
    assert_eq!(names, ["ada", "grace"]);
    let groups = with(query("GetMemberships", json!({ "userName": "ada" })), "more");
    let reply = client.call(&groups);
    assert_eq!(reply["parameters"], json!({ "userName": "ada", "groupName": "navy" }));
}

#[test]
fn a_call_that_wants_no_reply_gets_none_and_calls_may_be_sent_at_once() {
    let (_daemon, mut client) = start();
    let ada = query("GetUserRecord", json!({ "userName": "ada" }));
    let nobody = query("GetUserRecord", json!({ "userName": "nobody" }));
    client.send(&with(ada.clone(), "oneway"));
    client.send(&with(nobody.clone(), "oneway"));
    client.send(&nobody);
    client.send(&ada);
    assert_eq!(client.receive()["error"], NOT_FOUND);
    assert_eq!(client.receive()["parameters"]["record"]["userName"], "ada");
}

#[test]
fn a_service_describes_its_interfaces_and_names_what_it_does_not_know() {
    let (_daemon, mut client) = start();
    let info = client.call(&json!({ "method": "org.varlink.service.GetInfo" }));
    let interfaces = info["parameters"]["interfaces"].as_array().unwrap().clone();
    assert_eq!(interfaces, ["io.systemd.UserDatabase", "org.varlink.service"]);
    for interface in interfaces {
        let method = "org.varlink.service.GetInterfaceDescription";
        let parameters = json!({ "interface": interface });
        let reply = client.call(&json!({ "method": method, "parameters": parameters }));
        let description = reply["parameters"]["description"].as_str().unwrap();
        let name = interface.as_str().unwrap();
        assert!(description.contains(&format!("\ninterface {name}\n")), "{description}");
    }
    for (call, error) in [
        (query("Unknown", json!({})), "org.varlink.service.MethodNotFound"),
        (json!({ "method": "a.b.C" }), "org.varlink.service.InterfaceNotFound"),
        (json!({ "method": "unknown" }), "org.varlink.service.InterfaceNotFound"),
        (query("GetUserRecord", json!({ "uid": "60001" })), "org.varlink.service.InvalidParameter"),
        (
            with(query("GetUserRecord", json!({})), "upgrade"),
            "org.varlink.service.InvalidParameter",
        ),
        (
            json!({
                "method": "io.systemd.UserDatabase.GetUserRecord",
                "parameters": { "service": "another" },
            }),
            "io.systemd.UserDatabase.BadService",
        ),
    ] {
        assert_eq!(client.error(&call), error, "{call}");
    }
}

#[test]
fn a_message_that_is_no_call_or_has_no_end_costs_its_connection_alone() {
    let (daemon, mut client) = start();
    let path = daemon.tree().root().join("userdb");
    // It may have been disconnected before it has sent all of it.
    let send = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(bytes).ok();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        assert_eq!(rest, b"");
    };
    send(b"{\"method\":1}\0");
    daemon.log.wait_for(&["a message of a client must be a call", "connection failed"]);
    send(&[b'x'; 200 << 10]);
    daemon.log.wait_for(&["a call must have at most 65536 bytes", "connection failed"]);
    let nobody = query("GetUserRecord", json!({ "userName": "nobody" }));
    assert_eq!(client.error(&nobody), NOT_FOUND);
}

#[test]
fn users_are_in_the_state_as_well_and_a_restart_of_the_plugin_reads_it_again() {
    let config = "[config]\nada = \"60001\"\n[grants]\nstate = true\n";
    let tree = Tree::new().with_manifest("userdb", config);
    let path = tree.root().join("userdb");
    let control = control::socket(&tree);
    std::fs::create_dir_all(control.parent().unwrap()).unwrap();
    let listen = format!("userdb=unix:{}", path.display());
    let control = format!("control={}", control.display());
    let daemon = Daemon::start_with(&tree, &["--listen", &listen, "--listen", &control]);
    let uid = |name: &str| {
        let mut client = VarlinkClient::to(&path);
        let reply = client.call(&query("GetUserRecord", json!({ "userName": name })));
        reply["parameters"]["record"]["uid"].clone()
    };
    assert_eq!((uid("ada"), uid("eve")), (json!(60001), Value::Null));
    let users = tree.root().join("var/lib/plugind/userdb/users");
    std::fs::write(&users, "# by another program\n\neve = 60003::Eve\n@navy = 60100:eve\n")
        .unwrap();
    assert_eq!(control::run(&tree, &["restart", "userdb"]).status, Some(0));
    assert_eq!((uid("ada"), uid("eve")), (json!(60001), json!(60003)));

    std::fs::write(&users, "ada = 60004\n").unwrap();
    assert_ne!(control::run(&tree, &["restart", "userdb"]).status, Some(0));
    daemon.log.wait_for(&["ada must not be both in [config] and in the state"]);
}

#[test]
fn a_user_with_a_number_of_the_system_is_a_mistake_of_its_plugin() {
    for (line, expected) in [
        ("ada = \"0\"", "ada: a UID or GID must be a number from 1000"),
        ("Ada = \"60001\"", "and begin with a letter or _; it is"),
        ("ada = \"60001\"\neve = \"60001\"", "ada and eve must not have the same number 60001"),
    ] {
        let tree = Tree::new().with_manifest("userdb", &format!("[config]\n{line}\n"));
        let listen = format!("userdb=unix:{}", tree.root().join("userdb").display());
        let ended = plugind_tests::end_of(&tree, &["--listen", &listen]);
        assert_eq!(ended.status, 78, "{line}");
        let log = ended.log.all().join("\n");
        assert!(log.contains(expected), "{log}");
    }
}
