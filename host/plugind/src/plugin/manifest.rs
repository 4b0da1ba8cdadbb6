//! What stands in `NAME.toml`: how a plugin is to be served, kept and limited. All of it is optional.

use crate::{
    config::{Complaint, Document, Table},
    quantity::{Bytes, Rate, Span},
};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// A manifest as it counts: what the file leaves out has its default here.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// READY=1 waits for this plugin.
    pub required: bool,
    /// What it serves where; none: its own route on the socket of its kind.
    pub serve: Vec<Serve>,
    /// `[service]`
    pub service: Service,
    /// `[instances]`
    pub instances: Instances,
    /// `[limits]`
    pub limits: Limits,
    /// `[config]`: what the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
}

/// `[[serve]]`: a place where a plugin is found by its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// A path prefix that ends where a segment ends; none: `/NAME`.
    pub route: Option<String>,
    /// The host in lower case and without a port; none: any.
    pub host: Option<String>,
    /// Whether the plugin sees the path without its route.
    pub strip_prefix: bool,
}

/// `[service]`: how a plugin lives. The words are those of systemd.service(5).
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words of systemd.service(5)")]
pub struct Service {
    pub timeout_start: Duration,
    pub timeout_stop: Duration,
    pub watchdog: Duration,
    pub restart: Restart,
    pub restart_sec: Duration,
    pub restart_steps: u32,
    pub restart_max_delay: Duration,
    pub start_limit_burst: u32,
    pub start_limit_interval: Duration,
}

/// Whether an instance that ended is started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When it failed.
    OnFailure,
    /// However it ended.
    Always,
}

/// `[instances]`: how many instances there are, and what each is used for.
#[derive(Clone, Debug, PartialEq)]
pub struct Instances {
    /// None: as fits what the component exports.
    pub mode: Option<Mode>,
    /// The most instances at a time; none: as fits the mode.
    pub max: Option<u32>,
    /// The most calls at a time in one instance; none: as fits the mode.
    pub concurrency: Option<u32>,
    /// After so many calls an instance is replaced; none: never.
    pub recycle_after: Option<u32>,
}

/// What an instance is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Many calls at a time.
    Shared,
    /// One call at a time.
    Exclusive,
    /// One call.
    Fresh,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Of all memories and tables of all instances.
    pub memory_max: Bytes,
    /// Of all memories and tables of one instance.
    pub instance_memory_max: Bytes,
    /// From a request's arrival until its response begins.
    pub request_timeout: Duration,
    /// What may be written to the journal.
    pub log_rate: Rate,
}

impl Manifest {
    /// Reads the manifest with this text; `path` is only for telling where a mistake is.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Complaint>> {
        Document::new(path, text).read(Self::read)
    }

    /// Whether a manifest says that its plugin is required, whatever else is wrong with it.
    #[must_use]
    pub fn is_required(text: &str) -> bool {
        let required = std::cell::Cell::new(None);
        // What is wrong has been said already.
        Document::new(Path::new(""), text)
            .read(|table| required.set(table.boolean("required")))
            .ok();
        required.get().unwrap_or(true)
    }

    fn read(table: &Table<'_>) -> Self {
        Self {
            required: table.boolean("required").unwrap_or(true),
            serve: table.tables("serve", Serve::read),
            service: table.table("service", Service::read),
            instances: table.table("instances", Instances::read),
            limits: table.table("limits", Limits::read),
            config: table.texts("config"),
        }
    }
}

impl Default for Manifest {
    /// What counts where there is no manifest.
    fn default() -> Self {
        Self::parse(Path::new(""), "").expect("an empty manifest has no mistakes")
    }
}

impl Serve {
    fn read(table: &Table<'_>) -> Self {
        // There is one socket so far, so that there is nothing to remember.
        table.choice("socket", &[("http", ())]);
        let route = table.text("route");
        if let Some(Err(wrong)) = route.as_deref().map(check_route) {
            table.complain_about("route", format!("serve.route {wrong}"));
        }
        let host = table.text("host").map(|host| host.to_ascii_lowercase());
        if host.as_deref().is_some_and(|host| host.is_empty() || host.contains(['/', ' ', '@'])) {
            table.complain_about(
                "host",
                "serve.host is a host name or an address without a port, as in \"hello.example\"",
            );
        }
        Self { route, host, strip_prefix: table.boolean("strip-prefix").unwrap_or(false) }
    }
}

