//! The journal has the entries of plugins with their origin, which a plugin cannot forge.

use crate::{HELLO, message};
use plugind_tests::Machine;

/// So many thousands of entries are more than are kept waiting.
const FLOODS: usize = 50;

#[test]
fn the_entries_of_a_plugin_are_found_by_its_name_with_their_fields() {
    let machine = Machine::boot_with(&["hello", "logs"]);
    machine.put_manifest("hello", "[config]\ngreeting = \"Hi\"\n");
    machine.start();
    assert_eq!(machine.get("/logs/log").status(), 200);

    let entry = machine.wait_for_entry(&["PLUGIN=hello", "PLUGIN_GREETING=Hi"]);
    assert_eq!(entry.field("MESSAGE"), "greeting loaded");
    assert_eq!(entry.field("PRIORITY"), "6");
    assert_eq!(entry.field("_SYSTEMD_UNIT"), "plugind.service");

    let entry = machine.wait_for_entry(&[&message("PLUGIN_READY"), "PLUGIN=hello"]);
    assert_eq!(entry.field("PRIORITY"), "6");
    assert!(entry.field("GENERATION").parse::<u64>().is_ok(), "{entry:?}");

    machine.wait_for_entry(&["PLUGIN=logs", "PLUGIN_REQUEST_ID=5"]);
    let said = machine.journal(&["PLUGIN=logs"]);
    for (text, priority) in [
        ("a critical entry", "2"),
        ("an error entry", "3"),
        ("a warning entry", "4"),
        ("a notice entry", "5"),
        ("an info entry", "6"),
        ("a line on stdout", "6"),
        ("a line on stderr", "4"),
    ] {
        let entry = said.iter().find(|entry| entry.get("MESSAGE") == Some(text));
        let entry = entry.unwrap_or_else(|| panic!("{text} is not there: {said:?}"));
        assert_eq!(entry.field("PRIORITY"), priority, "{text}");
        assert_eq!(entry.field("SYSLOG_IDENTIFIER"), "plugind/logs");
    }
}

#[test]
fn a_request_is_found_by_its_trace_and_a_plugin_by_pluginctl_logs() {
    let machine = Machine::boot_with(&["hello", "traced"]);
    machine.put("etc/plugind/plugind.toml", "[sockets.http]\naccess-log = \"combined\"\n");
    machine.start();
    assert_eq!(machine.get("/traced/trap").status(), 502);
    let served = machine.wait_for_entry(&[&message("REQUEST_SERVED"), "PLUGIN=traced"]);
    assert_eq!((served.field("STATUS"), served.field("TARGET")), ("502", "/traced/trap"));
    assert!(served.field("MESSAGE").contains("\"GET /traced/trap HTTP/1.1\" 502 "), "{served:?}");
    let trace = format!("TRACE_ID={}", served.field("TRACE_ID"));
    machine.wait_for_entry(&[&trace, &message("REQUESTS_FAILED")]);
    let trapped = machine.wait_for_entry(&[&trace, "RESULT=trap"]);
    assert!(trapped.field("BACKTRACE").contains("!abort\n"), "{trapped:?}");
    assert!(!trapped.field("MESSAGE").contains("!abort"), "{trapped:?}");
    let entries = machine.journal(&[&trace]);
    let of_guest = |text: &str| {
        let found = entries.iter().find(|entry| entry.get("MESSAGE") == Some(text));
        found.unwrap_or_else(|| panic!("{text} is not there: {entries:?}"))
    };
    assert_eq!(of_guest("an entry").field("PLUGIN_TRACE_ID"), "forged");
    for entry in ["an entry", "a line on stdout", "a line on stderr"].map(of_guest) {
        assert_eq!(entry.field("REQUEST_ID"), served.field("REQUEST_ID"));
    }

    let logs = machine.succeed(&["pluginctl", "logs", "traced"]);
    for part in ["a line on stdout", "plugin ready", "instance failed"] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    assert!(!logs.contains("plugin=hello"), "{logs}");
    let last = machine.succeed(&["pluginctl", "logs", "traced", "-n", "1", "--json"]);
    assert_eq!(last.lines().count(), 1, "{last}");
}

