//! What a plugin keeps from one version to the next, as a trait.

use bindings::exports::plugind::plugin::handover::Guest;

#[doc(hidden)]
pub mod bindings {
    //! A world of its own, so that a plugin without a state does not export it.

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

/// What a plugin keeps from one version to the next. Export it with [`export_handover!`](crate::export_handover).
///
/// A plugin that does has one instance. When a new version takes its place, work waits for a moment: the old one's
/// `save` is called, and what it returns goes to the new one's `restore`. If one of them fails, the old one goes on.
///
/// ```ignore
/// use plugind_sdk::Handover;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// static VISITS: AtomicU64 = AtomicU64::new(0);
///
/// struct Counter;
///
/// impl Handover for Counter {
///     async fn save() -> Result<Option<Vec<u8>>, String> {
///         // A version, so that a later format can be told from this one.
///         Ok(Some(format!("1 {}", VISITS.load(Relaxed)).into_bytes()))
///     }
///
///     async fn restore(state: Vec<u8>) -> Result<(), String> {
///         let text = String::from_utf8(state).map_err(|_| "the state is no text")?;
///         let visits = text.strip_prefix("1 ").and_then(|visits| visits.parse().ok());
///         VISITS.store(visits.ok_or("the state is of another version")?, Relaxed);
///         Ok(())
///     }
/// }
///
/// plugind_sdk::export_handover!(Counter);
/// ```
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Handover {
    /// Called while there is no work. `None` means that there is nothing to keep. It should leave everything as it is:
    /// when the new version fails, this instance goes on.
    async fn save() -> Result<Option<Vec<u8>>, String>;

    /// Called after `start` and before any work, with what was saved, perhaps by another version.
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
