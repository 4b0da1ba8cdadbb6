//! The plugins that come with plugind: middleware, and one that serves files.

use plugind_tests::{Daemon, Response, Tree, end_of};
use std::{fs, net::Ipv4Addr};

/// A tree with `middleware` before a plugin that answers what it sees of a request.
fn before(middleware: &str, manifest: &str) -> Tree {
    let guest = middleware.replace('-', "_");
    let shop = format!("middleware = [\"{middleware}\"]\n");
    Tree::new().with_named(middleware, &guest, manifest).with_named("shop", "headers", &shop)
}

fn ask(daemon: &Daemon, lines: &[&str]) -> Response {
    let mut client = daemon.connect();
    client.request("GET", "/shop", lines);
    client.response()
}

#[test]
fn basic_auth_lets_users_through_and_nobody_else() {
    let tree = before("basic-auth", "[grants]\ncredentials = [\"users\"]\n");
    let credentials = tree.root().join("run/credentials/plugind.service");
    fs::create_dir_all(&credentials).unwrap();
    fs::write(credentials.join("plugind.basic-auth.users"), "# people\nada:love lace\nbob:b:c\n")
        .unwrap();
    let daemon = Daemon::start(&tree);
    // `ada:love lace` and `bob:b:c`
    for (login, user) in [("YWRhOmxvdmUgbGFjZQ==", "ada"), ("Ym9iOmI6Yw==", "bob")] {
        let login = format!("Authorization: Basic {login}");
        let seen = ask(&daemon, &[&login, "X-Forwarded-User: root"]);
        assert_eq!(seen.status(), 200, "{login}");
        let text = seen.text();
        assert!(text.contains(&format!("header x-forwarded-user: {user}\n")), "{text}");
        assert!(!text.contains("root") && !text.contains("authorization"), "{text}");
    }
    // No field, `ada:lovelace`, `ada`, `:`, nothing, no base64, another scheme, and a known user twice.
    let known = "Authorization: Basic YWRhOmxvdmUgbGFjZQ==";
    for lines in [
        &[][..],
        &["Authorization: Basic YWRhOmxvdmVsYWNl"],
        &["Authorization: Basic YWRh"],
        &["Authorization: Basic Og=="],
        &["Authorization: Basic "],
        &["Authorization: Basic %"],
        &["Authorization: Bearer YWRhOmxvdmUgbGFjZQ=="],
        &[known, known],
    ] {
        let refused = ask(&daemon, lines);
        assert_eq!(refused.status(), 401, "{lines:?}");
        let challenge = refused.head.field("www-authenticate").map(str::to_owned);
        assert_eq!(challenge.as_deref(), Some("Basic realm=\"plugind\", charset=\"UTF-8\""));
    }
}

#[test]
fn cors_lets_pages_of_known_origins_read_responses() {
    let daemon = Daemon::start(&before(
        "cors",
        "[config]\norigins = \"https://a.example https://b.example\"\n",
    ));
    let allowed = |lines: &[&str], method: &str| {
        let mut client = daemon.connect();
        client.request(method, "/shop", lines);
        let head = client.head();
        (head.status, head.field("access-control-allow-origin").map(str::to_owned))
    };
    let b = Some("https://b.example".to_owned());
    assert_eq!(allowed(&["Origin: https://b.example"], "GET"), (200, b.clone()));
    assert_eq!(allowed(&["Origin: https://evil.example"], "GET"), (200, None));
    assert_eq!(allowed(&[], "GET"), (200, None));
    let asks = "Access-Control-Request-Method: POST";
    assert_eq!(allowed(&["Origin: https://b.example", asks], "OPTIONS"), (204, b));
    assert_eq!(allowed(&["Origin: https://evil.example", asks], "OPTIONS"), (204, None));
    assert_eq!(allowed(&["Origin: https://b.example"], "OPTIONS").0, 200, "no preflight request");
    let own = "x-give: access-control-allow-origin: *";
    assert_eq!(allowed(&["Origin: https://evil.example", own], "GET"), (200, None));
}

