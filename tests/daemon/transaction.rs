//! A reload is a transaction: its progress is visible, changes that belong together take effect together, and
//! an impossible change leaves everything as it was.

use crate::{
    RESTARTS,
    control::{begin, run, socket, start},
};
use plugind_tests::{Signal, Tree, another, eventually};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

const ALL_OR_NOTHING: &str = r#"{"allOrNothing":true}"#;
/// Ready after its own time, which is long enough for others to come meanwhile.
const SLOW: &str = "warmup";

/// A reload that was asked for over the control socket, and what is said of it.
struct Reload(BufReader<UnixStream>);

impl Reload {
    fn ask(tree: &Tree, parameters: &str) -> Self {
        let mut stream = UnixStream::connect(socket(tree)).unwrap();
        let call = format!(
            "{{\"method\":\"io.plugind.Reload\",\"parameters\":{parameters},\"more\":true}}\0"
        );
        stream.write_all(call.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next reply, and whether more of them follow.
    fn next(&mut self) -> (Value, bool) {
        let mut reply = Vec::new();
        self.0.read_until(0, &mut reply).unwrap();
        reply.pop();
        let reply: Value = serde_json::from_slice(&reply).expect("every call has a reply");
        let parameters = if reply["error"].is_null() { "parameters" } else { "error" };
        (reply[parameters].clone(), reply["continues"] == true)
    }

    /// Waits for a reply that is as `wanted`.
    fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (reply, more) = self.next();
            if wanted(&reply) {
                return reply;
            }
            assert!(more, "{reply}");
        }
    }

    /// All replies, up to the end of the reload.
    fn all(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let (reply, more) = self.next();
            all.push(reply);
            if !more {
                return all;
            }
        }
    }

    fn over(self) -> Value {
        self.all().pop().unwrap()
    }
}

fn failed(reply: &Value) -> Vec<(&str, &str)> {
    let failed = reply["failed"].as_array().unwrap().iter();
    failed.map(|one| (one["plugin"].as_str().unwrap(), one["stage"].as_str().unwrap())).collect()
}

/// Returns the step of each plugin that is waited for.
fn steps(reply: &Value) -> Vec<(&str, &str)> {
    let awaited = reply["awaited"].as_array().unwrap().iter();
    awaited.map(|one| (one["plugin"].as_str().unwrap(), one["step"].as_str().unwrap())).collect()
}

fn greets(greeting: &str) -> String {
    format!("[config]\ngreeting = \"{greeting}\"\n")
}

#[test]
fn an_all_or_nothing_reload_that_fails_is_not_done_in_part_by_sighup() {
    let tree = Tree::new()
        .with("hello")
        .with_manifest("counts", "[instances]\nmax = 1\n")
        .with_named("bad", "counts", "[instances]\nmax = 1\n")
        .with_named("old", "hello", "");
    let daemon = start(&tree);
    for path in ["/counts", "/bad"] {
        assert!(daemon.get(path).text().ends_with("count=1"));
    }
    tree.put("hello.toml", greets("Good day"));
    tree.put_guest("bad", "traps_on_start");
    tree.put_guest("late", "hello");
    tree.remove("old.wasm");
    let over = Reload::ask(&tree, ALL_OR_NOTHING).over();
    assert_eq!(failed(&over), [("bad", "start")]);
    assert_eq!((&over["takenBack"], &over["changed"]), (&json!(true), &json!([])), "{over}");
    assert_eq!((&over["removed"], &over["unchanged"]), (&json!([]), &json!(1)), "{over}");

    let nothing_has_changed = |count| {
        assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
        assert_eq!(daemon.get("/old").status(), 200);
        assert_eq!(daemon.get("/late").status(), 404);
        for path in ["/counts", "/bad"] {
            let text = daemon.get(path).text().to_owned();
            assert!(text.starts_with("worker=0") && text.ends_with(count), "{text}");
        }
    };
    nothing_has_changed("count=2");
    let reported = daemon.reload();
    assert!(reported.contains("changed=0 failed=1 removed=0"), "{reported}");
    nothing_has_changed("count=3");

    // Without --all-or-nothing the rest changes.
    let over = Reload::ask(&tree, "{}").over();
    assert_eq!(over["changed"], json!(["hello", "late"]));
    assert_eq!((&over["removed"], failed(&over)), (&json!(["old"]), vec![("bad", "start")]));
    assert!(daemon.get("/bad").text().ends_with("count=4"));
}

