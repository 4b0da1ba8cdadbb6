//! `pluginctl status`: the state of the daemon, or of one plugin.

use crate::{
    client::{CallMethod, Client, ControlAddress},
    print::{Details, complain, json, line, print},
    problem::{NOT_THERE, Problem, wait_for},
    relative_time::{ago, moment},
    usage::{busy, bytes, rate, step, time},
};
use plugind::{api, base::name::PluginName};
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// The exit status for a plugin of which the newest version does not serve, as systemctl(1) has it for one that is not
/// active.
pub(crate) const NOT_ACTIVE: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Show this plugin (default: the daemon)
    #[arg(value_name = "NAME")]
    name: Option<PluginName>,
    /// Print a line for each change of the state of the daemon, until it exits
    #[arg(short, long, conflicts_with = "name")]
    follow: bool,
    /// Print JSON: each reply of the control socket
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ControlAddress,
}

impl StatusArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        wait_for(async {
            let client = Client::connect(&self.place)?;
            match &self.name {
                Some(name) => self.describe(client, name).await,
                None if self.follow => self.follow(client).await,
                None => self.daemon(client).await,
            }
        })
    }

    async fn daemon(&self, mut client: Client) -> Result<ExitCode, Problem> {
        let status: api::Status = client.call(CallMethod::Status).await?;
        print(&if self.json { json(&status) } else { daemon(&status) })?;
        Ok(if is_well(&status) { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }

    async fn follow(&self, mut client: Client) -> Result<ExitCode, Problem> {
        client.begin(CallMethod::Status).await?;
        loop {
            let (status, more) = client.next::<api::Status>().await?;
            print(&if self.json {
                json(&status)
            } else {
                line(&format!("{}: {}", status.active_state, status.status))
            })?;
            if !more {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    async fn describe(&self, mut client: Client, name: &PluginName) -> Result<ExitCode, Problem> {
        let asked = CallMethod::Describe(api::Name { name: name.to_string() });
        let described: api::Description = match client.call(asked).await.map_err(Problem::from) {
            Err(problem) if problem.is_no_such_plugin() => {
                complain(&problem.to_string());
                return Ok(ExitCode::from(NOT_THERE));
            }
            described => described?,
        };
        print(&if self.json { json(&described) } else { plugin(&described, SystemTime::now()) })?;
        let is_well = serves(&described.plugin);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACTIVE) })
    }
}

/// Whether the newest version of a plugin serves the next request, even if that starts an instance on demand.
fn serves(plugin: &api::Plugin) -> bool {
    let takes_requests = match &*plugin.active_state {
        "active" | "reloading" => true,
        "inactive" => plugin.sub_state == "on demand",
        // Only a plugin that is started on demand has a generation already.
        "activating" => plugin.generation.is_some(),
        _ => false,
    };
    takes_requests && plugin.failure.is_none()
}

/// Whether no plugin has failed or is tried again, the directories could be read, and every socket exists that a plugin
/// is served on.
fn is_well(status: &api::Status) -> bool {
    status.failed.is_empty()
        && status.retried.is_empty()
        && status.unreadable.is_none()
        && status.missing_sockets.is_empty()
}

fn daemon(status: &api::Status) -> String {
    let mark = if is_well(status) { "" } else { "● " };
    let mut details = Details::of(&format!("{mark}plugind {}", status.version));
    details
        .line("Active", &status.active_state)
        .line("Status", &status.status)
        .line("Plugins", &format!("{}, of which {} are ready", status.plugins, status.ready));
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
                    "{} serves its previous version since {}: {}",
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

fn at(failure: &api::PluginFailure) -> String {
    format!("at {}: {}; {}", failure.stage, failure.error, failure.remedy)
}

fn plugin(described: &api::Description, now: SystemTime) -> String {
    let plugin = &described.plugin;
    let mark = if plugin.failure.is_some() { "● " } else { "" };
    let mut details = Details::of(&format!("{mark}{}", plugin.name));
    details.line("Active", &active(plugin, now)).line_if("Status", plugin.status.as_deref());
    details.line_if("Degraded", plugin.degraded.as_deref());
    if !plugin.routes.is_empty() {
        details.line("Routes", &plugin.routes.join(", "));
    }
    if plugin.pinned {
        let until = format!("its files are not used until `pluginctl unpin {}`", plugin.name);
        details.line("Pinned", &until);
    }
    details.line("Required", if plugin.required { "yes" } else { "no" });
    if let Some(generation) = plugin.generation {
        details.line("Generation", &generation.to_string());
    }
    details
        .line("Workers", &plugin.workers.to_string())
        .line("Failures", &failures(plugin))
        .line_if("Memory", plugin.usage.as_ref().map(memory).as_deref())
        .line_if("CPU", plugin.usage.as_ref().map(busy).as_deref())
        .line_if("Traffic", plugin.usage.as_ref().map(traffic).as_deref())
        .line_if("Requests", plugin.requests.as_ref().and_then(requests).as_deref())
        .line_if("Kept", kept(&described.kept).as_deref())
        .line_if("Component", described.component.as_deref())
        .line_if("Version", plugin.version.as_deref())
        .line_if("SHA-256", described.digest.as_deref())
        .line_if("Manifest", plugin.configuration_digest.as_deref());
    if let Some(failure) = &plugin.failure {
        // The lines above then describe the previous version.
        // A failure of the stage `run` concerns the version that runs.
        let is_next = plugin.generation.is_some() && failure.stage != "run";
        let which = if is_next { "the next version, " } else { "" };
        details.line("Failed", &format!("{which}{}", at(failure)));
    }
    if let Some(next) = plugin.next_attempt.map(moment) {
        details.line("Next try", &humantime::format_rfc3339_seconds(next).to_string());
    }
    details.text().to_owned()
}

/// The failures of the version that serves: of its instances, and of requests.
fn failures(plugin: &api::Plugin) -> String {
    let instances = plugin.failures;
    match plugin.requests.as_ref().map_or(0, |requests| requests.failures) {
        0 => instances.to_string(),
        requests => format!("{instances} (instances), {requests} (requests)"),
    }
}

fn memory(usage: &api::PluginUsage) -> String {
    let api::PluginUsage { memory, memory_peak, memory_max, .. } = usage;
    let [now, peak, max] = [memory, memory_peak, memory_max].map(|size| bytes(*size));
    format!("{now} (peak {peak}, limit {max})")
}

/// The sizes of what is kept for a plugin, if there is anything.
fn kept(kept: &api::PluginKept) -> Option<String> {
    let parts = [
        ("state", kept.state),
        ("key-value store", kept.key_value),
        ("cache", kept.cache),
        ("saved", kept.saved),
    ];
    let parts =
        parts.into_iter().filter_map(|(what, size)| Some(format!("{what} {}", bytes(size?))));
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The load of a plugin: its rate, its requests in flight and its response times.
fn traffic(usage: &api::PluginUsage) -> String {
    let times = usage.p50.zip(usage.p99);
    let times = times.map(|(half, most)| {
        format!("; 50 % of the responses begin within {}, 99 % within {}", time(half), time(most))
    });
    format!("{}, {} in flight{}", rate(usage), usage.in_flight, times.unwrap_or_default())
}

/// Returns the figures of its requests, if any wait or some failed.
fn requests(requests: &api::PluginRequests) -> Option<String> {
    let api::PluginRequests { queued, waited, busy, timed_out, failed, .. } = requests;
    let waiting = (*queued > 0).then(|| {
        let waited = Duration::from_millis(*waited);
        format!("{queued} waiting, the oldest for {}", humantime::format_duration(waited))
    });
    let counts = [(busy, "busy (503)"), (timed_out, "timed out (504)"), (failed, "failed")];
    let counts = counts.into_iter().filter(|(count, _)| **count > 0);
    let counts: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    let minute = (!counts.is_empty()).then(|| format!("{} in the last minute", counts.join(", ")));
    let parts: Vec<_> = waiting.into_iter().chain(minute).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn active(plugin: &api::Plugin, now: SystemTime) -> String {
    let mut reported = plugin.active_state.clone();
    let is_known = ["", "running", &plugin.active_state].contains(&&*plugin.sub_state);
    if !is_known {
        let step = step(plugin, now).unwrap_or_else(|| plugin.sub_state.clone());
        reported += &format!(" ({step})");
    }
    if plugin.active_state != "active" || plugin.result != "success" {
        reported += &format!(" (Result: {})", plugin.result);
    }
    if let Some(since) = plugin.since.map(moment) {
        let at = humantime::format_rfc3339_seconds(since);
        reported += &format!(" since {at}; {}", ago(since, now));
    }
    reported
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{description, failed, failure, greeter};

    #[test]
    fn a_plugin_serves_while_it_has_no_instance_only_if_a_request_starts_one() {
        let plugin = |active: &str, sub: &str, generation, failure| api::Plugin {
            active_state: active.to_owned(),
            sub_state: sub.to_owned(),
            generation,
            failure,
            ..greeter()
        };
        for (active, sub) in [
            ("active", "running"),
            ("active", "degraded"),
            ("reloading", "compiling"),
            ("inactive", "on demand"),
            ("activating", "starting"),
        ] {
            assert!(serves(&plugin(active, sub, Some(1), None)), "{active} {sub}");
            assert!(!serves(&plugin(active, sub, Some(1), Some(failure()))), "{active} {sub}");
        }
        for (active, sub) in [
            ("inactive", "exited"),
            ("inactive", "stopped"),
            ("activating", "starting"),
            ("activating", "auto-restart"),
            ("deactivating", "stopping"),
            ("failed", "failed"),
        ] {
            assert!(!serves(&plugin(active, sub, None, None)), "{active} {sub}");
        }
    }

    #[test]
    fn the_status_of_a_plugin_has_all_known_facts() {
        assert_eq!(
            plugin(&description(greeter()), moment(183_000_000)),
            "\
greeter
     Active: active since 1970-01-01T00:00:01Z; 3min 2s ago
     Status: greets people
     Routes: /greeter, a.example/hi
   Required: yes
 Generation: 3
    Workers: 2
   Failures: 1
  Component: /etc/plugind/plugins/greeter.wasm
    Version: 1.2.3
    SHA-256: 4e07408562bedb8b60ce05c1decfe3ad
   Manifest: 16b7827747822b10
"
        );
    }

    #[test]
    fn a_pinned_plugin_is_shown_with_the_way_to_unpin_it() {
        let shown = plugin(&description(api::Plugin { pinned: true, ..greeter() }), moment(0));
        let line = "     Pinned: its files are not used until `pluginctl unpin greeter`\n";
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn the_requests_of_a_plugin_are_shown_if_it_does_not_serve_all_of_them() {
        let plugin_with = |requests| api::Plugin { requests: Some(requests), ..greeter() };
        let shown = |requests| plugin(&description(plugin_with(requests)), moment(1_000_000));
        let none = api::PluginRequests::default();
        assert!(!shown(none.clone()).contains("Requests"));
        let busy =
            api::PluginRequests { queued: 3, waited: 1500, busy: 7, failed: 1, ..none.clone() };
        let line = "   Requests: 3 waiting, the oldest for 1s 500ms; 7 busy (503), 1 failed in the last minute\n";
        assert!(shown(busy.clone()).contains(line), "{}", shown(busy));
        let failed = shown(api::PluginRequests { failures: 5, ..none });
        assert!(failed.contains("   Failures: 1 (instances), 5 (requests)\n"), "{failed}");
    }

    #[test]
    fn what_a_plugin_uses_and_does_is_shown() {
        let usage = api::PluginUsage {
            instances: 2,
            in_flight: 3,
            memory: 12 << 20,
            memory_peak: 14 << 20,
            memory_max: 256 << 20,
            period: 60_000,
            busy: 1_200,
            responses: 750,
            p50: Some(850),
            p99: Some(12_000),
        };
        let shown = plugin(
            &description(api::Plugin { usage: Some(usage), ..greeter() }),
            moment(1_000_000),
        );
        let lines = "     Memory: 12M (peak 14M, limit 256M)
        CPU: 2%
    Traffic: 12.5/s, 3 in flight; 50 % of the responses begin within 850us, 99 % within 12ms
";
        assert!(shown.contains(lines), "{shown}");
    }

    #[test]
    fn the_sizes_of_what_is_kept_are_shown() {
        let mut described = description(greeter());
        described.kept = api::PluginKept {
            state: Some(0),
            key_value: Some(4 << 20),
            cache: Some(300 << 10),
            saved: None,
        };
        let line = "       Kept: state 0B, key-value store 4M, cache 300K\n";
        let shown = plugin(&described, moment(0));
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn a_failed_plugin_is_reported_with_stage_cause_and_remedy() {
        let none = api::Description { component: None, digest: None, ..description(failed()) };
        assert_eq!(
            plugin(&none, SystemTime::now()),
            "\
● bad
     Active: failed (Result: trap)
   Required: no
    Workers: 0
   Failures: 0
     Failed: at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload
"
        );
    }

    #[test]
    fn a_plugin_that_is_tried_again_is_shown_with_the_reason_and_the_time() {
        let plugin_retried = api::Plugin {
            active_state: "activating".to_owned(),
            sub_state: "auto-restart".to_owned(),
            result: "unavailable".to_owned(),
            next_attempt: Some(61_000_000),
            ..failed()
        };
        let shown = plugin(&description(plugin_retried), moment(1_000_000));
        assert!(
            shown.contains("Active: activating (auto-restart) (Result: unavailable)\n"),
            "{shown}"
        );
        assert!(shown.contains("     Failed: at "), "{shown}");
        assert!(shown.ends_with("   Next try: 1970-01-01T00:01:01Z\n"), "{shown}");
    }

    #[test]
    fn a_failed_newest_version_is_distinguished_from_the_one_that_serves() {
        let stale = api::Plugin { failure: Some(failure()), ..greeter() };
        let reported = plugin(&description(stale), moment(1_000_000));
        assert!(reported.starts_with("● greeter\n     Active: active since"), "{reported}");
        assert!(reported.contains("; now\n"), "{reported}");
        assert!(
            reported.contains("\n     Failed: the next version, at verify: /etc"),
            "{reported}"
        );
    }

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
            daemon(&status),
            "\
plugind 0.1.0
     Active: activating
     Status: starting: 2 of 4 ready
    Plugins: 4, of which 2 are ready
    Awaited: slow, warmup
"
        );
        status.limits.push("connections-max of the socket http (8192)".to_owned());
        let limits = "     Limits: connections-max of the socket http (8192) reached\n";
        assert!(daemon(&status).ends_with(limits), "{}", daemon(&status));
        status.storage.push("the state directory /x is on a file system without space".to_owned());
        let storage = "    Storage: the state directory /x is on a file system without space\n";
        assert!(daemon(&status).ends_with(storage), "{}", daemon(&status));
        assert!(is_well(&status));
        status.unreadable = Some("/etc/plugind/plugins: permission denied".to_owned());
        let unreadable = " Unreadable: /etc/plugind/plugins: permission denied\n";
        assert!(daemon(&status).contains(unreadable) && !is_well(&status), "{}", daemon(&status));
        status.unreadable = None;
        status.retried.push(failure());
        let reported = daemon(&status);
        assert!(reported.starts_with("● plugind") && !is_well(&status), "{reported}");
        let retried = "    Retried: bad: at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload\n";
        assert!(reported.ends_with(retried), "{reported}");
        status.retried.clear();
        status.failed.push(failure());
        let reported = daemon(&status);
        assert!(reported.starts_with("● plugind"), "{reported}");
        let failed = "     Failed: bad: at verify: /etc/plugind/plugins/bad.toml:1:1: unknown key; fix it and reload\n";
        assert!(reported.ends_with(failed), "{reported}");
    }
}
