//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};

#[test]
fn the_configuration_is_read_before_anything_is_served() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let host = Host::with("@NAME@", component).manifest("[config]\ngreeting = \"Good morning\"\n").start();
    host.wait_for_log("greeting loaded greeting=Good morning");
    assert_eq!(host.status()["state"], "active");
    assert!(host.stop().0.success());
}
