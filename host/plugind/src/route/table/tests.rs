//! Routes are found by socket, host and path, however a client writes them.

use super::*;
use crate::route::owners::HttpRoute;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn entry(plugin: &str) -> RouteEntry {
    let figures = Arc::new(PluginFigures::new(1));
    RouteEntry { plugin: plugin.parse().unwrap(), pool: None, figures, used: RouteUse::default() }
}

fn table(routes: &[(Option<&str>, &str, &str)]) -> RouteTable {
    let route = |(host, prefix, plugin): &(Option<&str>, &str, &str)| {
        let host = host.map(str::to_owned);
        let route = HttpRoute { socket: None, host, prefix: (*prefix).to_owned() };
        (Route::Http(route), entry(plugin))
    };
    RouteTable::new(routes.iter().map(route).collect())
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    let table = table(&[(Some("[2001:db8::1]"), "/", "six")]);
    for host in ["[2001:db8::1]", "[2001:0DB8:0:0::1]:8080", "[2001:db8:0:0:0:0:0:1]"] {
        assert_eq!(answers(&table, host, "/").as_deref(), Some("six"), "{host}");
    }
    for host in ["[2001:db8::2]", "[2001:db8::1", "2001:db8::1", "[]", "["] {
        assert_eq!(answers(&table, host, "/"), None, "{host}");
    }
}

fn answers(table: &RouteTable, host: &str, path: &str) -> Option<String> {
    answers_on("http", table, host, path)
}

fn http() -> SocketName {
    "http".parse().unwrap()
}

fn answers_on(socket: &str, table: &RouteTable, host: &str, path: &str) -> Option<String> {
    let found = table.route(&socket.parse().unwrap(), Some(host), path).unwrap();
    found.map(|entry| entry.plugin.to_string())
}

#[test]
fn a_route_of_a_socket_goes_before_one_of_any_socket_and_counts_there_alone() {
    let route = |socket: Option<&str>, host: Option<&str>, prefix: &str, plugin: &str| {
        let socket = socket.map(|socket| socket.parse().unwrap());
        let (host, prefix) = (host.map(str::to_owned), prefix.to_owned());
        (Route::Http(HttpRoute { socket, host, prefix }), entry(plugin))
    };
    let table = RouteTable::new(BTreeMap::from([
        route(None, None, "/a", "any"),
        route(None, Some("h"), "/a/b", "host"),
        route(Some("admin"), None, "/", "admin"),
        route(Some("admin"), None, "/a", "admin-a"),
    ]));
    for (socket, path, plugin) in [
        ("http", "/a", Some("any")),
        ("http", "/a/b", Some("host")),
        ("http", "/", None),
        ("admin", "/a/b", Some("admin-a")),
        ("admin", "/c", Some("admin")),
    ] {
        assert_eq!(answers_on(socket, &table, "h", path).as_deref(), plugin, "{socket} {path}");
    }
}

#[test]
fn a_whole_socket_has_one_plugin_and_no_routes() {
    let echo = "echo".parse::<SocketName>().unwrap();
    let entries = BTreeMap::from([(Route::Socket(echo.clone()), entry("echoes"))]);
    let table = RouteTable::new(entries);
    assert_eq!(table.whole_socket(&echo).unwrap().plugin.as_str(), "echoes");
    assert!(table.whole_socket(&"http".parse().unwrap()).is_none());
    assert_eq!(answers_on("echo", &table, "h", "/"), None);
}

#[test]
fn the_longest_prefix_answers_and_ends_where_a_segment_ends() {
    let table = table(&[(None, "/hi", "hi"), (None, "/hi/there", "there")]);
    for (path, plugin) in [
        ("/hi", Some("hi")),
        ("/hi/", Some("hi")),
        ("/hi/you", Some("hi")),
        ("/hi/there", Some("there")),
        ("/hi/there/x/y", Some("there")),
        ("/hi/thereabouts", Some("hi")),
        ("/hit", None),
        ("/", None),
        ("", None),
    ] {
        assert_eq!(answers(&table, "x", path).as_deref(), plugin, "{path}");
    }
}

#[test]
fn the_root_answers_what_nobody_else_does() {
    let table = table(&[(None, "/", "root"), (None, "/a", "a")]);
    for (path, plugin) in
        [("/", "root"), ("/b", "root"), ("/a/b", "a"), ("/ab", "root"), ("//", "root")]
    {
        assert_eq!(answers(&table, "x", path).as_deref(), Some(plugin), "{path}");
    }
}

#[test]
fn segments_beyond_the_longest_route_cost_no_work() {
    let table = table(&[(None, "/a/b", "ab"), (None, "/", "root")]);
    assert_eq!(first_segments("/a/b/c/d", table.deepest), "/a/b");
    assert_eq!(first_segments("/a", 0), "/");
    let long = "/".repeat(60_000);
    assert_eq!(answers(&table, "x", &format!("/a/b{long}")).as_deref(), Some("ab"));
    assert_eq!(answers(&table, "x", &long).as_deref(), Some("root"));
}