#[test]
fn an_all_or_nothing_reload_does_not_begin_if_a_file_has_a_mistake() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    tree.put("hello.toml", greets("Good day"));
    tree.put_guest("wrong", "hello");
    tree.put("wrong.toml", "greeting = 1\n");
    let all = Reload::ask(&tree, ALL_OR_NOTHING).all();
    assert!(all.iter().all(|reply| steps(reply).is_empty()), "{all:?}");
    assert_eq!(failed(all.last().unwrap()), [("wrong", "verify")]);
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
    assert_eq!(daemon.get("/wrong").status(), 404);

    tree.put("wrong.toml", "");
    let over = Reload::ask(&tree, ALL_OR_NOTHING).over();
    assert_eq!((&over["changed"], &over["failed"]), (&json!(["hello", "wrong"]), &json!([])));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    assert_eq!(daemon.get("/wrong").status(), 200);
}

#[test]
fn a_refused_reload_says_since_when_the_previous_version_serves() {
    let tree = Tree::new().with("hello");
    let _daemon = start(&tree);
    let refused = |manifest: &str| {
        tree.put("hello.toml", manifest);
        assert_eq!(failed(&Reload::ask(&tree, ALL_OR_NOTHING).over()), [("hello", "verify")]);
        let status = run(&tree, &["status"]).stdout;
        let (_, since) = status.split_once("has served its previous version since ").unwrap();
        since.split(' ').next().unwrap().to_owned()
    };
    let first = refused("greeting = 1\n");
    assert!(first.starts_with("20"), "{first}");
    assert_eq!(refused("greeting = 2\n"), first, "it is the first of several failures");
}

#[test]
fn all_that_is_ready_waits_for_the_last_one_and_goes_in_one_swap() {
    let tree = Tree::new().with("hello").with_named("slow", "counts", "").with("keeps");
    let daemon = start(&tree);
    assert!(daemon.get("/keeps").text().ends_with("count=1"));
    tree.put("hello.toml", greets("Good day"));
    tree.put_guest("slow", SLOW);
    tree.put("keeps.wasm", another("keeps"));
    tree.put_guest("late", "hello");
    let mut reload = Reload::ask(&tree, ALL_OR_NOTHING);
    reload.wait_for(|reply| {
        let steps = steps(reply);
        steps.contains(&("hello", "ready")) && steps.contains(&("slow", "starting"))
    });
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"), "it waits");
    assert_eq!(daemon.get("/late").status(), 404);
    let over = reload.over();
    assert_eq!(over["changed"], json!(["hello", "keeps", "late", "slow"]));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    assert_eq!(daemon.get("/slow").status_and_text(), (200, "warm\n"));
    assert_eq!(daemon.get("/late").status(), 200);
    assert!(daemon.get("/keeps").text().ends_with("count=2"), "its state was handed over, too");
}

#[test]
fn a_reload_of_the_other_kind_waits_and_one_of_the_same_kind_is_the_same() {
    let tree = Tree::new().with("hello").with_named("slow", "counts", "");
    let daemon = start(&tree);
    tree.put_guest("slow", SLOW);
    let mut first = Reload::ask(&tree, "{}");
    first.wait_for(|reply| !steps(reply).is_empty());
    tree.put("hello.toml", greets("Good day"));
    let second = Reload::ask(&tree, ALL_OR_NOTHING);
    let third = Reload::ask(&tree, ALL_OR_NOTHING);
    assert_eq!(first.over()["changed"], json!(["slow"]));
    for reload in [second, third] {
        let over = reload.over();
        assert_eq!((&over["changed"], &over["unchanged"]), (&json!(["hello"]), &json!(1)));
    }
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
    let mut daemon = daemon;
    assert_eq!(daemon.stop(), 0);
    let begun =
        daemon.log.all().iter().filter(|line| line.contains("plugind: reload started")).count();
    assert_eq!(begun, 3, "each requested reload is logged");
}

