//! Plugins that start on demand: tried at the start, started by their first work, and stopped when they have none.

use crate::{
    calls::may_call,
    control::{row, run, start},
    streams::{connect, echo, free},
    websockets,
};
use plugind_tests::{Daemon, Tree, another, end_of};
use std::{net::UdpSocket, thread};

/// A manifest of a plugin on demand that is stopped soon, with these lines at its end.
fn on_demand(more: &str) -> String {
    format!("on-demand = true\nidle-timeout-sec = \"200ms\"\n{more}")
}

/// The same, of one that is not stopped while a test lasts.
const PATIENT: &str = "on-demand = true\nidle-timeout-sec = \"1h\"\n";

/// Waits until a plugin has become idle so often.
fn wait_until_idle(daemon: &Daemon, plugin: &str, times: usize) {
    daemon.log.wait_for_times(times, &["plugind: plugin idle", &format!("plugin={plugin} ")]);
}

/// The state of a plugin, in the words of `pluginctl list`.
fn state(tree: &Tree, plugin: &str) -> String {
    let list = run(tree, &["list"]).stdout;
    let row = row(&list, plugin);
    let words = row[1..].iter().take_while(|word| **word != "success" && !word.contains('-'));
    words.copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_plugin_on_demand_is_started_by_a_request_and_stopped_when_idle() {
    let tree = Tree::new().with_manifest("says_stop", &on_demand(""));
    let mut daemon = start(&tree);
    daemon.log.wait_for(&["plugin ready", "plugin=says-stop"]);
    for round in 1..=3 {
        assert_eq!(state(&tree, "says-stop"), "inactive (on demand)");
        for arguments in [&["status", "says-stop"][..], &["status"], &["list"]] {
            let ran = run(&tree, arguments);
            assert_eq!(ran.status, Some(0), "{arguments:?} reports no failure: {}", ran.stdout);
        }
        let json = run(&tree, &["status", "says-stop", "--json"]).stdout;
        let words = r#""activeState":"inactive","subState":"on demand""#;
        assert!(json.contains(words) && json.contains(r#""workers":0"#), "{json}");
        let status = run(&tree, &["status"]).stdout;
        assert!(status.contains("1 of 1 plugins ready; on demand: says-stop"), "{status}");
        let top = run(&tree, &["top", "--once"]).stdout;
        assert!(top.contains("on demand"), "{top}");

        assert_eq!(daemon.get("/says-stop").status(), 200);
        wait_until_idle(&daemon, "says-stop", round);
    }
    daemon.log.wait_for_times(3, &["plugind: plugin started on demand", "plugin=says-stop"]);
    daemon.log.wait_for_times(3, &["plugind[says-stop]: stopped: StopReason::Idle"]);
    assert_eq!(daemon.log.count(&["plugin ready"]), 1, "it is the same generation");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["plugind[says-stop]:"]), 3, "an idle one has nothing to stop");
}

#[test]
fn a_plugin_that_serves_is_active_and_counts_as_such() {
    let tree = Tree::new().with_manifest("hello", PATIENT).with_named("other", "hello", "");
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(state(&tree, "hello"), "active");
    let status = run(&tree, &["status"]).stdout;
    assert!(status.contains("2 of 2 plugins ready") && !status.contains("demand"), "{status}");
}

#[test]
fn all_first_requests_wait_for_one_instance() {
    let manifest = format!("{PATIENT}[instances]\nmax = 1\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("says_stop", &manifest));
    let statuses = thread::scope(|scope| {
        let clients = [(); 20].map(|()| scope.spawn(|| daemon.get("/says-stop").status()));
        clients.map(|client| client.join().unwrap())
    });
    assert_eq!(statuses, [200; 20]);
    daemon.log.wait_for(&["plugin started on demand"]);
    assert_eq!(daemon.log.count(&["plugin started on demand"]), 1);
}

#[test]
fn no_request_fails_while_instances_come_and_go() {
    let manifest = "on-demand = true\nidle-timeout-sec = \"100ms\"\n";
    let tree = Tree::new().with_manifest("says_stop", manifest).with_manifest("keeps", manifest);
    let daemon = Daemon::start(&tree);
    thread::scope(|scope| {
        for (plugin, path) in [("says-stop", "/says-stop"), ("keeps", "/keeps")] {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut times = 0;
                // Each round begins at another moment of the worker's end.
                for round in 0..40 {
                    times += 1;
                    wait_until_idle(daemon, plugin, times);
                    for _ in 0..round % 3 {
                        assert_eq!(daemon.get(path).status(), 200);
                    }
                    if round % 3 == 0 {
                        assert_eq!(daemon.get(path).status(), 200);
                    }
                }
            });
            // The first one is idle only after it has served.
            assert_eq!(daemon.get(path).status(), 200);
        }
    });
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn state_that_is_handed_over_is_kept_while_no_instance_is_there() {
    let tree = Tree::new().with_manifest("keeps", &on_demand(""));
    let daemon = start(&tree);
    for round in 1..=3 {
        let answer = daemon.get("/keeps");
        assert!(answer.text().ends_with(&format!(" count={round}")), "{}", answer.text());
        daemon.log.wait_for(&[&format!("plugind[keeps]: stopped: StopReason::Idle count={round}")]);
        wait_until_idle(&daemon, "keeps", round);
    }
    // A version that is only tried takes it over when it starts.
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(state(&tree, "keeps"), "inactive (on demand)");
    assert!(daemon.get("/keeps").text().ends_with(" count=4"));
}

#[test]
fn an_instance_whose_state_cannot_be_saved_is_not_stopped() {
    let manifest = on_demand("[config]\nsave = \"fail\"\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("keeps", &manifest));
    assert!(daemon.get("/keeps").text().ends_with(" count=1"));
    daemon.log.wait_for_times(2, &["state not saved, instance not replaced", "plugin=keeps"]);
    assert!(daemon.get("/keeps").text().ends_with(" count=2"));
    assert_eq!(daemon.log.count(&["plugin idle"]), 0);
}

#[test]
fn a_version_that_replaces_a_running_one_must_start_and_takes_its_state() {
    let tree = Tree::new().with_manifest("keeps", PATIENT);
    let daemon = start(&tree);
    assert!(daemon.get("/keeps").text().ends_with(" count=1"));
    tree.put("keeps.wasm", another("keeps"));
    assert!(daemon.reload().contains("changed=1 failed=0"));
    assert_eq!(state(&tree, "keeps"), "active");
    daemon.log.wait_for(&["plugind[keeps]: restored count=1"]);
    tree.put_guest("keeps", "start_configuration");
    assert!(daemon.reload().contains("failed=1"));
    assert!(daemon.get("/keeps").text().ends_with(" count=2"), "the version before serves");
}

#[test]
fn a_plugin_that_cannot_start_fails_at_its_first_request_and_says_so() {
    let once = "[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 1\n";
    for (guest, more, result) in
        [("start_configuration", "", "configuration"), ("traps_on_start", once, "start-limit-hit")]
    {
        let tree = Tree::new().with_manifest(guest, &format!("{PATIENT}{more}"));
        let daemon = start(&tree);
        let name = guest.replace('_', "-");
        assert_eq!(state(&tree, &name), "inactive (on demand)");
        let answer = daemon.get(&format!("/{name}"));
        assert_eq!(answer.status_and_text(), (503, &*format!("plugin {name} is not ready\n")));
        daemon.log.wait_for(&["plugin failed", &format!("plugin={name}"), "stage=start"]);
        let list = run(&tree, &["list"]);
        assert_eq!(list.status, Some(3));
        assert_eq!(run(&tree, &["status", &name]).status, Some(3));
        let row = row(&list.stdout, &name);
        assert!(row.contains(&"failed") && row.contains(&result), "{}", list.stdout);
        assert_eq!(daemon.get(&format!("/{name}")).status(), 503);
    }
}

#[test]
fn a_background_program_cannot_start_on_demand() {
    let tree = Tree::new().with_manifest("program_ends", "on-demand = true\n");
    let ended = end_of(&tree, &[]);
    assert_eq!(ended.status, 78);
    let rule = "program-ends.toml:1:13: on-demand cannot be used: the component exports no handler";
    ended.log.wait_for(&["plugin failed", "stage=verify", rule]);
}

#[test]
fn an_operator_stops_starts_and_restarts_a_plugin_on_demand() {
    let tree = Tree::new().with_manifest("hello", PATIENT);
    let daemon = start(&tree);
    let succeed = |arguments: &[&str]| {
        let ran = run(&tree, arguments);
        assert_eq!(ran.status, Some(0), "{arguments:?}: {}", ran.stderr);
    };
    succeed(&["wait", "hello", "--timeout", "1min"]);
    succeed(&["stop", "hello"]);
    assert_eq!(state(&tree, "hello"), "inactive (stopped)");
    assert_eq!(run(&tree, &["status", "hello"]).status, Some(3), "it serves no request");
    assert_eq!(daemon.get("/hello").status(), 503, "a request does not start it");
    succeed(&["start", "hello"]);
    assert_eq!(state(&tree, "hello"), "active", "an operator starts it at once");
    succeed(&["stop", "hello"]);
    tree.put("hello.wasm", another("hello"));
    succeed(&["start", "hello"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    succeed(&["restart", "hello"]);
    assert_eq!(state(&tree, "hello"), "active");
}

#[test]
fn an_idle_plugin_is_started_restarted_and_removed() {
    let tree = Tree::new().with_manifest("hello", PATIENT);
    let daemon = start(&tree);
    assert_eq!(run(&tree, &["restart", "hello"]).status, Some(0));
    assert_eq!(state(&tree, "hello"), "active");
    tree.put("hello.toml", format!("{PATIENT}description = \"new\"\n"));
    assert!(daemon.reload().contains("changed=1"));
    tree.remove("hello.wasm");
    tree.remove("hello.toml");
    assert!(daemon.reload().contains("removed=1"));
    assert_eq!(daemon.get("/hello").status(), 404);
}

#[test]
fn connections_and_datagrams_start_a_plugin_and_an_open_connection_keeps_it() {
    let (stream_address, datagram_address) = (free(), free());
    let socket = |name: &str| format!("{}[[serve]]\nsocket = \"{name}\"\n", on_demand(""));
    let tree = Tree::new().with_named("echo", "echoes", &socket("echo")).with_named(
        "dgram",
        "echoes",
        &socket("dgram"),
    );
    let listen = [format!("echo={stream_address}"), format!("dgram=udp:{datagram_address}")];
    let daemon = Daemon::start_with(&tree, &["--listen", &listen[0], "--listen", &listen[1]]);
    let mut client = connect(stream_address);
    assert_eq!(echo(&mut client, "hello"), "hello");
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_read_timeout(Some(plugind_tests::WAIT_MAX)).unwrap();
    for times in 1..=2 {
        socket.send_to(b"ping", datagram_address).unwrap();
        let mut answer = [0; 4];
        socket.recv_from(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
        wait_until_idle(&daemon, "dgram", times);
    }
    assert_eq!(daemon.log.count(&["plugin idle", "plugin=echo "]), 0, "its connection is open");
    assert_eq!(echo(&mut client, "again"), "again");
    drop(client);
    wait_until_idle(&daemon, "echo", 1);
}

#[test]
fn a_websocket_starts_a_plugin_and_keeps_it() {
    let tree = Tree::new().with_manifest("messages", &on_demand(""));
    let daemon = Daemon::start(&tree);
    let mut client = websockets::open(&daemon, "/messages");
    assert_eq!(websockets::echo(&mut client, "hello"), "hello");
    drop(client);
    wait_until_idle(&daemon, "messages", 1);
    assert_eq!(daemon.log.count(&["plugin started on demand"]), 1);
}

#[test]
fn a_call_of_another_plugin_starts_the_called_one() {
    let tree = Tree::new()
        .with_manifest("calls", &may_call(&["says-stop"]))
        .with_manifest("says_stop", &on_demand(""));
    let daemon = Daemon::start(&tree);
    for times in 1..=2 {
        let answer = daemon.get("/calls/03/says-stop");
        assert!(answer.text().starts_with("200 "), "{}", answer.text());
        wait_until_idle(&daemon, "says-stop", times);
    }
}

#[test]
fn a_plugin_with_an_instance_for_each_request_rests_without_requests() {
    let fresh = on_demand("[instances]\nmode = \"fresh\"\n");
    let tree = Tree::new().with_manifest("greeter_02", &fresh).with_manifest("starts_02", &fresh);
    let daemon = start(&tree);
    for times in 1..=3 {
        for plugin in ["greeter-02", "starts-02"] {
            assert_eq!(state(&tree, plugin), "inactive (on demand)");
            assert_eq!(daemon.get(&format!("/{plugin}")).status(), 200);
            wait_until_idle(&daemon, plugin, times);
        }
    }
    assert_eq!(daemon.log.count(&["plugind[starts-02]: started"]), 3, "none is started ahead");
    let started =
        |plugin: &str| ["plugin started on demand".to_owned(), format!("plugin={plugin} ")];
    for plugin in ["greeter-02", "starts-02"] {
        let started = started(plugin);
        assert_eq!(daemon.log.count(&[&*started[0], &*started[1]]), 3, "{plugin}");
    }
    // A restart makes an instance, and no request follows it.
    assert_eq!(run(&tree, &["restart", "greeter-02"]).status, Some(0));
    wait_until_idle(&daemon, "greeter-02", 4);
    assert_eq!(state(&tree, "greeter-02"), "inactive (on demand)");
}

#[test]
fn instances_beyond_the_least_number_are_stopped_without_work() {
    let manifest = "idle-timeout-sec = \"200ms\"\n[instances]\nmax = 4\nconcurrency = 1\n";
    let tree = Tree::new().with_manifest("sleeps", manifest);
    let daemon = start(&tree);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(daemon.get("/sleeps/sleep/500").status(), 200));
        }
    });
    let workers = |wanted: &str| {
        let wanted = format!(r#""workers":{wanted},"#);
        let reported = || run(&tree, &["status", "sleeps", "--json"]).stdout.contains(&wanted);
        plugind_tests::eventually(&wanted, || reported().then_some(()));
    };
    workers("1");
    tree.put("sleeps.toml", format!("{manifest}min = 3\n"));
    daemon.reload();
    workers("3");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_daemon_that_systemd_did_not_give_sockets_ignores_exit_on_idle() {
    let tree = Tree::new().with("hello").with_settings("exit-on-idle-sec = \"1s\"\n");
    let mut daemon = Daemon::start(&tree);
    let ignored = "warning plugind: exit-on-idle-sec ignored without sockets of systemd ";
    daemon.log.wait_for(&[ignored, "remedy="]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["exiting on idle"]), 0);
}