#[test]
fn a_rate_limit_answers_a_client_that_sends_too_much() {
    let manifest = "[instances]\nmax = 1\n[config]\nper-second = \"0.001\"\nburst = \"3\"\n";
    let daemon = Daemon::start(&before("rate-limit", manifest));
    let statuses: Vec<_> = (0..5).map(|_| daemon.get("/shop").status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = daemon.get("/shop");
    let wait = refused.head.field("retry-after").and_then(|wait| wait.parse::<u32>().ok());
    assert!(wait.is_some_and(|wait| wait > 900), "{wait:?}");
}

#[test]
fn cors_refuses_settings_that_are_no_lists_of_names() {
    for (setting, bad) in
        [("methods", "GET POST"), ("headers", "x-a, "), ("expose-headers", "x-a\\nx-b")]
    {
        let manifest = format!("[config]\norigins = \"*\"\n{setting} = \"{bad}\"\n");
        let ended = end_of(&before("cors", &manifest), &[]);
        assert_eq!(ended.status, 78, "{setting}");
        ended.log.wait_for(&[&format!("{setting} must be names with a comma between two")]);
    }
}

/// A limit of one request per client, whose clients are those that a proxy names.
fn one_request_per_client() -> Daemon {
    let manifest = "[instances]\nmax = 1\n[config]\nper-second = \"0.001\"\nburst = \"1\"\n";
    let tree = before("rate-limit", manifest);
    let proxies = "[sockets.http]\ntrusted-proxies = [\"127.0.0.1\"]\n";
    fs::write(tree.root().join("etc/plugind/plugind.toml"), proxies).unwrap();
    Daemon::start(&tree)
}

#[test]
fn a_rate_limit_counts_all_addresses_of_a_network_of_ipv6_together() {
    let daemon = one_request_per_client();
    for (client, status) in [
        ("2001:db8::1", 200),
        ("2001:db8::1:2:3:4", 429),
        ("2001:db8:0:1::1", 200),
        ("192.0.2.1", 200),
        ("192.0.2.2", 200),
        ("192.0.2.1", 429),
    ] {
        let answer = ask(&daemon, &[&format!("X-Forwarded-For: {client}")]);
        assert_eq!(answer.status(), status, "{client}");
    }
}

#[test]
fn a_rate_limit_forgets_the_client_that_was_not_seen_for_longest() {
    let daemon = one_request_per_client();
    let mut client = daemon.connect();
    let mut status = |number: u32| {
        let address = Ipv4Addr::from(0x0a00_0000 + number);
        client.request("GET", "/shop", &[&format!("X-Forwarded-For: {address}")]);
        client.response().status()
    };
    for number in 0..10_000 {
        assert_eq!(status(number), 200, "{number}");
    }
    assert_eq!(status(0), 429);
    // It is new, so the second is forgotten. The first was seen later.
    assert_eq!(status(10_000), 200);
    assert_eq!([status(0), status(1)], [429, 200]);
}

#[test]
fn static_files_serves_what_is_in_its_directory_and_nothing_else() {
    let tree = Tree::new();
    let www = tree.root().join("www");
    fs::create_dir_all(www.join("sub")).unwrap();
    fs::write(www.join("index.html"), "<p>start</p>").unwrap();
    fs::write(www.join("sub/a b.css"), "p {}").unwrap();
    fs::write(www.join(".secret"), "hidden").unwrap();
    fs::write(tree.root().join("outside"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside", www.join("out")).unwrap();
    std::os::unix::fs::symlink("loop", www.join("loop")).unwrap();
    let large = "x".repeat(1 << 20);
    fs::write(www.join("large.txt"), &large).unwrap();
    let path = www.display();
    let manifest = format!("[grants]\nread = [\"{path}\"]\n[config]\nroot = \"{path}\"\n");
    let daemon = Daemon::start(&tree.with_named("www", "static_files", &manifest));
    let start = daemon.get("/www/");
    assert_eq!(start.status_and_text(), (200, "<p>start</p>"));
    assert_eq!(start.head.field("content-type"), Some("text/html; charset=utf-8"));
    let css = daemon.get("/www/sub/a%20b.css?v=1");
    assert_eq!(css.status_and_text(), (200, "p {}"));
    assert_eq!(css.head.field("content-type"), Some("text/css; charset=utf-8"));
    assert!(daemon.get("/www/large.txt").text() == large);
    for (path, status) in [
        ("/www/.secret", 404),
        ("/www/%2esecret", 404),
        ("/www/none", 404),
        ("/www/sub", 404),
        ("/www/..%2foutside", 404),
        ("/www/%ff", 404),
        ("/www/%", 404),
        ("/www/index.html/more", 404),
        (&format!("/www/{}", "x".repeat(300)), 404),
    ] {
        assert_eq!(daemon.get(path).status(), status, "{path}");
    }
    assert!(daemon.get("/www/out").status() >= 400, "a link that leads out");
    assert_eq!(daemon.get("/www/loop").status(), 502, "the file may be there");
    daemon.log.wait_for(&["requests failed", "plugin=www", "cannot open /loop: "]);
    let mut client = daemon.connect();
    client.request("HEAD", "/www/large.txt", &[]);
    let head = client.head();
    assert_eq!(head.field("content-length"), Some("1048576"));
    let mut client = daemon.connect();
    client.request("DELETE", "/www/large.txt", &[]);
    assert_eq!(client.response().status(), 405);
}
