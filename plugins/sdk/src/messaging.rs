//! Messages by `wasi:messaging@0.2.0-draft`: a trait for the messages of `[[subscribe]]` in the manifest, and functions
//! that send messages to the subjects of `publish` in `[grants]`.
//!
//! `Client::connect("default")` sends to those that listen at that moment; with `Client::connect("jetstream")`, a
//! stream has stored a message when `producer::send` returns.
//!
//! ```no_run
//! use plugind_sdk::messaging::{Client, Error, Message, MessageHandler, producer};
//!
//! struct Orders;
//!
//! impl MessageHandler for Orders {
//!     fn handle(message: Message) -> Result<(), Error> {
//!         let answer = Message::new(&message.data());
//!         producer::send(&Client::connect("default")?, "orders.done", answer)
//!     }
//! }
//!
//! plugind_sdk::export_messages!(Orders);
//! # fn main() {}
//! ```

use bindings::exports::wasi::messaging::incoming_handler::Guest;

pub use bindings::wasi::messaging::{
    producer, request_reply,
    types::{Client, Error, Message},
};

#[doc(hidden)]
pub mod bindings {
    //! A separate world, so that only plugins that use messages import and export the interfaces.

    wit_bindgen::generate!({
        path: "../../wit/deps/messaging",
        world: "wasi:messaging/messaging-request-reply",
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
        export_macro_name: "export_messages",
        default_bindings_module: "plugind_sdk::messaging::bindings",
    });
}

/// Handles messages. Export it with [`export_messages!`](crate::export_messages).
pub trait MessageHandler {
    /// Handles one message. `wasi:messaging` has no async functions: the call occupies its instance until it returns,
    /// and cannot wait for async functions such as `http::send`.
    ///
    /// # Errors
    /// When it could not be handled: a stream delivers it again.
    fn handle(message: Message) -> Result<(), Error>;
}

impl<T: MessageHandler> Guest for T {
    fn handle(message: Message) -> Result<(), Error> {
        T::handle(message)
    }
}
