//! The grants of a manifest: a plugin has them, and nothing else.

use plugind_tests::{Daemon, Tree, end_of, eventually};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    thread,
};

/// A server on this machine that sends this to every client: at once, or after the head of a request.
fn server(says: &'static str, after_a_request: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            if after_a_request {
                let lines = BufReader::new(&stream).lines();
                let _head: Vec<_> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            }
            // The client may have gone.
            (&stream).write_all(says.as_bytes()).ok();
        }
    });
    address
}

/// Makes a directory beside the tree's own, with a file in it that says `hello`, and returns its path.
fn shared(tree: &Tree) -> String {
    let directory = tree.root().join("shared");
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("greeting"), "hello").unwrap();
    fs::write(tree.root().join("beside"), "not for plugins").unwrap();
    std::os::unix::fs::symlink("../beside", directory.join("out")).unwrap();
    directory.to_str().unwrap().to_owned()
}

#[test]
fn a_plugin_has_the_environment_that_it_was_granted_and_nothing_of_the_daemons() {
    let granted = "[grants]\nenvironment = { LANG = \"C.UTF-8\", EMPTY = \"\" }\n";
    let tree = Tree::new().with("environment").with_named("granted", "environment", granted);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/environment").status_and_text(), (200, ""));
    assert_eq!(daemon.get("/granted").status_and_text(), (200, "EMPTY=\nLANG=C.UTF-8\n"));

    tree.put("granted.toml", "[grants]\nenvironment = { LANG = \"de\" }\n");
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(daemon.get("/granted").status_and_text(), (200, "LANG=de\n"));
}

#[test]
fn a_plugin_reads_the_directories_that_it_was_granted_and_nothing_beside_them() {
    let tree = Tree::new();
    let directory = shared(&tree);
    let granted = format!("[grants]\nread = [\"{directory}\"]\n");
    let daemon = Daemon::start(&tree.with("files").with_named("granted", "files", &granted));
    let ask = |plugin: &str, what: &str| {
        let answer = daemon.get(&format!("/{plugin}/{what}"));
        assert_eq!(answer.status(), 200);
        answer.text().to_owned()
    };
    assert_eq!(ask("granted", &format!("read{directory}/greeting")), "hello");
    assert_eq!(ask("granted", &format!("list{directory}")), "below greeting out");
    assert_eq!(ask("granted", "seen"), format!("{directory}\n"));
    for what in [
        format!("make{directory}/greeting"),
        format!("make{directory}/new"),
        format!("remove{directory}/greeting"),
        format!("read{directory}/out"),
        format!("read{directory}-not"),
        "read/etc/passwd".to_owned(),
        "make/state/new".to_owned(),
    ] {
        let answer = ask("granted", &what);
        assert!(answer.starts_with("error: "), "{what}: {answer}");
    }
    for what in [format!("read{directory}/greeting"), "read/etc/passwd".to_owned()] {
        let answer = ask("files", &what);
        assert!(answer.starts_with("error: "), "{what}: {answer}");
    }
    assert_eq!(ask("files", "seen"), "");
}

#[test]
fn a_fifo_in_a_granted_directory_is_refused_and_not_waited_for() {
    let tree = Tree::new();
    let directory = shared(&tree);
    let made = std::process::Command::new("mkfifo").arg(format!("{directory}/fifo")).status();
    assert!(made.unwrap().success());
    let granted = format!("[grants]\nread = [\"{directory}\"]\n");
    let daemon = Daemon::start(&tree.with_named("granted", "files", &granted));
    for _ in 0..20 {
        let answer = daemon.get(&format!("/granted/read{directory}/fifo"));
        assert_eq!(answer.status_and_text(), (200, "error: PermissionDenied"));
    }
    let answer = daemon.get(&format!("/granted/read{directory}/greeting"));
    assert_eq!(answer.status_and_text(), (200, "hello"));
}

