//! A plugin is ready only after an instance of it existed, and counts as ready only while it serves.

use crate::control;
use plugind_tests::{Daemon, Signal, Tree, end_of, eventually};

/// A `wasi:http` 0.2 component whose core module has these fields beside its handler.
pub(crate) fn http_02(fields: &str) -> Vec<u8> {
    wat::parse_str(format!(
        "(component
           (import \"wasi:http/types@0.2.0\" (instance $types
             (export \"incoming-request\" (type (sub resource)))
             (export \"response-outparam\" (type (sub resource)))))
           (alias export $types \"incoming-request\" (type $request))
           (alias export $types \"response-outparam\" (type $outparam))
           (core module $m
             {fields}
             (func (export \"handle\") (param i32 i32)))
           (core instance $i (instantiate $m))
           (func $handle (param \"request\" (own $request)) (param \"response-out\" (own $outparam))
             (canon lift (core func $i \"handle\")))
           (instance $handler (export \"handle\" (func $handle)))
           (export \"wasi:http/incoming-handler@0.2.0\" (instance $handler)))"
    ))
    .unwrap()
}

/// Core modules that cannot be instantiated, each with a manifest's part, and its result and a word of the reason.
const UNUSABLE: [(&str, &str, &str, &str); 2] = [
    ("(func $f unreachable) (start $f)", "", "trap", "unreachable"),
    (
        "(func $f (loop $l (br $l))) (start $f)",
        "[service]\ntimeout-start-sec = \"1s\"\n",
        "timeout",
        "its start took too long",
    ),
];

#[test]
fn a_component_that_cannot_be_instantiated_is_never_ready() {
    assert_unusable_are_never_ready("");
}

#[test]
fn one_on_demand_that_cannot_be_instantiated_is_refused_before_any_request() {
    assert_unusable_are_never_ready("on-demand = true\n");
}

/// With this at the beginning of each manifest.
fn assert_unusable_are_never_ready(beginning: &str) {
    for (fields, manifest, result, why) in UNUSABLE {
        let tree = Tree::new();
        tree.put("bad.wasm", http_02(fields));
        tree.put("bad.toml", format!("{beginning}{manifest}"));
        let ended = end_of(&tree, &[]);
        let result = format!("result={result} ");
        ended.log.wait_for(&["instance failed", "plugin=bad ", &result, why]);
        ended.log.wait_for(&["err     plugind: plugin failed", "plugin=bad ", "stage=start", why]);
        assert_eq!(ended.status, 1, "{fields}");
        for line in ["plugind: ready", "plugind: plugin ready"] {
            assert_eq!(ended.log.count(&[line]), 0, "{fields}");
        }
    }
}

#[test]
fn a_component_whose_memory_exceeds_its_limit_is_refused_before_it_is_compiled() {
    let tree = Tree::new();
    tree.put("bad.wasm", http_02("(memory 64)"));
    tree.put("bad.toml", "[limits]\ninstance-memory-max = \"1M\"\n");
    let ended = end_of(&tree, &[]);
    let parts = ["err     plugind: plugin failed", "plugin=bad ", "stage=verify", "memory-max"];
    ended.log.wait_for(&parts);
    assert_eq!(ended.status, 78);
    assert_eq!(ended.log.count(&["plugin ready"]), 0);
}

#[test]
fn a_version_that_cannot_be_instantiated_replaces_nothing() {
    let tree = Tree::new().with("greeter_02");
    let daemon = Daemon::start(&tree);
    for (fields, manifest, _, why) in UNUSABLE {
        let place = daemon.log.place();
        tree.put("greeter-02.wasm", http_02(fields));
        tree.put("greeter-02.toml", manifest);
        assert!(daemon.reload().contains("failed=1"), "{fields}");
        daemon.log.wait_for_after(place, &["plugin failed", "stage=start", why]);
        assert_eq!(daemon.get("/greeter-02").status(), 200, "{fields}");
    }
}

#[test]
fn one_that_can_be_instantiated_makes_its_first_instance_before_it_is_ready() {
    let tree = Tree::new().with("traps_02");
    let daemon = Daemon::start_with(&tree, &["--log", "debug"]);
    assert_eq!(daemon.get("/traps-02").status_and_text(), (200, "fine"));
    assert_eq!(daemon.get("/traps-02/trap").status(), 502);
    assert_eq!(
        daemon.get("/traps-02").status_and_text(),
        (200, "fine"),
        "the trap concerned one request"
    );
    assert_eq!(daemon.log.count(&["plugin failed"]), 0);
}

#[test]
fn a_component_that_can_never_be_instantiated_hits_the_start_limit() {
    let tree = Tree::new();
    tree.put("bad.wasm", http_02(UNUSABLE[0].0));
    tree.put(
        "bad.toml",
        "required = false\n[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 2\n",
    );
    let daemon = Daemon::start(&tree);
    let failed = daemon.log.wait_for(&["plugin failed", "plugin=bad", "stage=start"]);
    assert!(failed.contains("start-limit-hit"), "{failed}");
    assert_eq!(daemon.log.count(&["instance failed", "plugin=bad ", "result=trap"]), 3);
    assert_eq!(daemon.get("/bad").status_and_text(), (503, "plugin bad is not ready\n"));
}

#[test]
fn an_instance_that_exits_with_code_0_while_it_serves_is_replaced() {
    let daemon = Daemon::start(&Tree::new().with("exits"));
    for _ in 0..3 {
        assert_eq!(daemon.get("/exits/exit").status(), 502);
        assert_eq!(daemon.get("/exits").status_and_text(), (200, "fine"));
    }
    let parts = ["instance failed", "plugin=exits", "result=exit-code", "it exited with code 0"];
    daemon.log.wait_for_times(3, &parts);
    assert_eq!(daemon.log.count(&["background program finished"]), 0);
}

#[test]
fn an_exit_with_code_0_in_start_is_a_failed_start() {
    let ended = end_of(&Tree::new().with_manifest("exits", "[config]\nexit = \"start\"\n"), &[]);
    ended.log.wait_for(&["plugin failed", "plugin=exits", "stage=start", "it exited with code 0"]);
    assert_eq!(ended.status, 1);
    assert_eq!(ended.log.count(&["plugind: ready"]), 0);
}

#[test]
fn a_program_that_traps_at_once_is_never_ready() {
    let ended = end_of(&Tree::new().with("program_traps"), &[]);
    ended.log.wait_for(&["plugin failed", "plugin=program-traps", "stage=start"]);
    assert_eq!(ended.status, 1);
    assert_eq!(ended.log.count(&["plugin ready"]), 0);
}

#[test]
fn a_program_is_not_ready_before_it_has_run_for_the_time_of_its_manifest() {
    let long = "[service]\nready-sec = \"1h\"\n";
    let tree = Tree::new().with_manifest("ticker", long).with_named("short", "ticker", "");
    let mut daemon = Daemon::begin(&tree, &[]);
    daemon.log.wait_for(&["plugind[ticker]: tick 1"]);
    daemon.log.wait_for(&["plugin ready", "plugin=short"]);
    assert_eq!(daemon.log.count(&["plugin ready", "plugin=ticker"]), 0);
    assert_eq!(daemon.log.count(&["plugind: ready"]), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_program_that_returned_well_is_ready_however_short_it_ran() {
    let long = "[service]\nready-sec = \"1h\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("program_ends", long));
    daemon.log.wait_for(&["plugind: ready plugins=1"]);
}

#[test]
fn an_optional_plugin_that_is_unavailable_is_retried_beyond_the_start_limit() {
    let manifest = "required = false\n[service]\nrestart-sec = \"1ms\"\nrestart-steps = 0\n\
                    start-limit-burst = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("start_unavailable", manifest));
    let parts = ["instance failed", "plugin=start-unavailable", "result=unavailable", "database"];
    daemon.log.wait_for_times(10, &parts);
    assert_eq!(daemon.log.count(&["plugin failed"]), 0);
    daemon.log.wait_for(&["plugind: ready plugins=0"]);
}

#[test]
fn the_status_of_a_retried_plugin_has_the_reason_and_time_of_the_next_attempt() {
    let manifest = "required = false\n[service]\nrestart-sec = \"1h\"\n";
    let tree = Tree::new().with_manifest("start_unavailable", manifest);
    let daemon = control::start(&tree);
    daemon.log.wait_for(&["instance failed", "plugin=start-unavailable"]);
    let shown = eventually("the next attempt", || {
        let shown = control::run(&tree, &["status", "start-unavailable"]);
        shown.stdout.contains("Next try: 20").then_some(shown)
    });
    for part in [
        "Active: activating (auto-restart) (Result: unavailable)",
        "Failed: at start: ",
        "database",
    ] {
        assert!(shown.stdout.contains(part), "{part} is not in {}", shown.stdout);
    }
    assert_is_retried(&tree, "start-unavailable", "(auto-restart)");
}

/// Proves that every command says that the only plugin does not serve and is tried again, by this word and its status.
fn assert_is_retried(tree: &Tree, plugin: &str, word: &str) {
    let [list, status, one] = [&["list"][..], &["status"], &["status", plugin]]
        .map(|arguments| control::run(tree, arguments));
    assert!(control::row(&list.stdout, plugin).contains(&word), "{}", list.stdout);
    assert!(list.stdout.ends_with("1 plugin, 0 failed, 1 retried\n"), "{}", list.stdout);
    let retried = [format!("; retried: {plugin} ("), format!("\n    Retried: {plugin}: at ")];
    assert!(retried.iter().all(|part| status.stdout.contains(part)), "{}", status.stdout);
    assert!(!status.stdout.contains("ailed: "), "{}", status.stdout);
    assert!(one.stdout.contains(&format!("Active: activating {word}")), "{}", one.stdout);
    assert_eq!([list.status, status.status, one.status], [Some(3); 3]);
}

#[test]
fn the_failure_of_an_earlier_version_is_not_reported_for_a_corrected_one() {
    let manifest = "required = false\n[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 1\n";
    let tree = Tree::new().with_named("late", "traps_on_start", manifest);
    let daemon = control::start(&tree);
    let shown = || {
        let arguments = [&["list"][..], &["status"], &["status", "late"]];
        arguments.map(|arguments| control::run(&tree, arguments))
    };
    let is_old = |shown: &str| shown.contains("start-limit-hit") || shown.contains("trap");
    eventually("the failure everywhere", || {
        shown().iter().all(|ran| is_old(&ran.stdout) && ran.status == Some(3)).then_some(())
    });
    tree.put_guest("late", "never_ready");
    daemon.signal(Signal::HUP);
    eventually("the start of the corrected version", || {
        control::run(&tree, &["list"]).stdout.contains("activating (starting").then_some(())
    });
    let [list, status, late] = shown();
    for ran in [&list, &status, &late] {
        assert!(!is_old(&ran.stdout) && !ran.stdout.contains("Failed"), "{}", ran.stdout);
    }
    assert_eq!([list.status, status.status, late.status], [Some(0), Some(0), Some(3)]);

    tree.put_guest("late", "start_unavailable");
    let reload = control::run(&tree, &["reload"]);
    assert!(reload.stderr.contains("database") && !is_old(&reload.stderr), "{}", reload.stderr);
    for ran in shown() {
        assert!(!is_old(&ran.stdout), "{}", ran.stdout);
    }
}

#[test]
fn a_plugin_whose_last_instance_failed_is_not_ready_until_the_next_one_is() {
    // It is unhealthy by its own word, and waits an hour then.
    let manifest = "[service]\nrestart-sec = \"1h\"\nwatchdog-sec = \"100ms\"\n\
        [instances]\nmax = 1\n";
    let tree = Tree::new().with_manifest("unhealthy", manifest);
    let daemon = control::start(&tree);
    daemon.log.wait_for(&["plugind: ready plugins=1"]);
    assert_eq!(daemon.get("/unhealthy/sicken").status_and_text(), (200, "fine"));
    daemon.log.wait_for(&["instance failed", "result=unhealthy", "sick"]);
    let status = eventually("the status after the failure", || {
        let status = control::run(&tree, &["status"]).stdout;
        status.contains("0 of 1 plugins ready; retried: unhealthy (run: ").then_some(status)
    });
    assert!(status.contains("1 (0 ready)"), "{status}");
    let shown = control::run(&tree, &["status", "unhealthy"]);
    assert!(
        shown.stdout.contains("Active: activating (recovering) (Result: unhealthy)"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("Next try: 20"), "{}", shown.stdout);
    assert_is_retried(&tree, "unhealthy", "(recovering)");
}

#[test]
fn a_02_component_with_a_lifecycle_is_started_once_and_not_for_every_request() {
    let one = "[instances]\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("starts_02", one));
    for _ in 0..5 {
        assert_eq!(daemon.get("/starts-02").status_and_text(), (200, "fine"));
    }
    assert_eq!(daemon.log.count(&["plugind[starts-02]: started"]), 1);
}
