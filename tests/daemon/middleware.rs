//! Plugins that stand before others: every request goes through them in order, and none gets by.

use crate::{control, websockets::UPGRADE};
use plugind_tests::{Daemon, Tree};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

/// A tree with the middleware `outer` and `inner`, and with `guest` behind them.
fn behind(guest: &str, manifest: &str) -> Tree {
    Tree::new()
        .with_named("outer", "passes_on", "")
        .with_named("inner", "passes_on", "")
        .with_named("shop", guest, &format!("middleware = [\"outer\", \"inner\"]\n{manifest}"))
}

#[test]
fn a_request_goes_through_all_middleware_in_order_and_back() {
    let daemon = Daemon::start(&behind("headers", ""));
    let answer = daemon.get("/shop/a?b=c");
    assert_eq!(answer.status(), 200);
    let text = answer.text();
    let field = |name: &str| {
        let prefix = format!("header {name}: ");
        text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect::<Vec<_>>()
    };
    assert_eq!(field("x-went-through"), ["outer", "inner"], "{text}");
    assert_eq!(field("x-forwarded-prefix"), ["/shop"]);
    assert!(text.contains("path: Some(\"/a?b=c\")\n"), "{text}");
    assert!(field("host").is_empty(), "{text}");
    let came = answer.head.fields.iter().filter(|(name, _)| name == "x-came-through");
    let came: Vec<_> = came.map(|(_, value)| value.as_str()).collect();
    assert_eq!(came, ["inner", "outer"]);
}

#[test]
fn a_body_of_any_length_goes_through_middleware() {
    let daemon = Daemon::start(&behind("streams", ""));
    let body = "x".repeat(1 << 20);
    let mut client = daemon.connect();
    client.request("POST", "/shop/echo", &[&format!("Content-Length: {}", body.len())]);
    client.write(&body);
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert!(answer.text() == body, "{} bytes", answer.body.len());
}

#[test]
fn middleware_that_answers_itself_keeps_the_request_from_the_plugin() {
    let daemon = Daemon::start(&behind("counts", "[instances]\nmax = 1\n"));
    for _ in 0..3 {
        let denied = daemon.get("/shop/deny");
        assert_eq!(denied.status_and_text(), (403, "denied\n"));
        assert_eq!(denied.head.field("x-by"), Some("outer"));
    }
    let text = daemon.get("/shop").text().to_owned();
    assert!(text.contains("count=1"), "{text}");
}

#[test]
fn middleware_is_found_under_no_route_unless_its_manifest_has_one() {
    let tree = Tree::new()
        .with_named("hidden", "passes_on", "")
        .with_named("open", "passes_on", "[[serve]]\n")
        .with_named("calls", "calls", "[grants]\ncall = [\"hidden\"]\n");
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/hidden").status(), 404);
    assert_eq!(daemon.get("/calls/03/hidden").text(), "503 plugin hidden is not ready\n");
    assert_eq!(daemon.get("/open/deny").status(), 403);
    assert_eq!(daemon.get("/open").status(), 502, "nothing is behind it");
}

#[test]
fn one_plugin_stands_before_several_others() {
    let middleware = "middleware = [\"gate\"]\n";
    let tree = Tree::new()
        .with_named("gate", "passes_on", "[instances]\nmax = 1\n")
        .with_named("a", "headers", middleware)
        .with_named("b", "hello", middleware)
        .with_named("free", "headers", "");
    let daemon = Daemon::start(&tree);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(daemon.get("/a").text().contains("x-went-through: gate\n"));
                    assert_eq!(daemon.get("/b").text(), "Hello from b\n");
                }
            });
        }
    });
    assert!(!daemon.get("/free").text().contains("x-went-through"));
}

#[test]
fn a_plugin_that_is_called_by_another_one_is_reached_through_its_middleware() {
    let tree = behind("headers", "").with_named("calls", "calls", "[grants]\ncall = [\"shop\"]\n");
    let daemon = Daemon::start(&tree);
    let text = daemon.get("/calls/03/shop").text().to_owned();
    assert!(text.contains("x-went-through: outer\n") && text.contains("x-went-through: inner\n"));
    assert_eq!(daemon.get("/calls/03/shop/deny").text(), "403 denied\n");
}

#[test]
fn a_plugin_whose_middleware_fails_is_not_reached_without_it() {
    let tree = behind("hello", "");
    tree.put("inner.toml", crate::RESTARTS);
    tree.put("outer.toml", format!("{}[limits]\nrequest-timeout = \"1s\"\n", crate::RESTARTS));
    let daemon = control::start(&tree);
    let shop = || control::run(&tree, &["status", "shop"]).stdout;
    assert!(!shop().contains("degraded"), "{}", shop());
    assert_eq!(daemon.get("/shop/trap").status_and_text(), (502, "plugin outer failed\n"));
    assert_eq!(daemon.get("/shop").status(), 200, "another instance passes requests on");
    tree.remove("inner.wasm");
    daemon.reload();
    assert_eq!(daemon.get("/shop").status_and_text(), (503, "plugin inner is not ready\n"));
    let refused = "its requests are refused, because its middleware inner does not serve";
    assert!(shop().contains(refused), "{}", shop());
    daemon.log.wait_for(&[
        "plugin failed",
        "plugin=shop ",
        "toml:1:14: middleware: there is no plugin \\\"inner\\\"",
    ]);
    tree.put_guest("inner", "passes_on");
    daemon.reload();
    assert_eq!(daemon.get("/shop").status(), 200);
}