#[test]
fn a_plugin_keeps_its_state_across_versions_and_daemons_and_others_do_not_see_it() {
    let tree = Tree::new();
    let granted = "[grants]\nstate = true\n";
    let tree = tree.with_manifest("files", granted).with_named("other", "files", granted);
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/files/list/state").status_and_text(), (200, ""));
    assert_eq!(daemon.get("/files/make/state/note").status_and_text(), (200, "done"));
    assert_eq!(daemon.get("/other/list/state").status_and_text(), (200, ""));
    let state = tree.root().join("var/lib/plugind/files");
    assert_eq!(fs::read_to_string(state.join("note")).unwrap(), "made");
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    // A link that leads out of it leads nowhere.
    std::os::unix::fs::symlink("/etc", state.join("etc")).unwrap();
    assert!(daemon.get("/files/read/state/etc/passwd").text().starts_with("error: "));

    tree.put("files.toml", "description = \"notes\"\n[grants]\nstate = true\n");
    assert!(daemon.reload().contains("changed=1"));
    assert_eq!(daemon.get("/files/read/state/note").status_and_text(), (200, "made"));
    assert_eq!(daemon.stop(), 0);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/files/read/state/note").status_and_text(), (200, "made"));
}

#[test]
fn a_plugin_reads_the_credentials_that_it_was_granted_and_no_others() {
    let tree = Tree::new();
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    for (file, value) in [
        ("plugind.secret.token", "s3cret"),
        ("plugind.secret.other", "x"),
        ("plugind.b.token", "y"),
    ] {
        fs::write(credentials.join(file), value).unwrap();
    }
    let granted = "[grants]\ncredentials = [\"token\"]\n";
    let tree = tree.with_manifest("secret", granted).with_named("b", "secret", granted);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/secret/token").status_and_text(), (200, "s3cret"));
    assert_eq!(daemon.get("/secret/other").status_and_text(), (200, "none"));
    assert_eq!(daemon.get("/b/token").status_and_text(), (200, "y"));
    assert_eq!(daemon.log.count(&["s3cret"]), 0);
}

/// A tree with the plugins `a` and `b`, each with a credential `token`, and the directory of the credentials.
fn with_credentials() -> (Tree, PathBuf) {
    let granted = "[grants]\ncredentials = [\"token\"]\n";
    let tree = Tree::new().with_named("a", "secret", granted).with_named("b", "secret", granted);
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    for name in ["a", "b"] {
        fs::write(credentials.join(format!("plugind.{name}.token")), "old").unwrap();
    }
    (tree, credentials)
}

#[test]
fn a_reload_gives_a_changed_credential_to_the_plugins_that_were_granted_it() {
    let (tree, credentials) = with_credentials();
    let daemon = Daemon::start(&tree);
    assert!(daemon.reload().contains("changed=0 failed=0 removed=0 unchanged=2"));
    fs::write(credentials.join("plugind.a.token"), "new").unwrap();
    assert!(daemon.reload().contains("changed=1 failed=0 removed=0 unchanged=1"));
    assert_eq!(daemon.get("/a/token").status_and_text(), (200, "new"));
    assert_eq!(daemon.get("/b/token").status_and_text(), (200, "old"));
    assert_eq!(daemon.log.count(&["plugin ready", "plugin=b"]), 1);
    for value in ["=old", "=new"] {
        assert_eq!(daemon.log.count(&[value]), 0);
    }
}

