//! Datagrams, as a trait.

use bindings::exports::plugind::plugin::datagram_handler::Guest;

pub use crate::bindings::plugind::plugin::types::{IpAddress, Peer, Process};

#[doc(hidden)]
pub mod bindings {
    //! A separate world, so that only plugins that answer datagrams export the interface.

    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package plugind:sdk;
            world datagrams {
                export plugind:plugin/datagram-handler@0.1.0;
            }
        ",
        with: { "plugind:plugin/types@0.1.0": crate::bindings::plugind::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_datagrams",
        default_bindings_module: "plugind_sdk::datagrams::bindings",
    });
}

/// Answers datagrams. Export it with [`export_datagrams!`](crate::export_datagrams).
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait DatagramHandler {
    /// Answers one datagram; `None` sends nothing. `socket` is the name of the socket on which it came.
    async fn handle(socket: String, peer: Peer, datagram: Vec<u8>) -> Option<Vec<u8>>;
}

impl<T: DatagramHandler> Guest for T {
    async fn handle(socket: String, peer: Peer, datagram: Vec<u8>) -> Option<Vec<u8>> {
        T::handle(socket, peer, datagram).await
    }
}
