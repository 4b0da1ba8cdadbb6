//! A client that follows a plugin, as the process of its unit does, gets all that `systemctl status` shows.

use crate::control::{run, socket, start};
use plugind_tests::{Tree, WAIT_MAX};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

/// The replies, and the plugin as the last one reports it.
struct Followed(BufReader<UnixStream>, Value);

impl Followed {
    fn of(tree: &Tree, plugin: &str) -> Self {
        let mut stream = UnixStream::connect(socket(tree)).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let call = format!(
            "{{\"method\":\"io.plugind.Follow\",\"parameters\":{{\"name\":\"{plugin}\"}},\"more\":true}}\0"
        );
        stream.write_all(call.as_bytes()).unwrap();
        Self(BufReader::new(stream), Value::Null)
    }

    /// Waits until this is in the value at this path.
    fn wait_for(&mut self, path: &str, part: &str) {
        let Self(replies, plugin) = self;
        while !plugin.pointer(path).and_then(Value::as_str).is_some_and(|it| it.contains(part)) {
            let mut reply = Vec::new();
            replies.read_until(0, &mut reply).unwrap();
            reply.pop();
            let mut reply: Value = serde_json::from_slice(&reply).unwrap();
            *plugin = reply["parameters"]["plugin"].take();
        }
    }
}

#[test]
fn a_client_that_follows_a_plugin_gets_each_other_failure_and_reason() {
    let tree = Tree::new().with_named("gate", "passes_on", "").with_named(
        "shop",
        "hello",
        "middleware = [\"gate\"]\n",
    );
    let _daemon = start(&tree);
    let mut followed = Followed::of(&tree, "shop");
    followed.wait_for("/subState", "running");
    for mistake in ["first", "second"] {
        tree.put("shop.toml", format!("{mistake} = 1\n"));
        run(&tree, &["reload"]);
        followed.wait_for("/failure/error", mistake);
    }
    followed.wait_for("/degraded", "previous version");
    run(&tree, &["stop", "gate"]);
    followed.wait_for("/degraded", "its middleware gate does not serve");
}

#[test]
fn a_client_that_follows_a_plugin_gets_what_it_reports_after_its_start() {
    let tree = Tree::new().with("forges");
    let daemon = start(&tree);
    let mut followed = Followed::of(&tree, "forges");
    // Nothing else changes afterwards.
    followed.wait_for("/degraded", "sick");
    assert_eq!(daemon.get("/forges/forge").status(), 200);
    followed.wait_for("/status", "fine");
}
