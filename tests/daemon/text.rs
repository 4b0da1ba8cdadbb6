//! The text of a plugin is data: it cannot pass for the host's, leave its line, or drown the rest.

use plugind_tests::{Daemon, Log, Tree};

/// The least that must be kept of a long text, and the most.
const KEPT: std::ops::Range<usize> = 40_000..60_000;
/// A rate for everything that the guest `forges` writes, which is more than a plugin may write by default.
const PLENTY: &str = "[limits]\nlog-rate = \"10000/10s\"\n";

/// Every line is one event: a priority, who speaks, and nothing that ends a line or steers a terminal.
fn assert_orderly(log: &Log) {
    for line in log.all() {
        let priorities = ["crit", "err", "warning", "notice", "info", "debug"];
        let priority = priorities.iter().find(|name| line.starts_with(&format!("{name:<7} ")));
        assert!(priority.is_some(), "{line:.200}");
        let speaker = line[8..].split_once(": ").map(|(speaker, _)| speaker);
        let named = |name: &str| name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
        let known = match speaker.and_then(|speaker| speaker.strip_prefix("plugind")) {
            Some("") => true,
            Some(plugin) => plugin
                .strip_prefix('[')
                .and_then(|plugin| plugin.strip_suffix(']'))
                .is_some_and(named),
            None => false,
        };
        assert!(known, "{line:.200}");
        let harmful = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{fffd}');
        assert!(!line.contains(harmful), "{line:.200}");
        assert!(line.len() < 2 * KEPT.end, "{} bytes: {line:.200}", line.len());
    }
}

/// A line of a plugin without the identity of its request, which the host adds.
fn without_identity(line: &str) -> &str {
    let (line, identity) = line.rsplit_once(" request_id=").expect("the request is known");
    let (request, trace) = identity.split_once(" trace_id=").expect("it has a trace");
    assert_eq!((request.len(), trace.len()), (16, 32), "{identity}");
    line
}

/// Returns the number of lines that are equal to this one.
fn times(log: &Log, line: &str) -> usize {
    let lines = log.all();
    let lines = lines.iter().filter(|other| other.starts_with(line));
    lines.filter(|other| without_identity(other) == line).count()
}

#[test]
fn an_entry_of_a_plugin_is_logged_with_its_name_priority_and_fields() {
    let daemon = Daemon::start_with(&Tree::new().with("logs"), &["--log", "debug"]);
    assert_eq!(daemon.get("/logs/log").status(), 200);
    for line in [
        "crit    plugind[logs]: a critical entry request-id=1",
        "err     plugind[logs]: an error entry request-id=2",
        "warning plugind[logs]: a warning entry request-id=3",
        "notice  plugind[logs]: a notice entry request-id=4",
        "info    plugind[logs]: an info entry request-id=5 user=\"a \\\"quoted\\\" name\"",
        "debug   plugind[logs]: a debug entry request-id=6",
        "info    plugind[logs]: an entry without fields",
        "info    plugind[logs]: a line on stdout",
        "info    plugind[logs]: two lines",
        "info    plugind[logs]: on stdout",
        "warning plugind[logs]: a line on stderr",
    ] {
        daemon.log.wait_for(&[line]);
        assert_eq!(times(&daemon.log, line), 1, "{line}");
    }
    assert_orderly(&daemon.log);
}

#[test]
fn wasi_logging_writes_the_level_as_a_priority_and_the_context_as_a_field() {
    let daemon = Daemon::start_with(&Tree::new().with("writes_logs"), &["--log", "debug"]);
    assert_eq!(daemon.get("/writes-logs/log").status(), 200);
    for line in [
        "debug   plugind[writes-logs]: a trace entry context=\"orders and payments\"",
        "debug   plugind[writes-logs]: a debug entry context=\"orders and payments\"",
        "info    plugind[writes-logs]: an info entry context=\"orders and payments\"",
        "warning plugind[writes-logs]: a warn entry context=\"orders and payments\"",
        "err     plugind[writes-logs]: an error entry context=\"orders and payments\"",
        "crit    plugind[writes-logs]: a critical entry context=\"orders and payments\"",
        "info    plugind[writes-logs]: without a context",
        "err     plugind[writes-logs]: of\\u{a}text context=\"two\\u{a}lines\"",
    ] {
        daemon.log.wait_for(&[line]);
        assert_eq!(times(&daemon.log, line), 1, "{line}");
    }
    assert_orderly(&daemon.log);
}

