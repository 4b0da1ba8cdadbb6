//! Writes the number of each connection and its generation on it, and passes the count to the next version. `start` of
//! its configuration is the time that it needs to start, in milliseconds.

use plugind_sdk::{
    ConnectionHandler, Handover, Lifecycle, StartError, config,
    connections::{Connection, READ_MAX},
    identity,
};
use plugind_test_guests::{number, pause};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Numbers;

impl Lifecycle for Numbers {
    async fn start() -> Result<(), StartError> {
        if let Some(milliseconds) = config::get("start").ok().flatten() {
            pause(number(&milliseconds)).await;
        }
        Ok(())
    }
}

impl ConnectionHandler for Numbers {
    async fn handle(connection: Connection) -> Result<(), String> {
        let count = COUNT.fetch_add(1, Relaxed) + 1;
        let line = format!("{count} {}\n", identity::generation());
        connection.write(line.into_bytes()).await.map_err(|error| error.to_string())?;
        while connection.read(READ_MAX).await.is_ok_and(|bytes| !bytes.is_empty()) {}
        Ok(())
    }
}

impl Handover for Numbers {
    async fn save() -> Result<Option<Vec<u8>>, String> {
        Ok(Some(COUNT.load(Relaxed).to_be_bytes().to_vec()))
    }

    async fn restore(state: Vec<u8>) -> Result<(), String> {
        let count = state.try_into().map_err(|_| "the state must have 8 bytes")?;
        COUNT.store(u64::from_be_bytes(count), Relaxed);
        Ok(())
    }
}

plugind_sdk::export!(Numbers);
plugind_sdk::export_connections!(Numbers);
plugind_sdk::export_handover!(Numbers);
