//! Exports nothing that the host would call.
#![expect(
    unsafe_code,
    missing_docs,
    reason = "wit-bindgen writes what it must, here in this crate"
)]

wit_bindgen::generate!({
    inline: "
        package acme:shelf@1.0.0;

        interface things {
            count: func() -> u32;
        }

        world shelf {
            export things;
        }
    ",
});

struct Guest;

impl exports::acme::shelf::things::Guest for Guest {
    fn count() -> u32 {
        0
    }
}

export!(Guest);
