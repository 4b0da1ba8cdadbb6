//! The identity of the client: to a plugin directly, behind nginx and behind haproxy.

use plugind_tests::{Background, Daemon, Tree, run, tool};
use std::{fs, path::PathBuf};

/// A tree with a plugin that answers what it sees, and a socket in it.
fn tree(settings: &str) -> (Tree, PathBuf) {
    let tree = Tree::new().with("headers");
    let path = tree.root().join("web");
    let settings = format!("[sockets.web]\nprotocol = \"http\"\n{settings}");
    fs::write(tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
    (tree, path)
}

fn start(settings: &str) -> (Daemon, PathBuf) {
    let (tree, path) = tree(settings);
    let listen = format!("web={}", path.display());
    (Daemon::start_with(&tree, &["--listen", &listen]), path)
}

/// Returns the value of a field that the plugin received, if it was there once.
fn seen<'a>(answer: &'a str, field: &str) -> Option<&'a str> {
    let prefix = format!("header {field}: ");
    let mut all = answer.lines().filter_map(|line| line.strip_prefix(&prefix));
    all.next().filter(|_| all.next().is_none())
}

/// The identity of a trace that no proxy has made.
const FORGED_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What a client makes up.
const FORGED: [&str; 12] = [
    "-H",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "-H",
    "X-Forwarded-For: 203.0.113.9",
    "-H",
    "Forwarded: for=203.0.113.9;proto=https",
    "-H",
    "X-Forwarded-Proto: https",
    "-H",
    "X-Forwarded-Host: forged.example",
    "-H",
    "X-Forwarded-Client-Cert: Subject=\"CN=root\"",
];

fn curl(arguments: &[&str]) -> String {
    run(tool("curl").args(["-sS", "--max-time", "30"]).args(FORGED).args(arguments))
}

#[test]
fn a_plugin_knows_its_client_over_tcp_and_unix_whatever_that_says() {
    let (daemon, path) = start("");
    let url = format!("http://{}/headers", daemon.address());
    // Linux has the whole network 127.0.0.0/8 for itself.
    let answer = curl(&["--interface", "127.0.0.9", &url]);
    assert_eq!(seen(&answer, "x-forwarded-for"), Some("127.0.0.9"), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-proto"), Some("http"), "{answer}");
    let host = daemon.address().to_string();
    assert_eq!(seen(&answer, "x-forwarded-host"), Some(&*host), "{answer}");
    let forwarded = format!("for=127.0.0.9;host=\"{host}\";proto=http");
    assert_eq!(seen(&answer, "forwarded"), Some(&*forwarded), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-client-cert"), None, "{answer}");

    let path = path.to_str().unwrap();
    let answer = curl(&["--unix-socket", path, "http://a.example/headers"]);
    let client = seen(&answer, "x-forwarded-for").unwrap();
    let user = format!(".uid-{}.gid-", own_uid());
    assert!(client.starts_with("_pid-") && client.contains(&user), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-host"), Some("a.example"), "{answer}");
}

fn own_uid() -> String {
    run(tool("id").arg("-u")).trim().to_owned()
}

/// The configuration of nginx in the manual, for other places.
fn nginx_of_the_manual(address: &str, socket: &str) -> String {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/man/plugind.toml.5");
    let manual = fs::read_to_string(manual).unwrap();
    let begin = manual.find("\nupstream plugind {").expect("the manual has a configuration") + 1;
    let end = begin + manual[begin..].find("\n.Ed").unwrap();
    let text = &manual[begin..end];
    for place in ["unix:/run/plugind-web/socket", "listen 80;"] {
        assert_eq!(text.matches(place).count(), 1, "{place}");
    }
    text.replace("unix:/run/plugind-web/socket", &format!("unix:{socket}"))
        .replace("listen 80;", &format!("listen {address};"))
}

#[test]
fn behind_nginx_as_in_the_manual_a_plugin_knows_its_client() {
    let (daemon, path) = start("trusted-proxies = [\"unix\"]\n");
    let directory = tempfile::tempdir().unwrap();
    let nginx = Background::start(|address| {
        let server = nginx_of_the_manual(&address.to_string(), path.to_str().unwrap());
        let own = directory.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {own}/{kind};\n"))
            .concat();
        // Its workers must reach a socket of this user.
        let user = if own_uid() == "0" { "user root;\n" } else { "" };
        let configuration = format!(
            "{user}daemon off;\nworker_processes 1;\npid {own}/pid;\nerror_log stderr;\n\
             events {{}}\nhttp {{\naccess_log off;\n{temporary}{server}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = tool("nginx");
        command.arg("-p").arg(directory.path()).arg("-e").arg("stderr").arg("-c").arg(file);
        command
    });
    let url = format!("http://{}/headers", nginx.address);
    let answer = curl(&["--interface", "127.0.0.9", "-H", "Host: a.example:8080", &url]);
    assert_eq!(seen(&answer, "x-forwarded-for"), Some("127.0.0.9"), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-host"), Some("a.example:8080"), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-proto"), Some("http"), "{answer}");
    assert!(answer.contains("authority: Some(\"a.example:8080\")"), "{answer}");
    // The daemon trusts nginx, so nginx must not pass on what its clients made up.
    assert_eq!(seen(&answer, "x-forwarded-client-cert"), None, "{answer}");
    assert!(!answer.contains(FORGED_TRACE), "{answer}");
    // A request through a connection that nginx kept, and one with a body.
    let body = "x".repeat(100_000);
    let answer = curl(&["--data-binary", &body, &url]);
    assert_eq!(seen(&answer, "content-length"), Some("100000"), "{answer}");
    drop(daemon);
}

#[test]
fn behind_haproxy_a_plugin_knows_its_client_by_both_versions_of_its_protocol() {
    let (_daemon, path) = start("proxy-protocol = true\n");
    let directory = tempfile::tempdir().unwrap();
    for sends in ["send-proxy", "send-proxy-v2"] {
        let haproxy = Background::start(|address| {
            let configuration = format!(
                "defaults\n  mode tcp\n  timeout connect 30s\n  timeout client 30s\n  timeout server 30s\n\
                 listen test\n  bind {address}\n  server plugind unix@{} {sends}\n",
                path.display()
            );
            let file = directory.path().join("haproxy.cfg");
            fs::write(&file, configuration).unwrap();
            let mut command = tool("haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        });
        let url = format!("http://{}/headers", haproxy.address);
        let answer = curl(&["--interface", "127.0.0.9", &url]);
        assert_eq!(seen(&answer, "x-forwarded-for"), Some("127.0.0.9"), "{sends}: {answer}");
    }
    // Without the header nothing is believed.
    let refused = curl(&["--unix-socket", path.to_str().unwrap(), "http://a/headers"]);
    assert!(refused.starts_with("curl: (5"), "{refused}");
}

#[test]
fn a_reload_changes_whom_a_socket_trusts_and_closes_no_connection() {
    let (tree, path) = tree("");
    let daemon = Daemon::start_with(&tree, &["--listen", &format!("web={}", path.display())]);
    let ask = || {
        let path = path.to_str().unwrap();
        let answer = curl(&["--unix-socket", path, "http://a/headers"]);
        seen(&answer, "x-forwarded-for").unwrap().to_owned()
    };
    assert!(ask().starts_with("_pid-"));
    let settings = "[sockets.web]\nprotocol = \"http\"\ntrusted-proxies = [\"unix\"]\n";
    fs::write(tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
    daemon.reload();
    daemon.log.wait_for(&["socket has new settings", "socket=web"]);
    assert_eq!(ask(), "203.0.113.9");
}
