//! Writes an entry of each level by `wasi:logging` in a request to `/log`, N entries in one to `/flood/N`, and one
//! longer than an entry may be in one to `/long`.
#![expect(missing_docs, reason = "wit-bindgen writes what it must, here in this crate")]

use plugind_test_guests::{fine, number};

wit_bindgen::generate!({
    inline: "
        package plugind:test;

        world logs {
            import wasi:logging/logging@0.1.0-draft;
        }

        package wasi:logging@0.1.0-draft {
            interface logging {
                enum level { trace, debug, info, warn, error, critical }
                log: func(level: level, context: string, message: string);
            }
        }
    ",
    world: "plugind:test/logs",
    generate_all,
});

use wasi::logging::logging::{Level, log};

async fn respond(words: &[&str]) -> String {
    match words {
        ["log"] => {
            for (level, message) in [
                (Level::Trace, "a trace entry"),
                (Level::Debug, "a debug entry"),
                (Level::Info, "an info entry"),
                (Level::Warn, "a warn entry"),
                (Level::Error, "an error entry"),
                (Level::Critical, "a critical entry"),
            ] {
                log(level, "orders and payments", message);
            }
            log(Level::Info, "", "without a context");
            log(Level::Error, "two\nlines", "of\ntext");
        }
        ["flood", entries] => {
            for _ in 0..number(entries) {
                log(Level::Info, "flood", "one of many");
            }
        }
        ["long"] => log(Level::Info, &"c".repeat(100_000), &"m".repeat(100_000)),
        _ => (),
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);
