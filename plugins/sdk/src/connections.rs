//! Connections of stream sockets, as a trait.

use bindings::exports::plugind::plugin::connection_handler::Guest;

pub use crate::bindings::plugind::plugin::types::{IpAddress, Peer, Process};
pub use bindings::plugind::plugin::connections::{Connection, ConnectionError};

/// The most bytes that one `read` returns.
pub const READ_MAX: u32 = 64 << 10;

#[doc(hidden)]
pub mod bindings {
    //! A separate world, so that only plugins that serve connections export the interface.

    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package plugind:sdk;
            world connections {
                export plugind:plugin/connection-handler@0.1.0;
            }
        ",
        with: {
            "plugind:plugin/types@0.1.0": crate::bindings::plugind::plugin::types,
            "plugind:plugin/connections@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_connections",
        default_bindings_module: "plugind_sdk::connections::bindings",
    });
}

/// Serves the connections of a stream socket. Export it with [`export_connections!`](crate::export_connections).
///
/// ```no_run
/// use plugind_sdk::connections::{Connection, ConnectionHandler, READ_MAX};
///
/// struct Echo;
///
/// impl ConnectionHandler for Echo {
///     async fn handle(connection: Connection) -> Result<(), String> {
///         while let Ok(bytes) = connection.read(READ_MAX).await {
///             if bytes.is_empty() || connection.write(bytes).await.is_err() {
///                 break;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// plugind_sdk::export_connections!(Echo);
/// # fn main() {}
/// ```
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait ConnectionHandler {
    /// Serves one connection, from its first byte to its end.
    ///
    /// `Ok` closes it after all written bytes were sent. `Err` resets it. The text is for the operator: one line
    /// without secrets.
    async fn handle(connection: Connection) -> Result<(), String>;
}

impl<T: ConnectionHandler> Guest for T {
    async fn handle(connection: Connection) -> Result<(), String> {
        T::handle(connection).await
    }
}
