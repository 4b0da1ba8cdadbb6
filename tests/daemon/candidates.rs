//! Components that were built against a release candidate of WASI, or against a draft.

use plugind_tests::{Daemon, Tree};

#[test]
fn a_component_of_the_release_candidate_is_served_as_one_of_the_release() {
    let manifest = "[config]\ngreeting = \"Hi\"\n";
    let mut daemon = Daemon::start(&Tree::new().with_manifest("candidate", manifest));
    for (key, value) in [("greeting", "Ok(Some(\"Hi\")) of 1"), ("other", "Ok(None) of 1")] {
        let response = daemon.get(&format!("/candidate/{key}"));
        assert_eq!((response.status(), response.head.field("x-value")), (200, Some(value)));
    }
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["warning "]), 0);
}
