//! The strings of `[config]` in the plugin's manifest, by `wasi:config/store`.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/config",
        world: "wasi:config/imports",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub use bindings::wasi::config::store::{Error, get, get_all};
