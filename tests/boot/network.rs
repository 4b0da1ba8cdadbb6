//! The grants of plugins, compared with the unit: connections, directories, credentials.

use plugind_tests::{Machine, another};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};

/// The answer that `fetches` receives, and `dials` as well.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
/// Where the example lies, and where its first lines say that it is to be put.
const EXAMPLE: &str = "/usr/share/doc/plugind/examples/plugind-network.conf";
const DROP_IN: &str = "/etc/systemd/system/plugind.service.d/network.conf";

/// A server in the machine that answers each client: over HTTP after a request, otherwise at once.
fn server(machine: &Machine, is_http: bool) -> SocketAddr {
    let listener = machine.within(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            if is_http {
                let lines = BufReader::new(&stream).lines();
                let _head: Vec<_> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            }
            let says = if is_http { ANSWER } else { "hello" };
            // The client may have gone.
            (&stream).write_all(says.as_bytes()).ok();
        }
    });
    address
}

/// A server of DNS in the machine that says of every name that it is 127.0.0.1, and nothing else of it.
fn name_server(machine: &Machine) {
    let socket = machine.within(|| UdpSocket::bind("127.0.0.1:53").unwrap());
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            // Behind the head of 12 bytes come labels up to an empty one, then type and class, of two bytes each.
            let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_v4 = query[end - 4..end - 2] == [0, 1];
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
            answer.extend(&query[12..end]);
            if is_v4 {
                // The name of the question, type A of class IN, for a minute, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// A machine with plugins that were granted connections to servers in it, and what to ask these plugins.
fn granted() -> (Machine, Vec<String>) {
    let machine = Machine::boot_with(&["dials", "fetches"]);
    let (tcp, http) = (server(&machine, false), server(&machine, true));
    name_server(&machine);
    machine.put("etc/hosts", "127.0.0.1 listed.example\n");
    machine.put("etc/nsswitch.conf", "hosts: files dns\n");
    machine.put("etc/resolv.conf", "nameserver 127.0.0.1\n");
    let endpoints = |address: SocketAddr| {
        let port = address.port();
        [address.to_string(), format!("listed.example:{port}"), format!("served.example:{port}")]
    };
    let manifest = |key: &str, endpoints: &[String]| format!("[grants]\n{key} = {endpoints:?}\n");
    let (dialed, fetched) = (endpoints(tcp), endpoints(http));
    machine.put_manifest("dials", &manifest("tcp-connect", &dialed));
    machine.put_manifest("fetches", &manifest("outgoing-http", &fetched));
    let versions = |plugin: &'static str, to: &[String]| {
        let to = to.to_vec();
        ["02", "03"].into_iter().flat_map(move |version| {
            let scheme = if plugin == "fetches" { "http/" } else { "" };
            let path = move |to: &String| format!("/{plugin}/{version}/{scheme}{to}");
            to.iter().map(path).collect::<Vec<_>>()
        })
    };
    let paths = versions("dials", &dialed).chain(versions("fetches", &fetched)).collect();
    (machine, paths)
}

#[test]
fn a_network_grant_fails_under_the_shipped_unit_and_works_with_the_drop_in() {
    let (machine, paths) = granted();
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    let failed = machine.wait_for_entry(&[&super::message("PLUGIN_FAILED"), "PLUGIN=dials"]);
    for part in ["127.0.0.1:", "RestrictAddressFamilies=", "AF_INET", "plugind-network.conf"] {
        assert!(failed.field("ERROR").contains(part), "{part}: {failed:?}");
    }
    machine.succeed(&["install", "-D", "-m", "0644", EXAMPLE, DROP_IN]);
    machine.reload_units();
    machine.succeed(&["systemctl", "reset-failed"]);
    machine.start();
    for path in paths {
        assert_eq!(machine.get(&path).status_and_text(), (200, "hello"), "{path}");
    }
    // It listens to nobody, as before.
    assert_eq!(machine.get("/dials/listen").status_and_text(), (200, "error: PermissionDenied"));
}

#[test]
fn names_that_no_server_resolves_keep_no_other_plugin_waiting() {
    let machine = Machine::boot_with(&["dials", "fetches", "hello"]);
    // A name server that receives all questions and answers none.
    let _silent = machine.within(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap());
    machine.put("etc/nsswitch.conf", "hosts: dns\n");
    machine.put("etc/resolv.conf", "nameserver 127.0.0.1\n");
    for (plugin, key) in [("dials", "tcp-connect"), ("fetches", "outgoing-http")] {
        let manifest = format!(
            "[limits]\nrequest-timeout = \"5s\"\n[grants]\n{key} = [\"silent.example:80\"]\n"
        );
        machine.put_manifest(plugin, &manifest);
    }
    machine.succeed(&["install", "-D", "-m", "0644", EXAMPLE, DROP_IN]);
    machine.reload_units();
    machine.start();
    let paths = ["/dials/02/", "/dials/03/", "/fetches/02/http/", "/fetches/03/http/"];
    let mut clients: Vec<_> = (0..600)
        .map(|nth| {
            let mut client = machine.connect();
            client.request("GET", &format!("{}silent.example:80", paths[nth % 4]), &[]);
            client
        })
        .collect();
    for _ in 0..3 {
        machine.put_component("hello", another("hello"));
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        assert_eq!(machine.get("/hello").status(), 200);
    }
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.head().status).collect();
    assert!(statuses.contains(&504), "some were looked up meanwhile: {statuses:?}");
}

