//! Writes to the journal in all the ways there are, in a request to `/log`, and before it aborts in one to `/trap`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is one of the ways")]

use std::io::Write;

use plugind_sdk::journal::{self, Priority};
use plugind_test_guests::fine;

async fn respond(words: &[&str]) -> String {
    if words == ["log"] {
        journal::critical("a critical entry", &[("request-id", "1")]);
        journal::error("an error entry", &[("request-id", "2")]);
        journal::warning("a warning entry", &[("request-id", "3")]);
        journal::notice("a notice entry", &[("request-id", "4")]);
        journal::info("an info entry", &[("request-id", "5"), ("user", "a \"quoted\" name")]);
        journal::debug("a debug entry", &[("request-id", "6")]);
        journal::send(Priority::Info, "an entry without fields", &[]);
        println!("a line on stdout");
        println!("two lines\non stdout");
        eprintln!("a line on stderr");
        print!("a line without its end");
        // Nothing comes after it, so it must not wait in a buffer of the guest.
        let _flushed = std::io::stdout().flush();
    }
    if words == ["trap"] {
        journal::info("an entry before the trap", &[]);
        print!("the last words before the trap");
        let _flushed = std::io::stdout().flush();
        std::process::abort();
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);