/// A route is matched against what is left of a request's path after decoding, so it must be in that form itself.
fn check_route(route: &str) -> Result<(), &'static str> {
    if !route.starts_with('/') {
        return Err("begins with \"/\", as in \"/hello\"");
    }
    if route.len() > 1 && route.ends_with('/') {
        return Err("ends without \"/\": \"/hello\" serves \"/hello/\" too");
    }
    if route.split('/').any(|segment| matches!(segment, "." | "..")) || route.contains("//") {
        return Err("has no empty segments and none that are \".\" or \"..\"");
    }
    if route.contains(['?', '#', '%']) || route.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return Err("is a plain path without \"?\", \"#\", \"%\" and spaces");
    }
    Ok(())
}

impl Service {
    fn read(table: &Table<'_>) -> Self {
        let span = |key, default| table.parsed::<Span>(key).map_or(default, |span| span.0);
        let seconds = Duration::from_secs;
        Self {
            timeout_start: span("timeout-start-sec", seconds(30)),
            timeout_stop: span("timeout-stop-sec", seconds(10)),
            watchdog: span("watchdog-sec", seconds(10)),
            restart: table
                .choice(
                    "restart",
                    &[
                        ("no", Restart::No),
                        ("on-failure", Restart::OnFailure),
                        ("always", Restart::Always),
                    ],
                )
                .unwrap_or(Restart::OnFailure),
            restart_sec: span("restart-sec", Duration::from_millis(100)),
            restart_steps: table.number("restart-steps", 0).unwrap_or(6),
            restart_max_delay: span("restart-max-delay-sec", seconds(30)),
            start_limit_burst: table.number("start-limit-burst", 1).unwrap_or(5),
            start_limit_interval: span("start-limit-interval-sec", seconds(60)),
        }
    }
}

impl Instances {
    fn read(table: &Table<'_>) -> Self {
        let modes =
            [("shared", Mode::Shared), ("exclusive", Mode::Exclusive), ("fresh", Mode::Fresh)];
        Self {
            mode: table.choice("mode", &modes),
            max: table.number("max", 1),
            concurrency: table.number("concurrency", 1),
            recycle_after: table.number("recycle-after", 1),
        }
    }
}

impl Limits {
    fn read(table: &Table<'_>) -> Self {
        Self {
            memory_max: table.parsed("memory-max").unwrap_or(Bytes(256 << 20)),
            instance_memory_max: table.parsed("instance-memory-max").unwrap_or(Bytes(64 << 20)),
            request_timeout: table
                .parsed::<Span>("request-timeout")
                .map_or(Duration::from_secs(30), |span| span.0),
            log_rate: table
                .parsed("log-rate")
                .unwrap_or(Rate { count: 1000, every: Duration::from_secs(10) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, Vec<String>> {
        let told =
            |complaints: Vec<Complaint>| complaints.iter().map(ToString::to_string).collect();
        Manifest::parse(Path::new("m.toml"), text).map_err(told)
    }

    #[test]
    fn an_empty_manifest_is_a_manifest() {
        let manifest = parse("").unwrap();
        assert!(manifest.required);
        assert_eq!(manifest.serve, []);
        assert_eq!(manifest.service.restart_sec, Duration::from_millis(100));
        assert_eq!(manifest.limits.memory_max, Bytes(256 << 20));
    }

    #[test]
    fn what_is_written_counts() {
        let manifest = parse(
            "required = false\n[[serve]]\nroute = \"/hi\"\nhost = \"Hello.Example\"\nstrip-prefix = true\n\
             [service]\nrestart = \"no\"\n[instances]\nmode = \"fresh\"\nmax = 3\n[limits]\nmemory-max = \"1G\"\n\
             [config]\ngreeting = \"hello\"\n",
        )
        .unwrap();
        assert!(!manifest.required);
        assert_eq!(manifest.serve[0].host.as_deref(), Some("hello.example"));
        assert_eq!(manifest.service.restart, Restart::No);
        assert_eq!(manifest.instances.mode, Some(Mode::Fresh));
        assert_eq!(manifest.limits.memory_max, Bytes(1 << 30));
        assert_eq!(manifest.config["greeting"], "hello");
    }

    #[test]
    fn whether_a_plugin_is_required_is_read_off_a_manifest_with_mistakes_too() {
        assert!(!Manifest::is_required("required = false\n[service]\nwatchdog-sec = \"soon\"\n"));
        assert!(Manifest::is_required("required = \"no\"\n"));
        assert!(Manifest::is_required("required = false\nbroken ="));
    }

    #[test]
    fn a_route_that_is_none_is_told_with_its_place() {
        for route in ["", "hello", "/a/", "/a/../b", "/a//b", "/a?b", "/%61", "/a b"] {
            let complaints = parse(&format!("[[serve]]\nroute = \"{route}\"\n")).unwrap_err();
            assert!(complaints[0].starts_with("m.toml:2:9: serve.route "), "{complaints:?}");
        }
        assert!(parse("[[serve]]\nroute = \"/\"\n").is_ok());
    }
}