#[test]
fn entries_of_wasi_logging_are_bounded_by_the_log_rate_and_in_length() {
    let rate = "[limits]\nlog-rate = \"200/1h\"\n";
    let tree = Tree::new().with_manifest("writes_logs", rate);
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/writes-logs/long").status(), 200);
    assert_eq!(daemon.get("/writes-logs/flood/10000").status(), 200);
    // Dropped entries are counted when the version ends.
    tree.put("writes-logs.toml", "description = \"another version\"\n");
    assert!(daemon.reload().contains("changed=1"));
    daemon.log.wait_for(&["plugin=writes-logs", "log rate limit exceeded", "count=9850"]);
    let line = daemon.log.wait_for(&["plugind[writes-logs]: mmmm"]);
    assert!(KEPT.contains(&line.len()), "{}", line.len());
    assert!(without_identity(&line).ends_with(&format!(" context={}", "c".repeat(1024))));
    // The long one counted once for each KiB or part of one: 48 of its message, one of its context, and one of the
    // name of the field.
    let flood = daemon.log.count(&["plugind[writes-logs]: one of many context=flood"]);
    assert_eq!(flood, 200 - 50);
}

#[test]
fn the_last_output_of_an_instance_is_logged_without_an_end_of_line() {
    let mut daemon = Daemon::start(&Tree::new().with("logs"));
    assert_eq!(daemon.get("/logs/log").status(), 200);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["info    plugind[logs]: a line without its end"]), 1);
}

#[test]
fn all_text_of_an_instance_is_logged_before_the_entry_of_its_failure() {
    let tree =
        Tree::new().with("logs").with_named("fresh", "logs", "[instances]\nmode = \"fresh\"\n");
    let daemon = Daemon::start(&tree);
    for plugin in ["logs", "fresh"] {
        assert_eq!(daemon.get(&format!("/{plugin}/trap")).status(), 502);
        let [entry, words] = ["an entry before the trap", "the last words before the trap"]
            .map(|text| format!("plugind[{plugin}]: {text}"));
        let named = format!("plugin={plugin} ");
        daemon.log.wait_for_in_order(0, &[&[&entry], &[&words], &["instance failed", &named]]);
    }
}

#[test]
fn entries_below_the_log_level_are_not_logged() {
    let tree = Tree::new().with("warmup").with("hello");
    let mut daemon = Daemon::launch(&tree, &["--log", "notice"]);
    daemon.log.wait_for(&["notice  plugind[warmup]: warm"]);
    assert_eq!(daemon.stop(), 0);
    for line in daemon.log.all() {
        assert!(!line.starts_with("info") && !line.starts_with("debug"), "{line}");
    }
}

#[test]
fn a_plugin_cannot_pass_its_text_off_as_the_hosts() {
    let manifest = format!("[service]\nwatchdog-sec = \"100ms\"\n{PLENTY}");
    let tree = Tree::new().with_manifest("forges", &manifest);
    let mut daemon = Daemon::start_with(&tree, &["--log", "debug"]);
    assert_eq!(daemon.get("/forges/forge").status(), 200);
    daemon.log.wait_for(&["plugin degraded", "forged by health"]);
    assert_eq!(daemon.stop(), 0);
    assert_orderly(&daemon.log);

    let said = daemon.log.all();
    for forged in ["by message", "by stdout", "by stderr", "by health"] {
        let forged = format!("forged {forged}");
        let lines: Vec<_> = said.iter().filter(|line| line.contains(&forged)).collect();
        assert!(!lines.is_empty(), "{forged} is not logged at all");
        for line in lines {
            assert!(!line.starts_with("err     plugind: forged"), "{line}");
        }
    }
    // It is logged as it is, and escaped.
    for part in [
        "two lines\\u{a}err     plugind: forged by message",
        "\\u{1b}[2J\\u{1b}[31mred",
        "nul\\u{0}, bell\\u{7}, delete\\u{7f}",
        "{} {name} %s %n ${HOME} $(reboot)",
        "value=\"one\\u{a}MESSAGE_ID=two",
    ] {
        assert_eq!(daemon.log.count(&["plugind[forges]: ", part]), 1, "{part}");
    }
}

