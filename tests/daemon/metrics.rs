//! Metrics: what a client gets of them, and that they follow what happens.

use crate::{control, websockets};
use plugind_tests::{Connection, Daemon, Tree, WAIT_MAX, another, eventually};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
};

/// A daemon with a socket for metrics.
pub(crate) struct Measured {
    pub(crate) daemon: Daemon,
    pub(crate) metrics: SocketAddr,
}

impl Measured {
    pub(crate) fn start(tree: &Tree, arguments: &[&str]) -> Self {
        let measured = Self::begin(tree, arguments);
        measured.daemon.wait_until_ready();
        measured
    }

    /// The same with a control socket.
    pub(crate) fn start_with_control(tree: &Tree) -> Self {
        fs::create_dir_all(control::socket(tree).parent().unwrap()).unwrap();
        Self::start(tree, &["--listen", &format!("control={}", control::socket(tree).display())])
    }

    fn begin(tree: &Tree, arguments: &[&str]) -> Self {
        let daemon =
            Daemon::begin(tree, &[&["--listen", "metrics=127.0.0.1:0"], arguments].concat());
        let line = daemon.log.wait_for(&["listening ", "socket=metrics"]);
        let (_, address) = line.split_once("address=").unwrap();
        Self { metrics: address.parse().unwrap(), daemon }
    }

    pub(crate) fn scrape(&self) -> String {
        Connection::to(self.metrics).get("/metrics").text().to_owned()
    }

    /// The value of a series: a name with all its labels.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        let all = self.scrape();
        let value = all.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    pub(crate) fn wait_for(&self, series: &str, value: f64) {
        eventually(&format!("{series} to be {value}"), || {
            (self.value(series) == Some(value)).then_some(())
        });
    }
}

#[test]
fn requests_are_counted_by_their_status_and_time() {
    let tree = Tree::new().with("statuses").with("traps_in_request");
    let measured = Measured::start(&tree, &[]);
    let requests = |plugin: &str, class: &str| {
        let labels = format!("{{plugin=\"{plugin}\",class=\"{class}\"}}");
        measured.value(&format!("plugind_plugin_requests_total{labels}"))
    };
    assert_eq!(requests("statuses", "2xx"), Some(0.0));
    for (path, status) in [("200", 200), ("200", 200), ("301", 301), ("404", 404), ("500", 500)] {
        assert_eq!(measured.daemon.get(&format!("/statuses/{path}")).status(), status);
    }
    assert_eq!(measured.daemon.get("/traps-in-request/trap").status(), 502);
    let counts = ["2xx", "3xx", "4xx", "5xx"].map(|class| requests("statuses", class));
    assert_eq!(counts, [Some(2.0), Some(1.0), Some(1.0), Some(1.0)]);
    assert_eq!(requests("traps-in-request", "5xx"), Some(1.0));

    let duration = "plugind_plugin_request_duration_seconds";
    let count = format!("{duration}_count{{plugin=\"statuses\"}}");
    assert_eq!(measured.value(&count), Some(5.0));
    let sum = measured.value(&format!("{duration}_sum{{plugin=\"statuses\"}}"));
    assert!(sum.unwrap() > 0.0);
    // Each of the five responses has a body of 6 bytes, that of the redirection, too.
    measured.wait_for("plugind_plugin_sent_bytes_total{plugin=\"statuses\"}", 30.0);
    assert!(
        measured.value("plugind_plugin_busy_seconds_total{plugin=\"statuses\"}").unwrap() > 0.0
    );
    let memory = |which: &str| {
        measured.value(&format!("plugind_plugin_memory_{which}bytes{{plugin=\"statuses\"}}"))
    };
    let (now, peak, limit) = (memory("").unwrap(), memory("peak_"), memory("limit_"));
    assert!(0.0 < now && now <= peak.unwrap() && peak < limit, "{now} {peak:?} {limit:?}");
}

#[test]
fn the_bytes_of_messages_over_websockets_are_counted() {
    let measured = Measured::start(&Tree::new().with("messages"), &[]);
    let mut client = websockets::open(&measured.daemon, "/messages");
    assert_eq!(websockets::echo(&mut client, "seven b"), "seven b");
    for direction in ["received", "sent"] {
        measured.wait_for(
            &format!("plugind_plugin_{direction}_bytes_total{{plugin=\"messages\"}}"),
            7.0,
        );
    }
}