#[test]
fn addresses_that_the_drop_in_does_not_allow_are_not_reached() {
    let (machine, _) = granted();
    let port = server(&machine, true).port();
    let hosts = ["127.0.0.1", "127.0.0.2", "10.9.9.9"].map(|host| format!("{host}:{port}"));
    let manifest =
        format!("[limits]\nrequest-timeout = \"1s\"\n[grants]\noutgoing-http = {hosts:?}\n");
    machine.put_manifest("fetches", &manifest);
    // As its comment says: without the line that allows everything, and with one that allows an address.
    let example = machine.succeed(&["cat", EXAMPLE]);
    assert!(example.contains("\nIPAddressDeny=\n"), "{example}");
    let narrow = example.replace("\nIPAddressDeny=\n", "\nIPAddressAllow=127.0.0.1\n");
    machine.put(DROP_IN, &narrow);
    machine.reload_units();
    machine.start();
    for version in ["02", "03"] {
        let ask = |to: &str| machine.get(&format!("/fetches/{version}/http/{to}"));
        assert_eq!(ask(&hosts[0]).status_and_text(), (200, "hello"), "{version}");
        assert_eq!(ask(&hosts[1]).status(), 504, "{version}");
        // The machine has no way there, and the plugin hears of it.
        let answer = ask(&hosts[2]);
        assert_eq!(
            answer.status_and_text(),
            (200, "error: ErrorCode::DestinationIpUnroutable"),
            "{version}"
        );
    }
}

#[test]
fn a_check_prints_the_drop_in_that_lets_plugins_do_what_they_were_granted() {
    let (machine, paths) = granted();
    machine.put_guest("files", "files");
    machine.put_guest("secret", "secret");
    machine.put("home/public/greeting", "hello");
    machine.succeed(&["chmod", "-R", "a+rX", "/home/public"]);
    machine.put("etc/credstore/plugind.secret.token", "s3cret");
    machine.put_manifest("files", "[grants]\nread = [\"/home/public\"]\nstate = true\n");
    machine.put_manifest("secret", "[grants]\ncredentials = [\"token\"]\n");

    let check = machine.run(&["pluginctl", "check"]);
    assert_eq!(check.status, 1, "{check:?}");
    for place in ["dials.toml:2:15", "fetches.toml:2:17", "files.toml:2:8"] {
        assert!(check.errors.contains(&format!("/etc/plugind/plugins/{place}: ")), "{check:?}");
    }
    assert!(!check.errors.contains("grants.state"), "{check:?}");
    // A newer systemd imports it by a pattern, if the unit has one.
    let imports = machine.daemon("ImportCredential").contains("plugind.*");
    assert_eq!(check.errors.contains("secret.toml:2:15: "), !imports, "{check:?}");
    let failing = 3 + usize::from(!imports);
    assert_eq!(check.output.matches("fails at link").count(), failing, "{check:?}");
    let check = machine.run(&["pluginctl", "check", "--no-compile", "--json"]);
    assert_eq!(check.status, 1, "{check:?}");
    let reported: Value = serde_json::from_str(&check.output).unwrap();
    assert!(reported["plugins"][0]["mistakes"][0].as_str().unwrap().contains("PrivateNetwork=yes"));
    // Neither another configuration nor a check with --no-unit is compared with the unit.
    for further in ["--no-unit", "--plugins=/etc/plugind/plugins", "/etc/plugind/plugins"] {
        let check = machine.run(&["pluginctl", "check", "--no-compile", further]);
        assert_eq!((check.status, check.errors.lines().count()), (0, 1), "{further}: {check:?}");
    }

    machine.put(DROP_IN, reported["drop-in"].as_str().unwrap());
    machine.reload_units();
    let check = machine.run(&["pluginctl", "check"]);
    assert_eq!((check.status, check.errors.as_str()), (0, ""), "{check:?}");
    machine.start();
    for path in paths {
        assert_eq!(machine.get(&path).status_and_text(), (200, "hello"), "{path}");
    }
    assert_eq!(machine.get("/files/read/home/public/greeting").status_and_text(), (200, "hello"));
    assert_eq!(machine.get("/secret/token").status_and_text(), (200, "s3cret"));
}

#[test]
fn a_check_says_nothing_of_units_where_there_is_none() {
    let (machine, _) = granted();
    machine.succeed(&["rm", "/usr/lib/systemd/system/plugind.service"]);
    machine.reload_units();
    let check = machine.run(&["pluginctl", "check", "--no-compile"]);
    assert_eq!((check.status, check.errors.lines().count()), (0, 1), "{check:?}");
}
