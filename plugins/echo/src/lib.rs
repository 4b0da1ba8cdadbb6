//! Sends back what it receives on each connection of its socket.

use plugind_sdk::ConnectionHandler;
use plugind_sdk::connections::{Connection, READ_MAX};

struct Echo;

impl ConnectionHandler for Echo {
    async fn handle(connection: Connection) -> Result<(), String> {
        // A client that has left is no failure of the plugin.
        while let Ok(bytes) = connection.read(READ_MAX).await {
            if bytes.is_empty() || connection.write(bytes).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

plugind_sdk::export_connections!(Echo);