#[test]
fn an_all_or_nothing_reload_that_was_requested_twice_leaves_nothing_behind() {
    let tree = Tree::new().with("hello").with_named("slow", "counts", "");
    let daemon = start(&tree);
    tree.put("hello.toml", greets("Good day"));
    tree.put_guest("slow", SLOW);
    let mut first = Reload::ask(&tree, ALL_OR_NOTHING);
    first.wait_for(|reply| steps(reply).contains(&("hello", "ready")));
    tree.put("slow.toml", "nonsense = 1\n");
    let second = Reload::ask(&tree, ALL_OR_NOTHING);
    for reload in [first, second] {
        let over = reload.over();
        assert_eq!((failed(&over), &over["takenBack"]), (vec![("slow", "verify")], &json!(true)));
    }
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
    tree.put("slow.toml", "");
    assert_eq!(Reload::ask(&tree, "{}").over()["changed"], json!(["hello", "slow"]));
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Good day from hello\n"));
}

#[test]
fn settings_that_break_during_a_reload_leave_it_with_what_was_found_before() {
    let tree =
        Tree::new().with("hello").with_named("slow", "counts", "").with_named("old", "hello", "");
    let daemon = start(&tree);
    let settings = tree.root().join("etc/plugind/plugind.toml");
    for parameters in ["{}", ALL_OR_NOTHING] {
        tree.put("slow.wasm", another(SLOW));
        let mut reload = Reload::ask(&tree, parameters);
        reload.wait_for(|reply| steps(reply).iter().any(|(plugin, _)| *plugin == "slow"));
        tree.remove("old.wasm");
        fs::write(&settings, "nonsense = 1\n").unwrap();
        let reported = Reload::ask(&tree, parameters).over();
        let over = reload.over();
        assert_eq!(reported["changed"], over["changed"], "they are one");
        assert!(over["unreadable"].as_str().unwrap().contains("nonsense"), "{over}");
        let together = parameters == ALL_OR_NOTHING;
        let changed = if together { json!([]) } else { json!(["slow"]) };
        assert_eq!((&over["changed"], &over["removed"]), (&changed, &json!([])), "{over}");
        assert_eq!(over["takenBack"], json!(together));
        assert_eq!(daemon.get("/old").status(), 200);
        fs::remove_file(&settings).unwrap();
        tree.put_guest("old", "hello");
    }
    tree.remove("old.wasm");
    let over = Reload::ask(&tree, "{}").over();
    assert_eq!((&over["changed"], &over["removed"]), (&json!(["slow"]), &json!(["old"])), "{over}");
}

#[test]
fn no_more_new_versions_are_prepared_at_a_time_than_reload_concurrency() {
    let tree = Tree::new();
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| tree.put_guest(name, "hello"));
    fs::create_dir_all(tree.root().join("etc/plugind")).unwrap();
    fs::write(tree.root().join("etc/plugind/plugind.toml"), "reload-concurrency = 2\n").unwrap();
    let _daemon = start(&tree);
    names.iter().for_each(|name| tree.put(&format!("{name}.wasm"), another(SLOW)));
    let all = Reload::ask(&tree, "{}").all();
    let at_work = |reply: &Value| {
        let steps = steps(reply);
        steps.into_iter().filter(|(_, step)| *step != "queued").count()
    };
    assert!(all.iter().all(|reply| at_work(reply) <= 2), "{all:?}");
    assert!(all.iter().any(|reply| at_work(reply) == 2 && steps(reply).len() == 4), "{all:?}");
    assert_eq!(all.last().unwrap()["changed"], json!(names));
    let seen: BTreeSet<_> = all.iter().flat_map(steps).map(|(_, step)| step).collect();
    assert_eq!(seen, BTreeSet::from(["compiling", "queued", "starting"]));
}