#[test]
fn operations_on_stores_and_requests_to_other_plugins_are_counted() {
    let calls = "[grants]\ncall = [\"stores\", \"gone\"]\n";
    let tree = Tree::new()
        .with_manifest("calls", calls)
        .with_manifest("stores", "[grants]\nkeyvalue = { quota = \"100\" }\n");
    let measured = Measured::start(&tree, &[]);
    let counted = |plugin: &str, metric: &str| {
        measured.value(&format!("plugind_plugin_{metric}_total{{plugin=\"{plugin}\"}}"))
    };
    let stores = || ["keyvalue_operations", "keyvalue_failures"].map(|it| counted("stores", it));
    let callers = || ["calls", "calls_failed"].map(|it| counted("calls", it));
    assert_eq!((stores(), callers()), ([Some(0.0); 2], [Some(0.0); 2]));
    let large = "x".repeat(100);
    for (path, answer) in [
        ("03/stores/set/key/value".to_owned(), "200 done"),
        ("02/stores/get-many/key/none".to_owned(), "200 value none"),
        (format!("03/stores/set/large/{large}"), "200 error: "),
        // The daemon answers for a plugin that is not there.
        ("03/gone".to_owned(), "503 "),
        ("02/statuses".to_owned(), "error: ErrorCode::HttpRequestDenied"),
    ] {
        let seen = measured.daemon.get(&format!("/calls/{path}"));
        assert!(seen.text().starts_with(answer), "{path}: {}", seen.text());
    }
    assert_eq!(stores(), [Some(3.0), Some(1.0)], "a batch is one operation");
    assert_eq!(callers(), [Some(5.0), Some(2.0)]);
    assert_eq!(measured.daemon.get("/stores/set/key/other").text(), "done");
    assert_eq!((stores()[0], callers()[0]), (Some(4.0), Some(5.0)));
}

#[test]
fn waits_for_an_instance_and_the_size_of_a_state_are_measured() {
    let manifest = "[grants]\nstate = true\n[instances]\nmode = \"exclusive\"\n";
    let tree = Tree::new().with_manifest("files", manifest).with("traps_02");
    let state = tree.root().join("var/lib/plugind/files/below");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("note"), [0; 1234]).unwrap();
    let measured = Measured::start(&tree, &[]);
    measured.wait_for("plugind_plugin_state_size_bytes{plugin=\"files\"}", 1234.0);
    assert_eq!(measured.value("plugind_plugin_state_size_bytes{plugin=\"traps-02\"}"), None);
    for plugin in ["files", "traps-02"] {
        let count = format!("plugind_plugin_queue_duration_seconds_count{{plugin=\"{plugin}\"}}");
        assert_eq!(measured.value(&count), Some(0.0));
        assert_eq!(measured.daemon.get(&format!("/{plugin}")).status(), 200);
        assert_eq!(measured.value(&count), Some(1.0), "{plugin}");
    }
}

#[test]
fn a_failed_instance_is_counted_by_its_result_and_replaced() {
    let manifest = format!("required = false\n{}", crate::RESTARTS);
    let tree = Tree::new().with_manifest("traps_in_request", &manifest);
    let measured = Measured::start(&tree, &[]);
    measured.wait_for("plugind_plugin_ready{plugin=\"traps-in-request\"}", 1.0);
    assert_eq!(measured.daemon.get("/traps-in-request/trap").status(), 502);
    let failures = "plugind_plugin_instance_failures_total";
    let failures = format!("{failures}{{plugin=\"traps-in-request\",result=\"trap\"}}");
    measured.wait_for(&failures, 1.0);
    measured.wait_for("plugind_plugin_instances{plugin=\"traps-in-request\"}", 1.0);
    measured.wait_for("plugind_plugin_state{plugin=\"traps-in-request\",state=\"active\"}", 1.0);
}

#[test]
fn reloads_are_counted_and_counters_continue_over_them() {
    let tree = Tree::new().with("statuses").with("headers");
    let measured = Measured::start(&tree, &[]);
    let (requests, generation) = (
        "plugind_plugin_requests_total{plugin=\"statuses\",class=\"2xx\"}",
        "plugind_plugin_generation{plugin=\"statuses\"}",
    );
    assert_eq!(measured.daemon.get("/statuses/200").status(), 200);
    let before = measured.value(generation).unwrap();
    measured.daemon.tree().put("statuses.wasm", another("statuses"));
    measured.daemon.tree().remove("headers.wasm");
    measured.daemon.reload();
    measured.wait_for("plugind_reloads_total{outcome=\"success\"}", 1.0);
    assert!(measured.value(generation).unwrap() > before);
    assert_eq!(measured.daemon.get("/statuses/200").status(), 200);
    measured.wait_for(requests, 2.0);
    eventually("the removed plugin to be gone", || {
        (!measured.scrape().contains("\"headers\"")).then_some(())
    });

    measured.daemon.tree().put("statuses.toml", "strange = 1\n");
    measured.daemon.reload();
    measured.wait_for("plugind_reloads_total{outcome=\"failed\"}", 1.0);
    assert_eq!(measured.value(requests), Some(2.0), "the previous version keeps serving");
}

