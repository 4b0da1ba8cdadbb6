//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};

#[test]
fn everyone_is_greeted_as_configured() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let manifest = "[config]\ngreeting = \"Good morning\"\n";
    let host = Host::with("@NAME@", component).manifest(manifest).start();
    let response = host.get("/Ada");
    assert_eq!((response.status, response.text()), (200, "Good morning, Ada\n"));
    host.wait_for_log("greeting loaded");
    assert!(host.stop().0.success());
}
