//! The strings of `[config]` in the plugin's manifest, read through `wasi:config/store`.
//!
//! They do not change while the instance exists. [`get`] returns `Ok(None)` for a key that the manifest does not have.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/config",
        world: "wasi:config/imports",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub use bindings::wasi::config::store::{Error, get, get_all};