#[test]
fn a_plugin_on_demand_is_ready_and_has_no_instance_before_its_first_request() {
    let manifest = "on-demand = true\nidle-timeout-sec = \"1h\"\n";
    let measured = Measured::start(&Tree::new().with_manifest("headers", manifest), &[]);
    let wait_for = |metric: &str, more: &str, value| {
        measured.wait_for(&format!("plugind_plugin_{metric}{{plugin=\"headers\"{more}}}"), value);
    };
    wait_for("ready", "", 1.0);
    wait_for("on_demand", "", 1.0);
    wait_for("state", ",state=\"inactive\"", 1.0);
    wait_for("instances", "", 0.0);
    assert_eq!(measured.daemon.get("/headers").status(), 200);
    wait_for("on_demand", "", 0.0);
    wait_for("state", ",state=\"active\"", 1.0);
    wait_for("instances", "", 1.0);
}

#[test]
fn metrics_can_be_read_while_plugins_start() {
    let measured = Measured::begin(&Tree::new().with("never_ready"), &[]);
    measured.wait_for("plugind_plugin_state{plugin=\"never-ready\",state=\"activating\"}", 1.0);
    assert_eq!(measured.value("plugind_plugin_ready{plugin=\"never-ready\"}"), Some(0.0));
    assert_eq!(measured.value("plugind_plugin_generation{plugin=\"never-ready\"}"), None);
}

#[test]
fn connections_and_their_bytes_are_counted_of_sockets_and_plugins() {
    let tree = Tree::new().with_manifest("echoes", "[[serve]]\nsocket = \"echo\"\n");
    let measured = Measured::start(&tree, &["--listen", "echo=127.0.0.1:0"]);
    let line = measured.daemon.log.wait_for(&["listening ", "socket=echo"]);
    let (_, address) = line.split_once("address=").unwrap();
    let mut stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    for (series, value) in [
        ("plugind_plugin_connections{plugin=\"echoes\"}", 1.0),
        ("plugind_plugin_connections_begun_total{plugin=\"echoes\"}", 1.0),
        ("plugind_plugin_received_bytes_total{plugin=\"echoes\"}", 5.0),
        ("plugind_plugin_sent_bytes_total{plugin=\"echoes\"}", 5.0),
        ("plugind_socket_connections{socket=\"echo\"}", 1.0),
        ("plugind_socket_connections_accepted_total{socket=\"echo\"}", 1.0),
    ] {
        measured.wait_for(series, value);
    }
    drop(stream);
    measured.wait_for("plugind_plugin_connections{plugin=\"echoes\"}", 0.0);
    measured.wait_for("plugind_socket_connections{socket=\"echo\"}", 0.0);
}

#[test]
fn a_connection_that_waits_for_an_instance_does_not_count_as_passed_to_the_plugin() {
    let manifest = "[[serve]]\nsocket = \"echo\"\n[instances]\nmax = 1\nconcurrency = 1\n\
                    [limits]\nrequest-timeout = \"1h\"\n";
    let tree = Tree::new().with_manifest("echoes", manifest);
    let measured = Measured::start(&tree, &["--listen", "echo=127.0.0.1:0"]);
    let line = measured.daemon.log.wait_for(&["listening ", "socket=echo"]);
    let (_, address) = line.split_once("address=").unwrap();
    let connect = || {
        let mut stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(b"hello").unwrap();
        stream
    };
    let mut served = connect();
    served.read_exact(&mut [0; 5]).unwrap();
    let mut waits = connect();
    measured.wait_for("plugind_plugin_queued{plugin=\"echoes\"}", 1.0);
    let begun = "plugind_plugin_connections_begun_total{plugin=\"echoes\"}";
    assert_eq!(measured.value(begun), Some(1.0));
    drop(served);
    waits.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(measured.value(begun), Some(2.0));
    measured.wait_for("plugind_plugin_received_bytes_total{plugin=\"echoes\"}", 10.0);
}

#[test]
fn a_client_gets_the_format_that_it_asks_for_and_nothing_but_metrics() {
    let measured = Measured::start(&Tree::new().with("statuses"), &[]);
    let mut connection = Connection::to(measured.metrics);
    connection.request("GET", "/metrics", &["Accept: application/openmetrics-text; version=1.0.0"]);
    let response = connection.response();
    let media_type = response.head.field("content-type").unwrap();
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"), "{media_type}");
    let text = response.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("# UNIT plugind_uptime_seconds seconds\n"), "{text}");
    assert_eq!(connection.get("/").status(), 404);
    connection.request("POST", "/metrics", &["Content-Length: 0"]);
    assert_eq!(connection.response().status(), 405);
    let plain = connection.get("/metrics");
    assert!(plain.head.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
}