#[test]
fn fields_have_names_of_the_plugins_own_and_bounded_values() {
    let mut daemon = Daemon::start(&Tree::new().with_manifest("forges", PLENTY));
    assert_eq!(daemon.get("/forges/forge").status(), 200);
    assert_eq!(daemon.stop(), 0);
    let line = daemon.log.wait_for(&["plugind[forges]: names that are not its own"]);
    for name in ["MESSAGE_ID=", "_PID=", "PLUGIN=", "a=b=", "=\"no name\""] {
        assert!(!line.contains(&format!(" {name}")), "{name}: {line}");
    }
    for field in [" message-id=0123456789abcdef", " -pid=1", " plugin=somebody-else", " a-b=c"] {
        assert!(line.contains(field), "{field}: {line}");
    }
    let line = daemon.log.wait_for(&["plugind[forges]: a long name"]);
    let end = format!(" {}=value", "n".repeat(57));
    assert!(without_identity(&line).ends_with(&end), "{line:.200}");
    let line = daemon.log.wait_for(&["plugind[forges]: a long value"]);
    assert_eq!(line.matches('v').count(), 1024 + "a long value value".matches('v').count());
    let line = daemon.log.wait_for(&["plugind[forges]: a hundred fields"]);
    assert_eq!(line.matches(" field-").count(), 32);
}

#[test]
fn long_texts_are_cut_at_the_end_of_a_character_and_say_so() {
    let tree = Tree::new().with_manifest("forges", PLENTY);
    let mut daemon = Daemon::start_with(&tree, &["--log", "debug"]);
    assert_eq!(daemon.get("/forges/forge").status(), 200);
    assert_eq!(daemon.stop(), 0);
    for text in ["mmmm", "ääää"] {
        let line = daemon.log.wait_for(&["plugind[forges]: ", text]);
        assert!(KEPT.contains(&line.len()), "{}", line.len());
        assert!(without_identity(&line).ends_with("more bytes were cut off)"));
    }
    // A line of output that is too long becomes several, of which nothing is lost.
    let lines = daemon.log.all();
    let said: usize = lines.iter().map(|line| line.matches("llll").count() * 4).sum();
    assert_eq!(said, 1 << 20);
    let status = daemon.log.wait_for(&["plugind: status", "ssss"]);
    assert!(status.len() < 400, "{}", status.len());
}

#[test]
fn entries_beyond_the_log_rate_are_dropped_and_counted() {
    let rate = "[limits]\nlog-rate = \"10/1h\"\n";
    let tree = Tree::new().with_manifest("floods", rate).with("logs");
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/floods/flood/10000").status(), 200);
    assert_eq!(daemon.get("/logs/log").status(), 200);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(daemon.log.count(&["plugind[floods]: flood entry="]), 10);
    daemon.log.wait_for(&["warning plugind: ", "log rate limit exceeded", "count=9990"]);
    // Its neighbour has a rate of its own.
    daemon.log.wait_for(&["plugind[logs]: an error entry"]);
}

#[test]
fn a_plugin_that_prints_without_an_end_of_a_line_is_bounded_by_its_log_rate() {
    let tree = Tree::new().with_manifest("prints", "[limits]\nlog-rate = \"100/1h\"\n");
    let mut daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/prints/print/32").status(), 200);
    // Dropped entries are counted when the version ends.
    tree.put("prints.toml", "description = \"another version\"\n");
    assert!(daemon.reload().contains("changed=1"));
    daemon.log.wait_for(&[
        "warning plugind: ",
        "plugin=prints",
        "log rate limit exceeded",
        "count=",
    ]);
    assert_eq!(daemon.stop(), 0);
    let all = daemon.log.all();
    let printed = all.iter().filter(|line| line.starts_with("info    plugind[prints]: "));
    let bytes: usize = printed.map(String::len).sum();
    // The last entry is written as a whole.
    assert!((100 << 10..(100 << 10) + KEPT.end).contains(&bytes), "{bytes} bytes were written");
}

#[test]
fn entries_of_a_plugin_are_logged_again_after_the_period_of_its_log_rate() {
    let tree = Tree::new().with_manifest("floods", "[limits]\nlog-rate = \"10/100ms\"\n");
    let daemon = Daemon::start(&tree);
    assert_eq!(daemon.get("/floods/flood/1000").status(), 200);
    plugind_tests::eventually("the count of what is missing", || {
        assert_eq!(daemon.get("/floods/flood/1").status(), 200);
        let parts = ["warning plugind: ", "plugin=floods", "log rate limit exceeded", "count="];
        (daemon.log.count(&parts) > 0).then_some(())
    });
}
