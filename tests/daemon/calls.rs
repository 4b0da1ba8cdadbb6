//! Plugins call other plugins within the daemon: only those that they were granted, and with the same answers that
//! clients get.

use plugind_tests::{Daemon, Tree, eventually};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

pub(crate) fn may_call(plugins: &[&str]) -> String {
    format!("[grants]\ncall = {plugins:?}\n")
}

#[test]
fn a_plugin_calls_those_that_it_was_granted_by_both_versions() {
    let tree = Tree::new().with_manifest("calls", &may_call(&["headers", "greeter-02"]));
    let daemon = Daemon::start(&tree.with("headers").with("greeter_02"));
    for version in ["02", "03"] {
        let seen = daemon.get(&format!("/calls/{version}/headers/a/b"));
        assert_eq!(seen.status(), 200);
        let seen = seen.text();
        assert!(seen.starts_with("200 method: Method::Get\n"), "{seen}");
        for line in [
            "scheme: Some(Scheme::Http)",
            "authority: Some(\"headers.plugind\")",
            "path: Some(\"/a/b\")",
            "header x-forwarded-for: _plugin-calls",
            "header x-forwarded-host: headers.plugind",
            "header forwarded: for=_plugin-calls;host=\"headers.plugind\";proto=http",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} is not in {seen}");
        }
        let greeting = daemon.get(&format!("/calls/{version}/greeter-02"));
        assert!(greeting.text().starts_with("200 "), "{}", greeting.text());
    }
}

#[test]
fn a_plugin_that_was_not_granted_is_refused_and_the_log_names_the_line_to_write() {
    let tree = Tree::new().with_manifest("calls", &may_call(&["hello"]));
    let daemon = Daemon::start(&tree.with("hello").with("headers"));
    for version in ["02", "03"] {
        let refused = daemon.get(&format!("/calls/{version}/headers"));
        assert_eq!(refused.status_and_text(), (200, "error: ErrorCode::HttpRequestDenied"));
    }
    daemon.log.wait_for(&[
        "warning plugind: call to another plugin denied",
        "plugin=calls",
        "callee=headers",
        "call = [\\\"headers\\\"] below [grants]",
    ]);
    assert_eq!(daemon.log.count(&["call to another plugin denied"]), 1);
}

#[test]
fn a_body_of_any_length_goes_through_a_call() {
    let tree = Tree::new().with_manifest("calls", &may_call(&["streams"])).with("streams");
    let daemon = Daemon::start(&tree);
    let body = "x".repeat(1 << 20);
    let mut client = daemon.connect();
    client.request("POST", "/calls/03/streams/echo", &[&format!("Content-Length: {}", body.len())]);
    client.write(&body);
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert!(answer.text() == format!("200 {body}"), "{} bytes", answer.body.len());
}

#[test]
fn a_callee_that_traps_hangs_or_is_not_there_is_a_status_for_its_caller() {
    let in_a_second = "[limits]\nrequest-timeout = \"1s\"\n";
    let granted = may_call(&["traps-in-request", "sleeps", "loops-in-request", "gone"]);
    let tree = Tree::new()
        .with_manifest("calls", &granted)
        .with_manifest("traps_in_request", crate::RESTARTS)
        .with_manifest("sleeps", in_a_second)
        .with_manifest("loops_in_request", &format!("{in_a_second}{}", crate::RESTARTS));
    let daemon = Daemon::start(&tree);
    for version in ["02", "03"] {
        let ask = |path: &str| daemon.get(&format!("/calls/{version}/{path}")).text().to_owned();
        assert_eq!(ask("traps-in-request/trap"), "502 plugin traps-in-request failed\n");
        assert_eq!(ask("traps-in-request"), "200 fine");
        assert_eq!(ask("sleeps/sleep/60000"), "504 plugin sleeps did not answer in time\n");
        assert_eq!(
            ask("loops-in-request/loop"),
            "504 plugin loops-in-request did not answer in time\n"
        );
        assert_eq!(ask("gone"), "503 plugin gone is not ready\n");
    }
    assert_eq!(daemon.log.count(&["instance failed", "plugin=calls"]), 0);
}