/// All replies to a call of a method by varlink.
fn replies(tree: &Tree, call: &Value) -> Vec<Value> {
    let mut stream = UnixStream::connect(control::socket(tree)).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    let mut replies = Vec::new();
    for reply in BufReader::new(stream).split(0) {
        let reply: Value = serde_json::from_slice(&reply.unwrap()).unwrap();
        let continues = reply["continues"] == true;
        replies.push(reply);
        if !continues {
            break;
        }
    }
    replies
}

#[test]
fn systemd_gets_the_metrics_by_varlink_one_in_each_reply() {
    let tree = Tree::new().with("statuses");
    let daemon = control::start(&tree);
    assert_eq!(daemon.get("/statuses/404").status(), 404);
    let list = json!({ "method": "io.systemd.Metrics.List", "more": true });
    let list = replies(&tree, &list);
    let requests = list.iter().map(|reply| &reply["parameters"]).find(|it| {
        it["name"] == "io.plugind.pluginRequestsTotal" && it["fields"]["class"] == "4xx"
    });
    let requests = requests.unwrap_or_else(|| panic!("{list:?}"));
    assert_eq!((&requests["object"], &requests["value"]), (&json!("statuses"), &json!(1)));

    let describe = json!({ "method": "io.systemd.Metrics.Describe", "more": true });
    let described = replies(&tree, &describe);
    let described: Vec<_> = described.iter().map(|reply| &reply["parameters"]).collect();
    let names: Vec<_> = described.iter().map(|it| &it["name"]).collect();
    for listed in list.iter().map(|reply| &reply["parameters"]["name"]) {
        assert!(names.contains(&listed), "{listed} is not described");
    }
    let kinds = ["counter", "gauge", "string", "object"].map(Value::from);
    assert!(described.iter().all(|it| kinds.contains(&it["type"])), "{described:?}");
    let once = replies(&tree, &json!({ "method": "io.systemd.Metrics.List" }));
    assert_eq!(once[0]["error"], "org.varlink.service.ExpectedMore");
}

#[test]
fn top_list_and_status_show_what_a_plugin_uses_and_does() {
    let tree = Tree::new().with("statuses");
    let daemon = control::start(&tree);
    for _ in 0..5 {
        assert_eq!(daemon.get("/statuses/200").status(), 200);
    }
    let json: Value =
        serde_json::from_str(&control::run(&tree, &["top", "--json"]).stdout).unwrap();
    let usage = &json["plugins"][0]["usage"];
    assert_eq!((&usage["responses"], &usage["inFlight"]), (&json!(5), &json!(0)), "{json}");
    assert!(usage["memory"].as_u64() > Some(0) && usage["p99"].as_u64() > Some(0), "{json}");
    let top = control::run(&tree, &["top", "--once"]).stdout;
    assert!(top.starts_with("NAME "), "{top}");
    assert!(top.ends_with("\n1 plugin\n"), "{top}");
    let status = control::run(&tree, &["status", "statuses"]).stdout;
    for line in ["     Memory: ", "        CPU: ", "    Traffic: "] {
        assert!(status.contains(line), "{status}");
    }
    let list = control::run(&tree, &["list"]).stdout;
    let row = control::row(&list, "statuses");
    let [.., rate, half, most, in_flight, routes] = &row[..] else { panic!("{list}") };
    assert!(rate.ends_with("/s") && half.ends_with('s') && most.ends_with('s'), "{list}");
    assert_eq!((*in_flight, *routes), ("0", "/statuses"), "{list}");
}

#[test]
fn a_plugin_that_starts_is_shown_with_what_it_says_and_how_long_it_takes() {
    let tree = Tree::new().with("never_ready");
    let _daemon = control::begin(&tree);
    let shown = eventually("the plugin to start", || {
        let list = control::run(&tree, &["list"]).stdout;
        let starts = list.contains("activating (starting ") && list.contains("waits for ever");
        starts.then_some(list)
    });
    assert!(shown.contains("s of 30s)"), "{shown}");
    let status = control::run(&tree, &["status", "never-ready"]).stdout;
    assert!(status.contains("     Active: activating (starting "), "{status}");
    assert!(status.contains("     Status: waits for ever\n"), "{status}");
    let top = control::run(&tree, &["top", "--once"]).stdout;
    assert!(top.contains(" starting ") && top.contains(" waits for ever\n"), "{top}");
}