#[test]
fn a_restart_gives_a_plugin_the_credentials_that_there_are_now() {
    let (tree, credentials) = with_credentials();
    let daemon = crate::control::start(&tree);
    for name in ["a", "b"] {
        fs::write(credentials.join(format!("plugind.{name}.token")), "new").unwrap();
    }
    let restarted = crate::control::run(&tree, &["restart", "a"]);
    assert_eq!(restarted.status, Some(0), "{}", restarted.stderr);
    assert_eq!(daemon.get("/a/token").status_and_text(), (200, "new"));
    assert_eq!(daemon.get("/b/token").status_and_text(), (200, "old"));
    // A reload finds no further change of `a`.
    let reloaded = crate::control::run(&tree, &["reload"]).stdout;
    assert!(reloaded.contains("swapped b") && !reloaded.contains("swapped a"), "{reloaded}");

    fs::remove_file(credentials.join("plugind.a.token")).unwrap();
    let refused = crate::control::run(&tree, &["restart", "a"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("a: not restarted: failed at link: "), "{}", refused.stderr);
    assert_eq!(daemon.get("/a/token").status(), 200, "the previous instances keep serving");
}

#[test]
fn a_plugin_whose_credential_was_withdrawn_is_stopped_with_the_reason() {
    let (tree, credentials) = with_credentials();
    let daemon = Daemon::start(&tree);
    fs::remove_file(credentials.join("plugind.a.token")).unwrap();
    assert!(daemon.reload().contains("changed=0 failed=1 removed=0 unchanged=1"));
    assert_eq!(daemon.get("/a/token").status(), 503);
    assert_eq!(daemon.get("/b/token").status_and_text(), (200, "old"));
    let reported = daemon.log.wait_for(&["plugin failed", "plugin=a", "stage=link "]);
    assert!(reported.contains("plugind.a.token was withdrawn"), "{reported}");

    fs::write(credentials.join("plugind.a.token"), "new").unwrap();
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(daemon.get("/a/token").status_and_text(), (200, "new"));
}

#[test]
fn a_grant_that_cannot_be_fulfilled_is_reported_with_a_remedy() {
    for (guest, manifest, stage, parts) in [
        ("files", "read = [\"/nowhere\"]", "link", ["/nowhere", "take it out of read"]),
        ("files", "read = [\"/etc/passwd\"]", "link", ["/etc/passwd", "take it out of read"]),
        (
            "secret",
            "credentials = [\"token\"]",
            "link",
            ["plugind.secret.token", "LoadCredential="],
        ),
        ("secret", "", "verify", ["plugind:plugin/credentials@0.1", "credentials = ["]),
        (
            "hello",
            "credentials = [\"token\"]",
            "verify",
            ["hello.toml:2:15: grants.credentials has no effect", "plugind:plugin/credentials@"],
        ),
    ] {
        let tree = Tree::new().with_manifest(guest, &format!("[grants]\n{manifest}\n"));
        let ended = end_of(&tree, &[]);
        let stage = format!("stage={stage} ");
        let failed = ended.log.wait_for(&["err     plugind: plugin failed", &stage]);
        for part in parts {
            assert!(failed.contains(&part.replace('"', "\\\"")), "{part:?} is not in {failed}");
        }
        assert_eq!(ended.status, 78, "{failed}");
    }
}

#[test]
fn a_version_that_is_granted_what_is_not_there_leaves_the_old_one_serving() {
    let tree = Tree::new().with_manifest("files", "[grants]\nstate = true\n");
    let daemon = Daemon::start(&tree);
    tree.put("files.toml", "[grants]\nread = [\"/nowhere\"]\n");
    assert!(daemon.reload().contains("failed=1"));
    assert_eq!(daemon.get("/files/list/state").status_and_text(), (200, ""));
    eventually("the old one", || (daemon.get("/files/seen").text() == "/state\n").then_some(()));
}

#[test]
fn a_plugin_connects_to_what_it_was_granted_and_to_nothing_else() {
    let (granted, other) = (server("hello", false), server("not for plugins", false));
    let by_name = format!("localhost:{}", granted.port());
    let manifest = |to: &str| format!("[grants]\ntcp-connect = [\"{to}\"]\n");
    let tree = Tree::new().with("dials");
    let tree = tree.with_named("granted", "dials", &manifest(&granted.to_string()));
    let tree = tree.with_named("by-name", "dials", &manifest(&by_name));
    let daemon = Daemon::start(&tree);
    let ask = |plugin: &str, what: &str| {
        let answer = daemon.get(&format!("/{plugin}/{what}"));
        assert_eq!(answer.status(), 200, "{plugin} {what}");
        answer.text().to_owned()
    };
    for (version, denied) in
        [("02", "error: PermissionDenied"), ("03", "error: ErrorCode::AccessDenied")]
    {
        assert_eq!(ask("granted", &format!("{version}/{granted}")), "hello");
        assert_eq!(ask("granted", &format!("{version}/{other}")), denied);
        assert_eq!(ask("by-name", &format!("{version}/{by_name}")), "hello");
        assert_eq!(ask("by-name", &format!("{version}/{other}")), denied);
        for plugin in ["dials", "granted"] {
            let answer = ask(plugin, &format!("{version}/{by_name}"));
            assert!(answer.starts_with("error: "), "{plugin} {version}: {answer}");
        }
        assert_eq!(ask("dials", &format!("{version}/{granted}")), denied);
    }
    assert!(!ask("by-name", "lookup/localhost").starts_with("error: "));
    for (plugin, name) in
        [("by-name", "example.com"), ("granted", "localhost"), ("dials", "localhost")]
    {
        assert_eq!(ask(plugin, &format!("lookup/{name}")), "error: ErrorCode::AccessDenied");
    }
    for plugin in ["dials", "granted", "by-name"] {
        assert_eq!(ask(plugin, "listen"), "error: PermissionDenied");
    }
}

#[test]
fn the_first_refused_socket_of_each_protocol_is_logged_with_the_remedy() {
    let granted = "[grants]\ntcp-connect = [\"127.0.0.1:9\"]\n";
    let daemon = Daemon::start(&Tree::new().with("dials").with_named("granted", "dials", granted));
    let ask = |path: &str, answer: &str| {
        assert_eq!(daemon.get(path).status_and_text(), (200, answer), "{path}");
    };
    let denied = |plugin: &str, interface: &str, remedy: &str| {
        let entry = format!("use of socket denied plugin={plugin} interface={interface} ");
        daemon.log.wait_for(&[&entry, remedy]);
    };
    for _ in 0..2 {
        ask("/dials/listen", "error: PermissionDenied");
        ask("/granted/listen", "error: PermissionDenied");
        ask("/dials/datagrams/02", "error: PermissionDenied");
        ask("/granted/datagrams/03", "error: ErrorCode::AccessDenied");
    }
    let connect = "to connect, write tcp-connect = ";
    denied("dials", "wasi:sockets/tcp-create-socket@0.2", connect);
    denied("granted", "wasi:sockets", "export connection-handler of plugind:plugin");
    denied("dials", "wasi:sockets/udp-create-socket@0.2", "export datagram-handler");
    denied("granted", "wasi:sockets/types@0.3", "export datagram-handler");
    assert_eq!(daemon.log.count(&["use of socket denied"]), 4);
}

#[test]
fn a_plugin_sends_requests_to_whom_it_was_granted_and_to_nobody_else() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let (granted, other) = (server(ANSWER, true), server(ANSWER, true));
    let by_name = format!("localhost:{}", granted.port());
    let manifest = format!("[grants]\noutgoing-http = [\"{granted}\", \"{by_name}\"]\n");
    let tree = Tree::new().with("fetches").with_named("granted", "fetches", &manifest);
    let daemon = Daemon::start(&tree);
    for version in ["02", "03"] {
        let ask = |plugin: &str, to: &str| {
            let answer = daemon.get(&format!("/{plugin}/{version}/{to}"));
            assert_eq!(answer.status(), 200, "{plugin} {version} {to}");
            answer.text().to_owned()
        };
        let denied = "error: ErrorCode::HttpRequestDenied";
        assert_eq!(ask("granted", &format!("http/{granted}")), "hello");
        assert_eq!(ask("granted", &format!("http/{by_name}")), "hello");
        assert_eq!(ask("granted", &format!("http/{other}")), denied);
        assert!(ask("granted", &format!("http/{granted}@{other}")).starts_with("error: "));
        assert_eq!(ask("granted", "https/example.com"), denied);
        assert_eq!(ask("fetches", &format!("http/{granted}")), denied);
        // The server does not speak TLS. Only the plugin gets the error.
        let answer = ask("granted", &format!("https/{granted}"));
        assert!(answer.starts_with("error: ") && answer != denied, "{answer}");
    }
    assert_eq!(daemon.log.count(&["warning "]), 0);
}