#[test]
fn no_call_is_lost_while_its_callee_is_replaced() {
    let tree = Tree::new().with_manifest("calls", &may_call(&["counts"])).with("counts");
    let daemon = Daemon::start(&tree);
    let over = AtomicBool::new(false);
    let call = |version: &str| {
        let mut client = daemon.connect();
        let mut answers = 0;
        while !over.load(Relaxed) {
            let answer = client.get(&format!("/calls/{version}/counts"));
            assert!(answer.text().starts_with("200 worker="), "{}", answer.text());
            answers += 1;
        }
        answers
    };
    thread::scope(|scope| {
        let callers = ["02", "03", "03"].map(|version| scope.spawn(move || call(version)));
        for nth in 0..10 {
            tree.put("counts.toml", format!("description = \"{nth}\"\n"));
            assert!(daemon.reload().contains("changed=1"));
        }
        over.store(true, Relaxed);
        for caller in callers {
            assert!(caller.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_call_for_which_nobody_waits_any_more_gives_its_place_in_the_callee_back() {
    let one_place =
        "[limits]\nrequest-timeout = \"10min\"\n[instances]\nmax = 1\nconcurrency = 1\n";
    let granted = format!("{}[limits]\nrequest-timeout = \"1s\"\n", may_call(&["sleeps"]));
    let tree = Tree::new().with_manifest("calls", &granted).with_manifest("sleeps", one_place);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/calls/03/sleeps/sleep/600000").status(), 504);
    assert_eq!(daemon.get("/sleeps").status_and_text(), (200, "fine"));
}

#[test]
fn a_caller_that_gives_a_call_up_gets_an_error_at_that_time() {
    let tree = Tree::new().with_manifest("calls", &may_call(&["sleeps"])).with("sleeps");
    let daemon = Daemon::start(&tree);
    let answer = daemon.get("/calls/02-for/100/sleeps/sleep/600000");
    assert_eq!(answer.status_and_text(), (200, "error: ErrorCode::ConnectionReadTimeout"));
}

#[test]
fn manifests_that_let_plugins_call_each_other_in_a_circle_are_refused() {
    let tree = Tree::new().with_named("a", "calls", &may_call(&["b"])).with_named("b", "calls", "");
    let daemon = Daemon::start(&tree);
    tree.put("b.toml", may_call(&["a"]));
    assert!(daemon.reload().contains("failed=2"));
    for (plugin, way) in [("a", "a calls b calls a"), ("b", "b calls a calls b")] {
        daemon.log.wait_for(&[
            "err     plugind: plugin failed",
            &format!("plugin={plugin} "),
            "stage=verify",
            "toml:2:8: grants.call must not lead back to the plugin itself",
            way,
        ]);
    }
    assert_eq!(daemon.get("/a/03/b").status_and_text(), (200, "200 fine"), "they serve as before");
}

#[test]
fn versions_that_call_each_other_all_the_same_are_stopped_at_a_depth() {
    let tree = Tree::new().with_named("a", "calls", &may_call(&["b"])).with_named("b", "calls", "");
    let daemon = Daemon::start(&tree);
    // The next version of `a` would close no circle, but cannot start: the old one keeps serving.
    tree.put("a.toml", "[grants]\nread = [\"/nowhere\"]\n");
    tree.put("b.toml", may_call(&["a"]));
    daemon.reload();
    let path = format!("/a{}", "/03/b/03/a".repeat(20));
    eventually("the new version of b", || {
        let answer = daemon.get(&path);
        let levels = format!("{}error: ErrorCode::LoopDetected", "200 ".repeat(16));
        (answer.status_and_text() == (200, &*levels)).then_some(())
    });
    assert_eq!(daemon.get("/a/03/b").status_and_text(), (200, "200 fine"));
}
