//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};

#[test]
fn the_configured_greeting_is_printed() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let host = Host::with("@NAME@", component).manifest("[config]\ngreeting = \"Good morning\"\n").start();
    host.wait_for_log("Good morning, world");
    assert!(host.stop().0.success());
}
