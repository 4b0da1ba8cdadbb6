//! Has a lifecycle of a later track, 0.2, which the host does not know.
#![expect(
    unsafe_code,
    missing_docs,
    reason = "wit-bindgen writes what it must, here in this crate"
)]

wit_bindgen::generate!({
    inline: "
        package plugind:plugin@0.2.0;

        interface lifecycle {
            start: async func() -> result<_, string>;
        }

        world later {
            export lifecycle;
        }
    ",
});

struct Guest;

impl exports::plugind::plugin::lifecycle::Guest for Guest {
    async fn start() -> Result<(), String> {
        Ok(())
    }
}

export!(Guest);
plugind_test_guests::serve!(plugind_test_guests::fine);
