//! The start and the stop of plugins, and their effect on the daemon.

use crate::RESTARTS;
use plugind_tests::{Daemon, Signal, Tree, end_of};

#[test]
fn the_daemon_is_ready_when_every_required_plugin_is_and_serves_nobody_before() {
    let tree = Tree::new().with("warmup").with("greeter_02");
    let daemon = Daemon::begin(&tree, &[]);
    // It waits in the kernel's queue.
    let mut early = daemon.connect();
    early.request("GET", "/warmup", &[]);
    assert_eq!(early.response().status_and_text(), (200, "warm\n"));
    daemon.log.wait_for_in_order(
        0,
        &[
            &["plugind: listening"],
            &["notice  plugind[warmup]: warm steps=5"],
            &["plugind: plugin ready", "plugin=warmup", "route=/warmup"],
            &["plugind: ready plugins=2"],
        ],
    );
}

#[test]
fn a_start_may_compute_for_longer_than_the_watchdog_allows_later() {
    let manifest = "[service]\ntimeout-start-sec = \"5min\"\nwatchdog-sec = \"100ms\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("start_computes", manifest));
    assert_eq!(daemon.get("/start-computes").text(), "fine");
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_plugin_that_asks_for_more_time_to_start_gets_it() {
    let short = "[service]\ntimeout-start-sec = \"1s\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("warmup", short));
    assert_eq!(daemon.get("/warmup").status_and_text(), (200, "warm\n"));
}

#[test]
fn a_plugin_that_is_not_required_keeps_nobody_waiting() {
    let never = "required = false\n[service]\ntimeout-start-sec = \"1s\"\nrestart-sec = \"1ms\"\n\
                 start-limit-burst = 1\n";
    let tree = Tree::new().with_manifest("never_ready", never).with("greeter_02");
    let daemon = Daemon::start(&tree);
    assert_eq!(
        daemon.get("/never-ready").status_and_text(),
        (503, "plugin never-ready is not ready\n")
    );
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    let ended =
        ["instance failed", "plugin=never-ready", "result=timeout", "its start took too long"];
    daemon.log.wait_for_times(2, &ended);
    let failed = ["err     plugind: plugin failed", "plugin=never-ready", "stage=start"];
    assert!(daemon.log.wait_for(&failed).contains("start-limit-hit"));
    assert_eq!(
        daemon.get("/never-ready").status_and_text(),
        (503, "plugin never-ready is not ready\n")
    );
}

#[test]
fn a_required_plugin_that_cannot_start_ends_the_daemon_which_says_why() {
    let short = "[service]\ntimeout-start-sec = \"1s\"\n";
    for (guest, manifest, status, result, why) in [
        ("traps_on_start", "", 1, "trap", "wasm"),
        ("start_loops", short, 1, "timeout", "its start took too long"),
        ("never_ready", short, 1, "timeout", "its start took too long"),
        ("start_configuration", "", 78, "configuration", "no key \\\"token\\\""),
    ] {
        let tree = Tree::new().with_manifest(guest, manifest).with("greeter_02");
        let ended = end_of(&tree, &[]);
        let named = format!("plugin={} ", guest.replace('_', "-"));
        let result = format!("result={result} ");
        ended.log.wait_for(&["warning plugind: instance failed", &named, &result, why]);
        ended.log.wait_for(&["err     plugind: plugin failed", &named, "stage=start", why]);
        ended.log.wait_for(&["err     plugind: startup failed", why]);
        assert_eq!(ended.status, status, "{guest}");
        assert_eq!(ended.log.count(&["plugind: ready"]), 0, "{guest}");
    }
}

#[test]
fn what_a_plugin_needs_and_is_not_there_yet_is_waited_for() {
    let manifest = format!("{RESTARTS}restart-steps = 0\n");
    let mut daemon = Daemon::begin(&Tree::new().with_manifest("start_unavailable", &manifest), &[]);
    let parts = ["instance failed", "plugin=start-unavailable", "result=unavailable", "database"];
    daemon.log.wait_for_times(10, &parts);
    assert_eq!(daemon.log.count(&["plugind: ready"]), 0);
    assert_eq!(daemon.log.count(&["plugin failed"]), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_signal_ends_the_daemon_before_it_is_ready_too() {
    for signal in [Signal::TERM, Signal::INT] {
        let tree = Tree::new().with("never_ready").with("says_stop");
        let mut daemon = Daemon::begin(&tree, &["--log", "debug"]);
        daemon.log.wait_for(&["plugin ready", "plugin=says-stop"]);
        daemon.signal(signal);
        assert_eq!(daemon.wait(), 0);
        daemon.log.wait_for(&["info    plugind: stopped"]);
        assert_eq!(daemon.log.count(&["plugind: ready"]), 0);
    }
}

#[test]
fn a_ready_plugin_gets_stop_although_another_was_never_ready() {
    let tree = Tree::new().with("never_ready").with("says_stop");
    let mut daemon = Daemon::begin(&tree, &[]);
    daemon.log.wait_for(&["plugin ready", "plugin=says-stop"]);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["plugind[says-stop]: stopped: StopReason::Shutdown"]), 1);
}

#[test]
fn stop_receives_the_reason() {
    let tree = Tree::new().with("says_stop").with_named("other", "says_stop", "");
    let mut daemon = Daemon::start(&tree);
    tree.put("says-stop.toml", "[instances]\nmax = 1\nrecycle-after = 1\n");
    daemon.reload();
    daemon.log.wait_for(&["info    plugind[says-stop]: stopped: StopReason::Reload"]);

    assert_eq!(daemon.get("/says-stop").status(), 200);
    daemon.log.wait_for(&["info    plugind[says-stop]: stopped: StopReason::Recycle"]);

    tree.remove("says-stop.wasm");
    tree.remove("says-stop.toml");
    daemon.reload();
    daemon.log.wait_for(&["info    plugind: plugin removed", "plugin=says-stop"]);

    assert_eq!(daemon.stop(), 0);
    daemon.log.wait_for_in_order(
        0,
        &[
            &["info    plugind: stopping"],
            &["info    plugind[other]: stopped: StopReason::Shutdown"],
            &["info    plugind: stopped"],
        ],
    );
    assert_eq!(daemon.log.count(&["plugind[other]:"]), 1);
}

#[test]
fn a_plugin_that_is_removed_gets_stop_with_this_reason() {
    let tree = Tree::new().with("says_stop");
    let daemon = Daemon::start(&tree);
    tree.remove("says-stop.wasm");
    assert!(daemon.reload().contains("removed=1"));
    daemon.log.wait_for(&["info    plugind: plugin removed", "plugin=says-stop"]);
    daemon.log.wait_for(&["info    plugind[says-stop]: stopped: StopReason::Removed"]);
    assert_eq!(daemon.get("/says-stop").status(), 404);
}

#[test]
fn a_plugin_that_takes_its_time_to_stop_is_waited_for_as_long_as_its_manifest_says() {
    let short = "[service]\ntimeout-stop-sec = \"100ms\"\n";
    let tree = Tree::new().with("stops_slowly").with_named("too-slow", "stops_slowly", short);
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.stop(), 0);
    daemon.log.wait_for_in_order(
        0,
        &[
            &["plugind: stopping"],
            &["plugind[stops-slowly]: stopped: StopReason::Shutdown"],
            &["plugind: stopped"],
        ],
    );
    assert_eq!(daemon.log.count(&["plugind[too-slow]:"]), 0);
}

