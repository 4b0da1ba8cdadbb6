//! Serves no connection: it traps, spins or waits for ever, as `how` in its configuration says.

use plugind_sdk::{ConnectionHandler, config, connections::Connection};

struct Fails;

impl ConnectionHandler for Fails {
    async fn handle(_: Connection) -> Result<(), String> {
        match config::get("how").ok().flatten().as_deref() {
            Some("trap") => panic!("a trap, as the configuration says"),
            Some("spin") => loop {
                std::hint::spin_loop();
            },
            _ => {
                std::future::pending::<()>().await;
                Ok(())
            }
        }
    }
}

plugind_sdk::export_connections!(Fails);
