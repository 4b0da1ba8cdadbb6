//! Key-value stores by `wasi:keyvalue@0.2.0-draft2`, which the manifest grants with `keyvalue`.
//!
//! `store::open("default")` opens the plugin's own store, and `store::open` with a name in `shared` of the grant opens
//! a store that plugins share. A change is on the disk when the call returns, unless the stores are on a server.
//!
//! ```no_run
//! use plugind_sdk::keyvalue::{atomics, store};
//!
//! # fn example() -> Result<(), store::Error> {
//! let bucket = store::open("default")?;
//! let visits = atomics::increment(&bucket, "visits", 1)?;
//! # Ok(())
//! # }
//! ```

mod bindings {
    #![expect(missing_docs, reason = "not every item of wasi:keyvalue is documented")]

    wit_bindgen::generate!({
        path: "../../wit/deps/keyvalue",
        world: "wasi:keyvalue/imports",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub use bindings::wasi::keyvalue::{atomics, batch, store};