#[test]
fn stop_is_called_although_a_task_runs_that_only_stop_ends() {
    let mut daemon = Daemon::start(&Tree::new().with("works_until_stop"));
    assert_eq!(daemon.get("/works-until-stop").status_and_text(), (200, "fine"));
    assert_eq!(daemon.stop(), 0);
    daemon.log.wait_for_in_order(
        0,
        &[
            &["plugind: stopping"],
            &["plugind[works-until-stop]: stopped: StopReason::Shutdown"],
            &["plugind[works-until-stop]: its work has ended"],
            &["plugind: stopped"],
        ],
    );
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn each_change_of_a_status_is_logged() {
    let daemon = Daemon::start_with(&Tree::new().with("status_talks"), &["--log", "debug"]);
    let said = |text: &str| format!("text=\"{text}\"");
    let (first, third, last) = (said("step 1 of 3"), said("step 3 of 3"), said("at your service"));
    let status = ["debug   plugind: status", "plugin=status-talks"];
    daemon.log.wait_for_in_order(
        0,
        &[
            &[&status[..], &[&first]].concat(),
            &[&status[..], &[&third]].concat(),
            &[&status[..], &[&said("")]].concat(),
            &[&status[..], &[&last]].concat(),
            &["plugind: plugin ready"],
        ],
    );
}

#[test]
fn a_program_that_returns_is_restarted_only_if_its_manifest_says_so() {
    let always = format!("required = false\n{RESTARTS}restart = \"always\"\n");
    let tree = Tree::new().with("program_ends").with_named("again", "program_ends", &always);
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for_in_order(
        0,
        &[
            &["info    plugind[program-ends]: done"],
            &[
                "info    plugind: background program finished",
                "plugin=program-ends",
                "result=success",
            ],
        ],
    );
    daemon.log.wait_for_times(5, &["plugind[again]: done"]);
    assert_eq!(daemon.log.count(&["plugind[program-ends]: done"]), 1);
    assert_eq!(daemon.get("/program-ends").status(), 404);
    assert_eq!(daemon.get("/again").status(), 404);
}

#[test]
fn a_program_gets_the_arguments_of_its_manifest_behind_its_name() {
    let manifest = "arguments = [\"--interval\", \"\", \"10 s\"]\n";
    let tree = Tree::new().with_named("paced", "program_arguments", manifest);
    let daemon = Daemon::start(&tree.with("program_arguments"));
    for (nth, argument) in ["paced", "--interval", "", "10 s"].iter().enumerate() {
        daemon.log.wait_for(&[&format!("plugind[paced]: argument {nth}: {argument}")]);
    }
    daemon.log.wait_for(&["plugind[program-arguments]: argument 0: program-arguments"]);
    assert_eq!(daemon.log.count(&["plugind[program-arguments]: argument 1"]), 0);
}

#[test]
fn a_program_that_fails_is_started_again_as_its_manifest_says() {
    let limited = "required = false\n[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 2\n";
    let never = "required = false\n[service]\nrestart = \"no\"\n";
    let mut tree = Tree::new();
    for (guest, manifest) in [("program_fails", limited), ("program_traps", limited)] {
        tree = tree.with_manifest(guest, manifest);
    }
    tree = tree.with_named("once", "program_fails", never);
    let daemon = Daemon::start(&tree);
    for (plugin, result, words, times) in [
        ("program-fails", "result=exit-code ", "about to fail", 3),
        ("program-traps", "result=trap ", "about to trap", 3),
        ("once", "result=exit-code ", "about to fail", 1),
    ] {
        let named = format!("plugin={plugin} ");
        let failed = daemon.log.wait_for(&["plugin failed", &named, "stage=start"]);
        assert_eq!(failed.contains("start-limit-hit"), times > 1, "{failed}");
        assert_eq!(daemon.log.count(&["instance failed", &named, result]), times, "{plugin}");
        let said = format!("plugind[{plugin}]: {words}");
        assert_eq!(daemon.log.count(&[&said]), times, "{plugin}");
    }
}

#[test]
fn a_program_that_does_not_return_is_ended_with_the_daemon() {
    let mut daemon = Daemon::start(&Tree::new().with("ticker"));
    daemon.log.wait_for(&["info    plugind[ticker]: tick 2"]);
    assert_eq!(daemon.get("/ticker").status(), 404);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn where_there_is_no_address_space_for_a_pool_plugins_are_served_without_one() {
    let tree = Tree::new().with("hello").with("greeter_02");
    let mut daemon = Daemon::start_within(&tree, 256 << 30);
    daemon.log.wait_for(&["warning plugind: instance pool unavailable"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.get("/greeter-02").status(), 200);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_instance_that_reaches_its_age_finishes_its_requests_and_is_replaced() {
    let aged = "[instances]\nmax = 1\nrecycle-age = \"1s\"\n";
    let tree = Tree::new().with_manifest("says_stop", aged).with_manifest("streams", aged);
    let daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    let head = client.head();
    let stopped = ["plugind[says-stop]: stopped: StopReason::Recycle"];
    daemon.log.wait_for_times(3, &stopped);
    assert_eq!(daemon.get("/says-stop").status(), 200);
    assert_eq!(
        daemon.get("/streams").status_and_text(),
        (200, "fine"),
        "its successor has its place"
    );

    client.write_chunk(b"still there");
    client.write_chunk(b"");
    let mut body = Vec::new();
    client.body(&head, |piece| body.extend_from_slice(piece));
    assert_eq!((head.status, &*body), (200, &b"still there"[..]));
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_plugin_that_failed_for_good_ends_the_daemon_if_its_manifest_says_so() {
    let policy = "[service]\nrestart = \"no\"\n";
    let exit = format!("required = false\n{policy}failure-action = \"exit\"\n");
    let tree = Tree::new().with_manifest("traps_in_request", &exit).with("says_stop");
    let tree = tree.with_named("other", "traps_in_request", policy);
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/other/trap").status(), 502);
    daemon.log.wait_for(&["plugind: plugin failed", "plugin=other", "stage=run"]);
    assert_eq!(daemon.get("/says-stop").status(), 200, "the others continue");

    // It is not required, so the daemon may be ready before it is.
    daemon.log.wait_for(&["plugin ready", "plugin=traps-in-request"]);
    assert_eq!(daemon.get("/traps-in-request/trap").status(), 502);
    assert_eq!(daemon.wait(), 1);
    daemon.log.wait_for_in_order(
        0,
        &[
            &["plugind: plugin failed", "plugin=traps-in-request", "stage=run"],
            &["plugind: stopping"],
            &["plugind[says-stop]: stopped: StopReason::Shutdown"],
            &["err     plugind: daemon failed", "plugin traps-in-request failed at run", "wasm"],
        ],
    );
}
