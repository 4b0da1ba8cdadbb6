//! Tries, in a request to `/forge`, to pass its text off as the host's.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "standard output is one of the ways in"
)]

use plugind_sdk::{Condition, Lifecycle, journal, notify};
use plugind_test_guests::fine;

struct Guest;

impl Lifecycle for Guest {
    async fn health() -> Condition {
        Condition::Degraded("sick\nREADY=1\nerr     plugind: forged by health".to_owned())
    }
}

async fn respond(words: &[&str]) -> String {
    if words == ["forge"] {
        messages();
        fields();
        statuses();
    }
    fine(words).await
}

fn messages() {
    journal::info("two lines\nerr     plugind: forged by message", &[]);
    journal::info("\nREADY=1\nMAINPID=1", &[]);
    journal::info("return\rover, tab\t, nul\0, bell\x07, delete\x7f", &[]);
    journal::info("\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07", &[]);
    journal::info("next line\u{85}, separators \u{2028}\u{2029}, override \u{202e}txet", &[]);
    journal::info("{} {name} %s %n ${HOME} $(reboot)", &[]);
    journal::info("", &[]);
    journal::info(&"m".repeat(1 << 20), &[]);
    journal::info(&"ä".repeat(1 << 19), &[]);
    println!("err     plugind: forged by stdout\x1b[2J");
    eprintln!("\rerr     plugind: forged by stderr");
    println!("{}", "l".repeat(1 << 20));
}

fn fields() {
    journal::info(
        "names that are not its own",
        &[
            ("MESSAGE_ID", "0123456789abcdef0123456789abcdef"),
            ("MESSAGE", "another message"),
            ("PRIORITY", "0"),
            ("_PID", "1"),
            ("_SYSTEMD_UNIT", "init.scope"),
            ("PLUGIN", "somebody-else"),
            ("SYSLOG_IDENTIFIER", "sshd"),
            ("a=b", "c"),
            ("a\nMESSAGE_ID", "d"),
            ("a\"b\"=", "e"),
            ("", "no name"),
            ("ä", "not ASCII"),
        ],
    );
    journal::info("a value of two lines", &[("value", "one\nMESSAGE_ID=two\nPRIORITY=0")]);
    journal::info("a long name", &[(&"n".repeat(1 << 16), "value")]);
    journal::info("a long value", &[("value", &"v".repeat(1 << 20))]);
    let names: Vec<String> = (0..100).map(|number| format!("field-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    journal::info("a hundred fields", &many);
}

fn statuses() {
    notify::status("");
    notify::status(&"s".repeat(1 << 20));
    notify::extend_timeout(u64::MAX);
    notify::status("fine\nREADY=1\nSTOPPING=1\nMAINPID=1\x1b[2J");
}

plugind_sdk::export!(Guest);
plugind_test_guests::serve!(respond);
