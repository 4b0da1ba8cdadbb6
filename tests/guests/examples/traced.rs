//! Logs in each way once in a request to `/log`, the same and aborts in one to `/trap`, and never answers `/hold`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is a way of logging")]

use plugind_sdk::journal;
use plugind_test_guests::{fine, forever};

fn log() {
    journal::info("an entry", &[("trace-id", "forged")]);
    println!("a line on stdout");
    eprintln!("a line on stderr");
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["log"] => log(),
        ["trap"] => {
            log();
            std::process::abort();
        }
        ["hold"] => {
            log();
            forever().await;
        }
        _ => (),
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);
