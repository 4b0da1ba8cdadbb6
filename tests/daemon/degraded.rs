//! A plugin that is degraded for any reason is so in every report.

use crate::{control, metrics::Measured};
use plugind_tests::{Tree, eventually};

/// Waits until each report says that a plugin is degraded for this reason.
fn wait_until_degraded(tree: &Tree, measured: &Measured, plugin: &str, reason: &str) {
    let series = format!("plugind_plugin_degraded{{plugin=\"{plugin}\"}}");
    eventually(&format!("{plugin} to be degraded"), || {
        let [list, status, one] = [&["list"][..], &["status"], &["status", plugin]]
            .map(|arguments| control::run(tree, arguments).stdout);
        let is_everywhere = control::row(&list, plugin).contains(&"(degraded)")
            && list.contains(reason)
            && status.contains(&format!("degraded: {plugin} ({reason})"))
            && one.contains("Active: active (degraded)")
            && one.contains(&format!("Degraded: {reason}\n"))
            && measured.value(&series) == Some(1.0);
        is_everywhere.then_some(())
    });
}

fn wait_until_well(tree: &Tree, measured: &Measured, plugin: &str) {
    let series = format!("plugind_plugin_degraded{{plugin=\"{plugin}\"}}");
    eventually(&format!("{plugin} to be well"), || {
        let arguments = [&["list"][..], &["status"], &["status", plugin]];
        let reports = arguments.map(|arguments| control::run(tree, arguments).stdout);
        let is_well = reports.iter().all(|report| !report.contains("degraded"));
        (is_well && measured.value(&series) == Some(0.0)).then_some(())
    });
}

#[test]
fn a_plugin_without_room_for_requests_is_degraded_in_every_report() {
    let one = "[instances]\nmax = 1\nconcurrency = 1\n[limits]\nrequest-timeout = \"1s\"\n";
    let tree = Tree::new().with_manifest("streams", one);
    let measured = Measured::start_with_control(&tree);
    wait_until_well(&tree, &measured, "streams");
    let mut stalls = measured.daemon.connect();
    stalls.request("GET", "/streams/stalls", &[]);
    assert_eq!(stalls.head().status, 200);
    assert_eq!(measured.daemon.get("/streams").status(), 503);
    let reason = "no instance had room for requests of the last minute";
    wait_until_degraded(&tree, &measured, "streams", reason);
}

#[test]
fn a_plugin_whose_middleware_does_not_serve_is_degraded_in_every_report() {
    let tree = Tree::new().with_named("gate", "passes_on", "").with_named(
        "shop",
        "hello",
        "middleware = [\"gate\"]\n",
    );
    let measured = Measured::start_with_control(&tree);
    control::run(&tree, &["stop", "gate"]);
    let reason = "its requests are refused, because its middleware gate does not serve";
    wait_until_degraded(&tree, &measured, "shop", reason);
    assert_eq!(control::run(&tree, &["start", "gate"]).status, Some(0));
    wait_until_well(&tree, &measured, "shop");
}

#[test]
fn a_plugin_that_was_rolled_back_is_degraded_in_every_report() {
    let tree = Tree::new().with_named("app", "hello", "");
    let measured = Measured::start_with_control(&tree);
    tree.wait_for_version("app");
    tree.put_guest("app", "counts");
    assert_eq!(control::run(&tree, &["reload"]).status, Some(0));
    assert_eq!(control::run(&tree, &["rollback", "app"]).status, Some(0));
    let reason = "an operator rolled it back to its previous version";
    wait_until_degraded(&tree, &measured, "app", reason);
    assert_eq!(control::run(&tree, &["reload", "app"]).status, Some(0));
    wait_until_well(&tree, &measured, "app");
}
