//! Greets everyone whose name comes as a line of a connection.

mod greeting;
mod lifecycle;

use greeting::greet;
use lifecycle::{Plugin, greeting};
use plugind_sdk::ConnectionHandler;
use plugind_sdk::connections::{Connection, READ_MAX};

/// The longest line. Without a limit, one client could fill the memory of the instance.
const LINE_MAX: usize = 1024;

impl ConnectionHandler for Plugin {
    async fn handle(connection: Connection) -> Result<(), String> {
        let mut received = Vec::new();
        // A client that has left is no failure of the plugin.
        while let Ok(bytes) = connection.read(READ_MAX).await {
            if bytes.is_empty() {
                break;
            }
            received.extend(bytes);
            while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = received.drain(..=end).collect();
                let answer = greet(greeting(), &String::from_utf8_lossy(&line));
                if connection.write(answer.into_bytes()).await.is_err() {
                    return Ok(());
                }
            }
            if received.len() > LINE_MAX {
                return Err("a line is too long".to_owned());
            }
        }
        Ok(())
    }
}

plugind_sdk::export!(Plugin);
plugind_sdk::export_connections!(Plugin);
