//! Greets the world now and then, in the background. A program that returns is finished, and is not run again.

mod greeting;

use greeting::greet;
use plugind_sdk::{config, info};
use std::{process::ExitCode, thread::sleep, time::Duration};

const INTERVAL: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // From [config] of the manifest. It does not change while the program runs.
    let greeting = match config::get("greeting") {
        Ok(greeting) => greeting.unwrap_or_else(|| "Hello".to_owned()),
        Err(error) => {
            eprintln!("cannot read the configuration: {error}");
            return ExitCode::FAILURE;
        }
    };
    info!(greeting, "greeting loaded");
    loop {
        // Each line that is printed is an entry of the log.
        print!("{}", greet(&greeting, "world"));
        sleep(INTERVAL);
    }
}