#[test]
fn each_plugin_of_a_chain_has_its_own_deadline() {
    let a_second = "[limits]\nrequest-timeout = \"1s\"\n";
    let tree = Tree::new().with_named("gate", "passes_on", a_second).with_named(
        "slow",
        "sleeps",
        &format!("middleware = [\"gate\"]\n{a_second}"),
    );
    let daemon = Daemon::start(&tree);
    let text = "plugin slow did not answer in time\n";
    assert_eq!(daemon.get("/slow/sleep/60000").status_and_text(), (504, text));
    assert_eq!(
        daemon.get("/slow/sleep").status_and_text(),
        (504, "plugin gate did not answer in time\n")
    );
}

#[test]
fn no_request_is_lost_while_middleware_and_the_plugin_behind_are_replaced() {
    let tree = behind("hello", "");
    let daemon = Daemon::start(&tree);
    let over = AtomicBool::new(false);
    let ask = || {
        let mut client = daemon.connect();
        let mut answers = 0;
        while !over.load(Relaxed) {
            assert_eq!(client.get("/shop").status_and_text(), (200, "Hello from shop\n"));
            answers += 1;
        }
        answers
    };
    thread::scope(|scope| {
        let clients = [(); 3].map(|()| scope.spawn(ask));
        for nth in 0..10 {
            tree.put("inner.toml", format!("description = \"{nth}\"\n"));
            let shop = format!("middleware = [\"outer\", \"inner\"]\ndescription = \"{nth}\"\n");
            tree.put("shop.toml", shop);
            assert!(daemon.reload().contains("changed=2"));
        }
        over.store(true, Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_request_is_passed_on_only_so_often_and_not_after_its_end() {
    let daemon = Daemon::start(&behind("counts", ""));
    assert_eq!(daemon.get("/shop/3-times").text(), "3 answers\n");
    let text = daemon.get("/shop/1000-times").text().to_owned();
    assert_eq!(text, "32 answers\n", "two plugins pass 64 requests on");
}

#[test]
fn a_request_keeps_its_identity_on_its_way() {
    let daemon = Daemon::start(&behind("headers", ""));
    let seen = daemon.get("/shop/a").text().to_owned();
    let mut ids = Vec::new();
    for plugin in ["outer", "inner"] {
        let line = daemon.log.wait_for(&[&format!("plugind[{plugin}]: {plugin} has /a")]);
        let id = line.split("request_id=").nth(1).and_then(|rest| rest.split(' ').next());
        ids.push(id.expect("the entry names the request").to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    let traceparent = seen.lines().find(|line| line.starts_with("header traceparent: ")).unwrap();
    assert!(traceparent.contains(&format!("-{}-", ids[0])), "{ids:?} {traceparent}");
}

#[test]
fn a_websocket_does_not_bypass_middleware() {
    let daemon = Daemon::start(&behind("chat", ""));
    let mut client = daemon.connect();
    client.request("GET", "/shop", &UPGRADE);
    assert_eq!(client.response().status(), 426);
}

/// Middleware that serves two requests at a time, in one instance.
const NARROW: &str = "[instances]\nmax = 1\nconcurrency = 2\n";

#[test]
fn plugins_that_call_each_other_through_one_middleware_need_no_place_each() {
    let calls =
        |callee: &str| format!("middleware = [\"gate\"]\n[grants]\ncall = [\"{callee}\"]\n");
    let tree = Tree::new()
        .with_named("gate", "passes_on", NARROW)
        .with_named("a", "calls", &calls("b"))
        .with_named("b", "calls", &calls("c"))
        .with_named("c", "calls", &calls("d"))
        .with_named("d", "hello", "middleware = [\"gate\"]\n");
    let daemon = Daemon::start(&tree);
    let answer = daemon.get("/a/03/b/03/c/03/d");
    assert_eq!(answer.status_and_text(), (200, "200 200 200 Hello from d\n"));
}

#[test]
fn plugins_with_the_same_middleware_in_opposite_order_do_not_block_each_other() {
    let tree = Tree::new()
        .with_named("one", "passes_on", NARROW)
        .with_named("two", "passes_on", NARROW)
        .with_named("x", "hello", "middleware = [\"one\", \"two\"]\n")
        .with_named("y", "hello", "middleware = [\"two\", \"one\"]\n");
    let daemon = Daemon::start(&tree);
    thread::scope(|scope| {
        for name in ["x", "y"].repeat(8) {
            let daemon = &daemon;
            scope.spawn(move || {
                for _ in 0..20 {
                    let answer = daemon.get(&format!("/{name}"));
                    let text = format!("Hello from {name}\n");
                    assert_eq!(answer.status_and_text(), (200, text.as_str()));
                }
            });
        }
    });
}
