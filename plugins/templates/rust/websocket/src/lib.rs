//! Greets everyone whose name comes as a message of a WebSocket.

mod greeting;
mod lifecycle;

use greeting::greet;
use lifecycle::{Plugin, greeting};
use plugind_sdk::debug;
use plugind_sdk::websockets::{Message, UpgradeRequest, Websocket, WebsocketHandler};

impl WebsocketHandler for Plugin {
    async fn handle(request: UpgradeRequest, socket: Websocket) -> Result<(), String> {
        debug!(path = request.path, "request");
        socket.accept(None).map_err(|error| error.to_string())?;
        loop {
            match socket.receive().await {
                Ok(Message::Text(name)) => {
                    // If the client has left, the next `receive` reports it.
                    let _sent = socket.send(Message::Text(greet(greeting(), &name))).await;
                }
                Ok(Message::Binary(_)) => (),
                // A client that has left is no failure of the plugin.
                Ok(Message::Close(_)) | Err(_) => return Ok(()),
            }
        }
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_websockets!(Plugin);
