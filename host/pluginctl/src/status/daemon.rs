//! The status of the daemon, in lines for a person.

use crate::{print::Details, relative_time::moment, status::failure::at};
use plugind::api;

/// Whether no plugin has failed or is tried again, the directories and the settings could be read, and no
/// socket is missing.
pub(super) fn is_well(status: &api::Status) -> bool {
    status.failed.is_empty()
        && status.retried.is_empty()
        && status.unreadable.is_none()
        && status.missing_sockets.is_empty()
}

/// The status of the daemon, in lines.
pub(super) fn text(status: &api::Status) -> String {
    let mark = if is_well(status) { "" } else { "● " };
    let mut details = Details::of(&format!("{mark}plugind {}", status.version));
    details
        .line("Active", &status.active_state)
        .line("Status", &status.status)
        .line("Plugins", &format!("{} ({} ready)", status.plugins, status.ready));
    if !status.awaited.is_empty() {
        details.line("Awaited", &status.awaited.join(", "));
    }
    if !status.limits.is_empty() {
        details.line("Limits", &format!("{} reached", status.limits.join(", ")));
    }
    details.line_if("Unreadable", status.unreadable.as_deref());
    for problem in &status.storage {
        details.line("Storage", problem);
    }
    for failure in &status.failed {
        match failure.previous_since.map(moment) {
            Some(since) => details.line(
                "Degraded",
                &format!(
                    "{} has served its previous version since {}: {}",
                    failure.plugin,
                    humantime::format_rfc3339_seconds(since),
                    at(failure)
                ),
            ),
            None => details.line("Failed", &format!("{}: {}", failure.plugin, at(failure))),
        };
    }
    for failure in &status.retried {
        details.line("Retried", &format!("{}: {}", failure.plugin, at(failure)));
    }
    for ignored in &status.ignored {
        details.line("Ignored", ignored);
    }
    details.text().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::failure;

    #[test]
    fn the_status_of_the_daemon_names_awaited_and_failed_plugins() {
        let mut status = api::Status {
            version: "0.1.0".to_owned(),
            active_state: "activating".to_owned(),
            status: "starting: 2 of 4 ready".to_owned(),
            plugins: 4,
            ready: 2,
            awaited: vec!["slow".to_owned(), "warmup".to_owned()],
            failed: Vec::new(),
            retried: Vec::new(),
            unreadable: None,
            ignored: Vec::new(),
            limits: Vec::new(),
            storage: Vec::new(),
            missing_sockets: Vec::new(),
        };
        assert_eq!(
            text(&status),
            "\
plugind 0.1.0
     Active: activating
     Status: starting: 2 of 4 ready
    Plugins: 4 (2 ready)
    Awaited: slow, warmup
"
        );
        status.limits.push("connections-max of the socket http (8192)".to_owned());
        let limits = "     Limits: connections-max of the socket http (8192) reached\n";
        assert!(text(&status).ends_with(limits), "{}", text(&status));
        status.storage.push("the state directory /x is on a file system without space".to_owned());
        let storage = "    Storage: the state directory /x is on a file system without space\n";
        assert!(text(&status).ends_with(storage), "{}", text(&status));
        assert!(is_well(&status));
        status.unreadable = Some("/etc/plugind/plugins: permission denied".to_owned());
        let unreadable = " Unreadable: /etc/plugind/plugins: permission denied\n";
        assert!(text(&status).contains(unreadable) && !is_well(&status), "{}", text(&status));
        status.unreadable = None;
        status.retried.push(failure());
        let reported = text(&status);
        assert!(reported.starts_with("● plugind") && !is_well(&status), "{reported}");
        let retried = "    Retried: bad: at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload\n";
        assert!(reported.ends_with(retried), "{reported}");
        status.retried.clear();
        status.failed.push(failure());
        let reported = text(&status);
        assert!(reported.starts_with("● plugind"), "{reported}");
        let failed = "     Failed: bad: at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload\n";
        assert!(reported.ends_with(failed), "{reported}");
    }
}