#[test]
fn a_reload_can_be_waited_for_until_the_old_version_has_finished_what_it_had() {
    let tree = Tree::new().with("streams");
    let daemon = start(&tree);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    client.write_chunk(b"half of it, ");
    assert_eq!(client.head().status, 200);
    tree.put("streams.wasm", another("streams"));
    let mut patient = Reload::ask(&tree, r#"{"untilDrained":true}"#);
    assert_eq!(Reload::ask(&tree, "{}").over()["draining"], json!(["streams"]));
    let swapped = patient.wait_for(|reply| reply["changed"] == json!(["streams"]));
    assert_eq!((&swapped["draining"], &swapped["awaited"]), (&json!(["streams"]), &json!([])));
    client.write_chunk(b"and the rest");
    client.write(b"0\r\n\r\n");
    let mut echoed = Vec::new();
    while client.chunk(|piece| echoed.extend_from_slice(piece)) {}
    assert_eq!(echoed, b"half of it, and the rest", "the old version answers to the end");
    drop(client);
    let over = patient.over();
    assert_eq!((&over["draining"], &over["changed"]), (&json!([]), &json!(["streams"])));
}

#[test]
fn an_old_version_has_its_time_and_no_more_however_much_of_it_is_taken_up() {
    let manifest = "[instances]\nmode = \"exclusive\"\n[service]\ntimeout-stop-sec = \"200ms\"\n";
    let tree = Tree::new().with_manifest("streams", manifest);
    let daemon = start(&tree);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    client.write_chunk(b"half of it");
    assert_eq!(client.head().status, 200);
    tree.put("streams.wasm", another("streams"));
    let over = Reload::ask(&tree, r#"{"untilDrained":true}"#).over();
    assert_eq!((&over["changed"], &over["draining"]), (&json!(["streams"]), &json!([])));
    let mut rest = Vec::new();
    client.rest(|piece| rest.extend_from_slice(piece));
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it breaks off: {rest:?}");
}

#[test]
fn all_or_nothing_leaves_alone_what_is_tried_again_and_again() {
    let tree = Tree::new()
        .with("hello")
        .with_manifest("start_unavailable", &format!("required = false\n{RESTARTS}"));
    let daemon = start(&tree);
    tree.put("hello.toml", greets("Good day"));
    tree.put("bad.wasm", "no component");
    assert_eq!(failed(&Reload::ask(&tree, ALL_OR_NOTHING).over()), [("bad", "verify")]);
    tree.remove("bad.wasm");
    let over = Reload::ask(&tree, ALL_OR_NOTHING).over();
    assert_eq!((&over["changed"], &over["failed"]), (&json!(["hello"]), &json!([])));
    let place = daemon.log.place();
    let again: &[&str] = &["instance failed plugin=start-unavailable"];
    daemon.log.wait_for_in_order(place, &[again; 3]);
}

#[test]
fn an_all_or_nothing_reload_that_fails_does_not_end_the_daemon() {
    let tree = Tree::new().with("hello");
    let mut daemon = start(&tree);
    tree.put_guest("fatal", "traps_on_start");
    tree.put("fatal.toml", "[service]\nfailure-action = \"exit\"\nstart-limit-burst = 1\n");
    assert_eq!(failed(&Reload::ask(&tree, ALL_OR_NOTHING).over()), [("fatal", "start")]);
    eventually("the end of its instance", || {
        (!run(&tree, &["list"]).stdout.contains("fatal")).then_some(())
    });
    let place = daemon.log.place();
    daemon.signal(Signal::HUP);
    daemon.log.wait_for_in_order(place, &[&["reload failed, nothing changed", "failed=fatal"]]);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_reload_during_the_start_is_part_of_it_and_one_during_the_stop_is_refused() {
    let tree = Tree::new().with_named("slow", SLOW, "");
    let mut daemon = begin(&tree);
    tree.put_guest("hello", "hello");
    let (plain, together) = (Reload::ask(&tree, "{}"), Reload::ask(&tree, ALL_OR_NOTHING));
    assert_eq!(plain.over()["failed"], json!([]));
    assert_eq!(together.over()["unchanged"], json!(2));
    daemon.wait_until_ready();
    assert_eq!(daemon.get("/hello").status(), 200);

    tree.put_guest("slow", "sleeps");
    assert_eq!(Reload::ask(&tree, "{}").over()["changed"], json!(["slow"]));
    let mut client = daemon.connect();
    client.request("GET", "/slow/500", &[]);
    tree.put_guest("never", "never_ready");
    let mut under_way = Reload::ask(&tree, "{}");
    under_way.wait_for(|reply| steps(reply) == [("never", "starting")]);
    daemon.signal(Signal::TERM);
    assert_eq!(under_way.over(), json!("io.plugind.Stopping"));
    assert_eq!(client.response().status(), 200);
    assert_eq!(daemon.wait(), 0);
}