#[test]
fn what_a_plugin_makes_up_has_no_effect() {
    let machine = Machine::boot_with(&["forges"]);
    // It says more than the default rate allows.
    let manifest = "[service]\nwatchdog-sec = \"100ms\"\n[limits]\nlog-rate = \"10000/10s\"\n";
    machine.put_manifest("forges", manifest);
    machine.start();
    let pid = machine.daemon("MainPID");
    assert_eq!(machine.get("/forges/forge").status(), 200);
    machine.wait_for_entry(&["PLUGIN=forges", "MESSAGE=a hundred fields"]);

    // A message of several lines is one entry.
    let whole = "MESSAGE=two lines\nerr     plugind: forged by message";
    assert_eq!(machine.journal(&[whole, "PLUGIN=forges"]).len(), 1);
    let names = machine.wait_for_entry(&["MESSAGE=names that are not its own"]);
    assert_eq!(names.field("PLUGIN"), "forges");
    assert_eq!(names.field("PRIORITY"), "6");
    assert_eq!(names.field("_PID"), pid);
    assert_eq!(names.field("PLUGIN_PRIORITY"), "0");
    let value = machine.wait_for_entry(&["MESSAGE=a value of two lines"]);
    assert_eq!(value.field("PLUGIN_VALUE"), "one\nMESSAGE_ID=two\nPRIORITY=0");
    for forged in [
        "MESSAGE_ID=0123456789abcdef0123456789abcdef",
        "MESSAGE_ID=two",
        "MESSAGE=another message",
        "PLUGIN=somebody-else",
        "SYSLOG_IDENTIFIER=sshd",
        "MESSAGE=err     plugind: forged by message",
    ] {
        assert_eq!(machine.journal(&[forged]).len(), 0, "{forged}");
    }
    for entry in machine.journal(&["PLUGIN=forges"]) {
        // systemd and the daemon have names of their own; a plugin's begin with its word for them.
        let own = [
            "MESSAGE",
            "MESSAGE_ID",
            "PRIORITY",
            "PLUGIN",
            "GENERATION",
            "WORKER",
            "SYSLOG_IDENTIFIER",
            "REQUEST_ID",
            "TRACE_ID",
        ];
        let of_plugin = entry.field("SYSLOG_IDENTIFIER") == "plugind/forges";
        for name in entry.names().filter(|_| of_plugin) {
            let known = own.contains(&name) || name.starts_with('_') || name.starts_with("PLUGIN_");
            assert!(known, "{name} in {entry:?}");
        }
        assert_ne!(entry.field("PRIORITY"), "0", "{entry:?}");
    }
    // Nor did systemd hear anything but what the daemon says.
    let status = machine.daemon("StatusText");
    assert!(!status.contains('\n') && !status.contains('\u{1b}'), "{status:?}");
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.daemon("MainPID"), pid);
    assert_eq!(machine.daemon("NRestarts"), "0");
}

#[test]
fn no_request_waits_for_a_journal_that_stands_still_and_what_is_lost_is_counted() {
    let machine = Machine::boot_with(&["hello", "floods"]);
    machine.put_manifest("floods", "[limits]\nlog-rate = \"1000000/1s\"\n");
    machine.put("etc/plugind/plugind.toml", "[sockets.http]\naccess-log = \"journal\"\n");
    // journald itself limits what it takes of a unit, and would count that for itself.
    machine.put_drop_in("plugind.service", "[Service]\nLogRateLimitIntervalSec=0\n");
    machine.start();
    // Until journald continues, only requests are sent: systemd itself sometimes waits for the journal.
    machine.signal("systemd-journald.service", "STOP");
    for _ in 0..FLOODS {
        assert_eq!(machine.get("/floods/flood/1000").status_and_text(), (200, "fine"));
        assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    }
    machine.signal("systemd-journald.service", "CONT");
    machine.wait_for_entry(&[&message("DROPPED")]);
    // When this entry has arrived, all entries in the queue have.
    assert_eq!(machine.get("/floods/flood/1").status(), 200);
    machine.wait_for_entry(&["PLUGIN=floods", "--reverse", "PLUGIN_ENTRY=0"]);
    machine.wait_for_entry(&[&message("REQUEST_SERVED"), "TARGET=/floods/flood/1"]);
    let dropped = machine.journal(&[&message("DROPPED")]);
    let counted: Vec<usize> =
        dropped.iter().map(|entry| entry.field("COUNT").parse().unwrap()).collect();
    let kept = machine.journal(&["PLUGIN=floods", "MESSAGE=flood"]).len();
    let served = machine.journal(&[&message("REQUEST_SERVED")]).len();
    // Each request is in the access log, too.
    let said = (1000 * FLOODS + 1) + (2 * FLOODS + 1);
    let found = kept + served + counted.iter().sum::<usize>();
    assert_eq!(found, said, "{kept}, {served}, {counted:?}");
    assert_eq!(counted.len(), 1, "{kept}, {counted:?}");
}
