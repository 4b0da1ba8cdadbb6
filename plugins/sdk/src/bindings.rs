//! The bindings that wit-bindgen generates for the world `plugin`. The other modules re-export and extend them.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugind:plugin/plugin",
    // Text goes to the host as `&str`: a plugin need not build a `String` for each field.
    ownership: Borrowing { duplicate_if_necessary: true },
    // The other worlds have the same types.
    generate_unused_types: true,
    pub_export_macro: true,
    default_bindings_module: "plugind_sdk::bindings",
});
