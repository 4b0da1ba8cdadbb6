//! Prints N MiB without an end of a line in a request to `/print/N`, then answers.
#![expect(clippy::print_stdout, reason = "printing is its fact")]

use plugind_test_guests::{fine, number};
use std::io::Write;

async fn respond(words: &[&str]) -> String {
    if let ["print", mebibytes] = words {
        let kibibyte = "x".repeat(1 << 10);
        for _ in 0..number(mebibytes) << 10 {
            print!("{kibibyte}");
        }
        // It is no end of a line, so it must not wait in a buffer of the guest.
        let _flushed = std::io::stdout().flush();
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);
