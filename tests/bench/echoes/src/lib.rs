//! Sends back what it receives, by connections and datagrams.

use plugind_sdk::connections::{Connection, ConnectionHandler, READ_MAX};
use plugind_sdk::datagrams::{DatagramHandler, Peer};

struct Echoes;

impl ConnectionHandler for Echoes {
    async fn handle(connection: Connection) -> Result<(), String> {
        while let Ok(bytes) = connection.read(READ_MAX).await {
            if bytes.is_empty() || connection.write(bytes).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl DatagramHandler for Echoes {
    async fn handle(_: String, _: Peer, bytes: Vec<u8>) -> Option<Vec<u8>> {
        Some(bytes)
    }
}

plugind_sdk::export_connections!(Echoes);
plugind_sdk::export_datagrams!(Echoes);
