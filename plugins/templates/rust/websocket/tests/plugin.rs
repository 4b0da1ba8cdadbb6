//! The plugin under the real host: `plugind` and `pluginctl` must be in PATH.

use plugind_test::{Host, build};

#[test]
fn a_request_for_no_websocket_is_refused() {
    let component = build(env!("CARGO_MANIFEST_DIR"));
    let manifest = "[config]\ngreeting = \"Good morning\"\n";
    let host = Host::with("@NAME@", component).manifest(manifest).start();
    host.wait_for_log("greeting loaded");
    // `pluginctl test` opens a WebSocket.
    assert_eq!(host.get("/").status, 426);
    assert!(host.stop().0.success());
}
