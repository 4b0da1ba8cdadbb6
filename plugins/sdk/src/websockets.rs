//! WebSockets, as a trait.

use bindings::exports::plugind::plugin::websocket_handler::Guest;

pub use bindings::plugind::plugin::websockets::{
    CloseReason, HeaderField, Message, UpgradeRequest, Websocket, WebsocketError,
};

#[doc(hidden)]
pub mod bindings {
    //! A separate world, so that only plugins that serve WebSockets export the interface.

    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package plugind:sdk;
            world websockets {
                export plugind:plugin/websocket-handler@0.1.0;
            }
        ",
        with: { "plugind:plugin/websockets@0.1.0": generate },
        pub_export_macro: true,
        export_macro_name: "export_websockets",
        default_bindings_module: "plugind_sdk::websockets::bindings",
    });
}

impl UpgradeRequest {
    /// The value of a header field by its name in lower case, if it is there and UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|field| field.name == name)?;
        str::from_utf8(&field.value).ok()
    }
}

/// Serves WebSockets. Export it with [`export_websockets!`](crate::export_websockets).
///
/// ```no_run
/// use plugind_sdk::websockets::{Message, UpgradeRequest, Websocket, WebsocketHandler};
///
/// struct Echo;
///
/// impl WebsocketHandler for Echo {
///     async fn handle(_: UpgradeRequest, socket: Websocket) -> Result<(), String> {
///         socket.accept(None).map_err(|error| error.to_string())?;
///         loop {
///             match socket.receive().await {
///                 // A client that has left is no failure of the plugin.
///                 Ok(Message::Close(_)) | Err(_) => return Ok(()),
///                 Ok(message) => drop(socket.send(message).await),
///             }
///         }
///     }
/// }
///
/// plugind_sdk::export_websockets!(Echo);
/// # fn main() {}
/// ```
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait WebsocketHandler {
    /// Serves one WebSocket, from its request to its end.
    ///
    /// `Ok` closes it with code 1000, and `Err` with code 1011; the text is for the operator: one line without secrets.
    async fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String>;
}

impl<T: WebsocketHandler> Guest for T {
    async fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String> {
        T::handle(request, socket).await
    }
}
