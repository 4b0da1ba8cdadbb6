//! The plugin under the real host. The component must be built, and `plugind` and `pluginctl` must be in `PATH`, or the
//! variables `PLUGIND` and `PLUGINCTL` name them.

use plugind_test::{Host, HostBuilder, Priority};

/// A project of `pluginctl new` calls `plugind_test::build`, which returns the component after it has built it.
const COMPONENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm32-wasip2/guest/hello.wasm");

fn hello(manifest: &str) -> HostBuilder {
    Host::with("hello", COMPONENT).manifest(manifest)
}

#[test]
fn everyone_is_greeted_as_the_manifest_says() {
    let host = hello(include_str!("../hello.toml")).start();
    let response = host.get("");
    assert_eq!((response.status, response.text()), (200, "Good morning from hello\n"));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn the_greeting_is_in_the_log() {
    let host = hello("[config]\ngreeting = \"Good day\"\n").start();
    let entry = host.log().wait_for_entry(|entry| entry.message == "greeting loaded");
    assert_eq!((entry.priority, entry.field("greeting")), (Priority::Info, Some("Good day")));
}

#[test]
fn a_changed_greeting_takes_over() {
    let host = hello("").start();
    assert_eq!(host.get("").text(), "Hello from hello\n");
    host.replace_manifest("[config]\ngreeting = \"Good evening\"\n");
    assert_eq!(host.get("").text(), "Good evening from hello\n");
}

#[test]
#[should_panic(expected = "the greeting is empty")]
fn an_empty_greeting_is_refused() {
    let _host = hello("[config]\ngreeting = \"\"\n").start();
}
