//! State that a plugin hands to its next version, as a trait.

use bindings::exports::plugind::plugin::handover::Guest;

#[doc(hidden)]
pub mod bindings {
    //! A separate world, so that only plugins with a state export the interface.

    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package plugind:sdk;
            world handover {
                export plugind:plugin/handover@0.1.0;
            }
        ",
        pub_export_macro: true,
        export_macro_name: "export_handover",
        default_bindings_module: "plugind_sdk::handover::bindings",
    });
}

/// State that a plugin hands to its next version. Export it with [`export_handover!`](crate::export_handover).
///
/// A plugin that exports it has exactly one instance. When a new version replaces it, new requests wait and requests in
/// progress are finished. Then the host calls `save` on the old version, and `restore` on the new one with the result.
/// If one of them fails, the old version continues.
///
/// `save` is also called when the daemon shuts down, and before an instance is recycled or is stopped because it has no
/// work. `restore` is also called on an instance that replaces a recycled, stopped or failed one, and on the first one
/// after a restart of the daemon. The limits are in `[handover]` of the manifest.
///
/// ```no_run
/// use plugind_sdk::Handover;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// static VISITS: AtomicU64 = AtomicU64::new(0);
///
/// struct Counter;
///
/// impl Handover for Counter {
///     async fn save() -> Result<Option<Vec<u8>>, String> {
///         // The format number: a later version may write another format.
///         Ok(Some(format!("1 {}", VISITS.load(Relaxed)).into_bytes()))
///     }
///
///     async fn restore(state: Vec<u8>) -> Result<(), String> {
///         let text = String::from_utf8(state).map_err(|_| "the state is not UTF-8")?;
///         let visits = text.strip_prefix("1 ").and_then(|visits| visits.parse().ok());
///         VISITS.store(visits.ok_or("the state has an unknown format")?, Relaxed);
///         Ok(())
///     }
/// }
///
/// plugind_sdk::export_handover!(Counter);
/// # fn main() {}
/// ```
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Handover {
    /// Returns the state, or `None` if there is none. Called while the instance has no work.
    ///
    /// It must leave the instance able to continue: if the new version fails, this instance gets work again.
    /// `Err` makes the handover fail. Its text is for the operator: one line without secrets.
    async fn save() -> Result<Option<Vec<u8>>, String>;

    /// Takes over a state that `save` returned, perhaps in another version. Called after `start` and before any work.
    ///
    /// `Err` means that the state cannot be used, and this instance does not serve.
    async fn restore(state: Vec<u8>) -> Result<(), String>;
}

impl<T: Handover> Guest for T {
    async fn save() -> Result<Option<Vec<u8>>, String> {
        T::save().await
    }

    async fn restore(state: Vec<u8>) -> Result<(), String> {
        T::restore(state).await
    }
}
