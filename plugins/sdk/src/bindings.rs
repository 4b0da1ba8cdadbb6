//! What wit-bindgen makes of the world `plugin`; the rest of the crate gives it better places.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugind:plugin/plugin",
    // Text goes to the host as `&str`: a plugin need not build a `String` for each field.
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    default_bindings_module: "plugind_sdk::bindings",
});