#[test]
fn a_host_goes_before_any_host_however_it_is_written() {
    let table = table(&[
        (None, "/a", "any"),
        (Some("one.example"), "/a", "one"),
        (Some("[2001:db8::1]"), "/a", "six"),
    ]);
    for (host, plugin) in [
        ("one.example", "one"),
        ("ONE.Example:8080", "one"),
        ("one.example.", "one"),
        ("[2001:DB8::1]:80", "six"),
        ("[2001:db8::1]", "six"),
        ("two.example", "any"),
        ("", "any"),
        ("[", "any"),
    ] {
        assert_eq!(answers(&table, host, "/a").as_deref(), Some(plugin), "{host}");
    }
}

#[test]
fn encoding_does_not_lead_anywhere_else() {
    let table = table(&[(None, "/hello", "hello")]);
    for path in ["/hello", "/%68ello", "/hel%6Co/x%2Fy", "/hello/%"] {
        assert_eq!(answers(&table, "x", path).as_deref(), Some("hello"), "{path}");
    }
    for path in ["/hello%2Fx", "/hello%00", "/HELLO"] {
        assert_eq!(answers(&table, "x", path), None, "{path}");
    }
    for path in ["/hello/..", "/hello/../x", "/./hello", "/hello/%2e%2E/x", "/hello/.%2e"] {
        assert_eq!(table.route(&http(), None, path).err(), Some(DotSegments), "{path}");
    }
    for path in ["/hello/..x", "/hello/.well-known", "/hello/..."] {
        assert!(table.route(&http(), None, path).is_ok(), "{path}");
    }
}

#[test]
fn a_reader_keeps_its_table_when_another_one_is_published() {
    let (publisher, reader) = channel();
    publisher.publish(table(&[(None, "/", "old")]));
    let under_way = reader.table();
    publisher.publish(table(&[(None, "/", "new")]));
    assert_eq!(answers(&under_way, "x", "/").as_deref(), Some("old"));
    assert_eq!(answers(&reader.table(), "x", "/").as_deref(), Some("new"));
}

/// A path's segments, as a route may have them and as a client may write them.
fn segments() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-c]{1,2}", 0..4)
}

fn path_of(segments: &[String]) -> String {
    format!("/{}", segments.join("/"))
}

fn table_of(routes: &BTreeSet<Vec<String>>) -> RouteTable {
    let paths: Vec<_> = routes.iter().map(|route| path_of(route)).collect();
    let names: Vec<_> = (0..paths.len()).map(|nth| format!("p{nth}")).collect();
    let routes: Vec<_> =
        paths.iter().zip(&names).map(|(path, name)| (None, path.as_str(), name.as_str())).collect();
    table(&routes)
}

proptest! {
    #[test]
    fn the_route_with_the_most_segments_in_common_answers(
        routes in prop::collection::btree_set(segments(), 0..6), path in segments(), slash in "/?"
    ) {
        let longest = routes.iter().enumerate().filter(|(_, route)| path.starts_with(route));
        let longest = longest.max_by_key(|(_, route)| route.len());
        let expected = longest.map(|(nth, _)| format!("p{nth}"));
        let written = format!("{}{slash}", path_of(&path));
        prop_assert_eq!(answers(&table_of(&routes), "x", &written), expected);
    }

    #[test]
    fn encoding_what_needs_none_changes_nothing(
        routes in prop::collection::btree_set(segments(), 0..6),
        path in segments(),
        encoded in prop::collection::vec(any::<bool>(), 16)
    ) {
        let plain = path_of(&path);
        let encode = |(c, encoded): (char, &bool)| match c != '/' && *encoded {
            true => format!("%{:02x}", u32::from(c)),
            false => c.to_string(),
        };
        let written: String = plain.chars().zip(encoded.iter().cycle()).map(encode).collect();
        let table = table_of(&routes);
        prop_assert_eq!(answers(&table, "x", &written), answers(&table, "x", &plain));
    }

    #[test]
    fn dot_segments_are_refused_wherever_and_however_they_are_written(
        before in segments(), after in segments(),
        dots in prop::sample::select(vec![".", "..", "%2e", "%2E%2e", ".%2E", "%2e."])
    ) {
        let path = format!("{}/{dots}{}", path_of(&before).trim_end_matches('/'), path_of(&after));
        prop_assert!(table(&[(None, "/", "root")]).route(&http(), None, &path).is_err(), "{}", path);
    }

    #[test]
    fn a_host_is_found_in_any_case_and_with_any_port(
        name in "[a-z][a-z0-9-]{0,8}(\\.[a-z]{2,3})?",
        six in any::<u128>(), is_six: bool, port in prop::option::of(any::<u16>()),
        upper in prop::collection::vec(any::<bool>(), 40)
    ) {
        let host = match is_six {
            true => format!("[{}]", std::net::Ipv6Addr::from(six)),
            false => name,
        };
        let table = table(&[(Some(&host), "/", "it"), (None, "/", "other")]);
        let case = |(c, upper): (char, &bool)| match upper {
            true => c.to_ascii_uppercase(),
            false => c,
        };
        let mut written: String = host.chars().zip(upper.iter().cycle()).map(case).collect();
        if let Some(port) = port {
            written.push_str(&format!(":{port}"));
        }
        prop_assert_eq!(answers(&table, &written, "/a"), Some("it".to_owned()));
    }

    #[test]
    fn any_host_and_path_are_looked_up_without_a_panic(host in ".{0,20}", path in ".{0,40}") {
        let table = table(&[(Some("h"), "/", "h"), (None, "/a", "a")]);
        table.route(&http(), Some(&host), &path).ok();
    }
}
