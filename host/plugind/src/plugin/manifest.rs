//! The contents of `NAME.toml`: serving, lifecycle and limits of a plugin. Everything is optional.

use crate::plugin::{
    grants::Grants,
    handover::Handover,
    middleware::{Middleware, read_middleware},
    serve::{Serve, own_route},
};
use crate::{
    base::{
        name::PluginName,
        quantity::{Bytes, Percent, Rate, Span},
        text::is_harmful,
    },
    config::{Diagnostic, Document, Origin, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Instances that are replaced more often would do little else than start.
const RECYCLE_AGE_MIN: Duration = Duration::from_secs(1);

/// The most connections of a plugin at a time, unless its manifest says otherwise.
const CONNECTIONS_MAX: u32 = 1024;
/// The largest datagram that a plugin takes, unless its manifest says otherwise: the largest of UDP.
const DATAGRAM_MAX: Bytes = Bytes(64 << 10);
/// The largest message of a WebSocket that a plugin takes, unless its manifest says otherwise: each client that sends one
/// has the daemon keep it.
const MESSAGE_MAX: Bytes = Bytes(64 << 10);
/// The largest that a manifest may allow: as much as a plugin may send in one call.
const MESSAGE_MAX_MAX: Bytes = Bytes(4 << 20);

/// The facts about a component that are known when its manifest is validated.
#[derive(Clone, Copy, Debug)]
pub struct ComponentFacts<'a> {
    /// The names of what it imports.
    pub imports: &'a [String],
    /// It has a state to hand over, and so one instance that is kept.
    pub hands_over: bool,
}

/// The effective manifest: values that are missing from the file have their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// READY=1 waits for this plugin.
    pub required: bool,
    /// Description of the plugin: one line for people.
    pub description: Option<String>,
    /// An instance that fails is dumped.
    pub core_dump: bool,
    /// The arguments of the command line, behind the plugin's name.
    pub arguments: Vec<String>,
    /// The routes and sockets that it serves; none: its own route on the socket of its kind.
    pub serve: Vec<Serve>,
    /// The plugins through which its HTTP requests go.
    pub middleware: Middleware,
    /// `[service]`
    pub service: Service,
    /// `[instances]`
    pub instances: Instances,
    /// `[limits]`
    pub limits: Limits,
    /// `[handover]`
    pub handover: Handover,
    /// `[grants]`
    pub grants: Grants,
    /// `[config]`: what the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
}

/// `[service]`: how a plugin lives. The words are those of systemd.service(5).
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words of systemd.service(5)")]
pub struct Service {
    /// Whether it starts with the daemon, or only when an operator or a unit starts it.
    pub autostart: bool,
    pub timeout_start: Duration,
    /// A background program is ready when it has run for so long, or has ended well.
    pub ready: Duration,
    pub timeout_stop: Duration,
    pub watchdog: Duration,
    pub restart: RestartPolicy,
    pub restart_sec: Duration,
    pub restart_steps: u32,
    pub restart_max_delay: Duration,
    pub start_limit_burst: u32,
    pub start_limit_interval: Duration,
    pub failure_action: FailureAction,
}

/// Whether an instance that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it failed.
    OnFailure,
    /// However it ended.
    Always,
}

/// The effect on the daemon of a plugin that failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Nothing: the other plugins continue.
    None,
    /// It finishes what is under way, and ends.
    Exit,
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
    /// An instance as old as this is replaced; none: never.
    pub recycle_age: Option<Duration>,
    /// An instance that uses so much memory is replaced; none: three quarters of what it may use.
    pub recycle_memory: Option<Bytes>,
}

/// The use of an instance.
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
    /// Of the processor, for all instances together; none: as much as there is.
    pub cpu_quota: Option<Percent>,
    /// From a request's arrival until its response begins.
    pub request_timeout: Duration,
    /// The most connections at a time, on all sockets that the plugin serves.
    pub connections_max: u32,
    /// After so long without a byte in either direction a connection is closed; none: never.
    pub idle_timeout: Option<Duration>,
    /// The largest datagram that the plugin takes.
    pub datagram_max: Bytes,
    /// The largest message of a WebSocket that the plugin takes.
    pub message_max: Bytes,
    /// Limits of what is written to the journal.
    pub log_rate: Rate,
    /// Where `memory-max` and `instance-memory-max` were written.
    pub origins: MemoryOrigins,
}

/// Where the limits of memory were written, which are compared with the component later.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "one for each key")]
pub struct MemoryOrigins {
    pub memory_max: Origin,
    pub instance_memory_max: Origin,
}

impl Manifest {
    /// Reads a manifest, which may be made up of several files.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(document: &Document) -> Result<Self, Vec<Diagnostic>> {
        document.read(|table| Self::read(table, None, None))
    }

    /// The same, for the plugin `name`, compared with its component, if that is known: to grant something it does not
    /// import is a mistake, and so is more than one instance where there is a state to hand over.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse_for(
        name: &PluginName,
        component: Option<ComponentFacts<'_>>,
        document: &Document,
    ) -> Result<Self, Vec<Diagnostic>> {
        document.read(|table| Self::read(table, Some(name), component))
    }

    /// Whether a manifest says that its plugin is required, whatever else is wrong with it.
    #[must_use]
    pub fn is_required(document: &Document) -> bool {
        let required = std::cell::Cell::new(None);
        // The mistake has been reported already.
        document.read(|table| required.set(table.boolean("required"))).ok();
        required.get().unwrap_or(true)
    }

    fn read(
        table: &Table<'_>,
        name: Option<&PluginName>,
        component: Option<ComponentFacts<'_>>,
    ) -> Self {
        let hands_over = component.map(|component| component.hands_over);
        if hands_over == Some(false) {
            table.complain_about(
                "handover",
                "[handover] cannot be used: the component does not export plugind:plugin/handover; remove the table",
            );
        }
        let description = table.text("description");
        if let Some(text) = description.as_deref().filter(|text| text.contains(is_harmful)) {
            let message =
                format!("description must be one line without control characters, not {text:?}");
            table.complain_about("description", message);
        }
        let arguments = read_arguments(table, component.map(|component| component.imports));
        let own = name.map(own_route);
        let mut places = BTreeSet::new();
        let service = table.table("service", Service::read);
        Self {
            // The daemon does not wait for what does not start with it.
            required: table.boolean("required").unwrap_or(service.autostart),
            description,
            core_dump: table.boolean("core-dump").unwrap_or(false),
            arguments,
            serve: table.tables("serve", |serve| Serve::read(serve, own.as_deref(), &mut places)),
            middleware: read_middleware(table, name),
            service,
            instances: table
                .table("instances", |table| Instances::read(table, hands_over == Some(true))),
            limits: table.table("limits", Limits::read),
            handover: table.table("handover", Handover::read),
            grants: table.table("grants", |table| {
                Grants::read(table, component.map(|component| component.imports))
            }),
            config: table.texts("config"),
        }
    }
}

fn read_arguments(table: &Table<'_>, imports: Option<&[String]>) -> Vec<String> {
    let arguments = table.list("arguments", |text| match text.contains('\0') {
        true => Err("an argument must not contain NUL"),
        false => Ok(text.to_owned()),
    });
    let reads = |import: &String| import.starts_with("wasi:cli/environment@");
    if imports.is_some_and(|imports| !imports.iter().any(reads)) {
        table.complain_about(
            "arguments",
            "arguments cannot be used: the component does not import wasi:cli/environment; remove the key",
        );
    }
    arguments
}

impl Default for Manifest {
    /// The defaults, which apply where there is no manifest.
    fn default() -> Self {
        Self::parse(&Document::default()).expect("an empty manifest has no mistakes")
    }
}

impl Service {
    fn read(table: &Table<'_>) -> Self {
        let span = |key, default| table.parsed::<Span>(key).map_or(default, |span| span.0);
        let seconds = Duration::from_secs;
        Self {
            autostart: table.boolean("autostart").unwrap_or(true),
            timeout_start: span("timeout-start-sec", seconds(30)),
            ready: span("ready-sec", seconds(1)),
            timeout_stop: span("timeout-stop-sec", seconds(10)),
            watchdog: span("watchdog-sec", seconds(10)),
            restart: table
                .choice(
                    "restart",
                    &[
                        ("no", RestartPolicy::No),
                        ("on-failure", RestartPolicy::OnFailure),
                        ("always", RestartPolicy::Always),
                    ],
                )
                .unwrap_or(RestartPolicy::OnFailure),
            restart_sec: span("restart-sec", Duration::from_millis(100)),
            restart_steps: table.number("restart-steps", 0).unwrap_or(6),
            restart_max_delay: span("restart-max-delay-sec", seconds(30)),
            start_limit_burst: table.number("start-limit-burst", 1).unwrap_or(5),
            start_limit_interval: span("start-limit-interval-sec", seconds(60)),
            failure_action: table
                .choice(
                    "failure-action",
                    &[("none", FailureAction::None), ("exit", FailureAction::Exit)],
                )
                .unwrap_or(FailureAction::None),
        }
    }
}

impl Instances {
    /// `one`: there must be one instance, which is kept.
    fn read(table: &Table<'_>, one: bool) -> Self {
        let recycle_age = table.parsed::<Span>("recycle-age").map(|span| span.0);
        if let Some(age) = recycle_age.filter(|age| *age < RECYCLE_AGE_MIN) {
            let (least, age) = (Span(RECYCLE_AGE_MIN), Span(age));
            let message =
                format!("instances.recycle-age must be at least \"{least}\", not \"{age}\"");
            table.complain_about("recycle-age", message);
        }
        let modes =
            [("shared", Mode::Shared), ("exclusive", Mode::Exclusive), ("fresh", Mode::Fresh)];
        let instances = Self {
            mode: table.choice("mode", &modes),
            max: table.number("max", 1),
            concurrency: table.number("concurrency", 1),
            recycle_after: table.number("recycle-after", 1),
            recycle_age,
            recycle_memory: table.parsed("recycle-memory"),
        };
        if one {
            instances.require_single_instance(table);
        }
        instances
    }

    fn require_single_instance(&self, table: &Table<'_>) {
        let why = "the component exports plugind:plugin/handover, so it has one instance";
        let keep = "write \"shared\" or \"exclusive\"";
        let max = self.max.unwrap_or(1);
        let at_most_one = format!("must be 1, not {max}");
        for (key, is_wrong, rule, remedy) in [
            ("mode", self.mode == Some(Mode::Fresh), "cannot be \"fresh\"", keep),
            ("max", max > 1, at_most_one.as_str(), "remove it"),
        ] {
            if is_wrong {
                table.complain_about(key, format!("instances.{key} {rule}: {why}; {remedy}"));
            }
        }
    }
}

impl Limits {
    fn read(table: &Table<'_>) -> Self {
        let message_max = table.parsed::<Bytes>("message-max");
        if let Some(max) = message_max.filter(|max| *max == Bytes(0) || *max > MESSAGE_MAX_MAX) {
            let message = format!(
                "limits.message-max must be greater than 0 and at most \"{MESSAGE_MAX_MAX}\", not \"{max}\""
            );
            table.complain_about("message-max", message);
        }
        Self {
            memory_max: table.parsed("memory-max").unwrap_or(Bytes(256 << 20)),
            instance_memory_max: table.parsed("instance-memory-max").unwrap_or(Bytes(64 << 20)),
            cpu_quota: table.parsed("cpu-quota"),
            request_timeout: table
                .parsed::<Span>("request-timeout")
                .map_or(Duration::from_secs(30), |span| span.0),
            connections_max: table.number("connections-max", 1).unwrap_or(CONNECTIONS_MAX),
            idle_timeout: table
                .parsed::<Span>("idle-timeout")
                .map(|span| span.0)
                .filter(|idle| !idle.is_zero()),
            datagram_max: table.parsed("datagram-max").unwrap_or(DATAGRAM_MAX),
            message_max: message_max.unwrap_or(MESSAGE_MAX),
            log_rate: table
                .parsed("log-rate")
                .unwrap_or(Rate { count: 1000, every: Duration::from_secs(10) }),
            origins: MemoryOrigins {
                memory_max: table.origin("memory-max"),
                instance_memory_max: table.origin("instance-memory-max"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::interfaces::Grant;
    use std::path::Path;

    fn document(text: &str) -> Document {
        Document::new(Path::new("m.toml"), text)
    }

    fn parse(text: &str) -> Result<Manifest, Vec<String>> {
        parse_for(None, text)
    }

    fn parse_for(
        component: Option<ComponentFacts<'_>>,
        text: &str,
    ) -> Result<Manifest, Vec<String>> {
        let lines = |mistakes: Vec<Diagnostic>| mistakes.iter().map(ToString::to_string).collect();
        Manifest::parse_for(&"hello".parse().unwrap(), component, &document(text)).map_err(lines)
    }

    fn importing(imports: &[String]) -> ComponentFacts<'_> {
        ComponentFacts { imports, hands_over: false }
    }

    #[test]
    fn a_state_to_hand_over_takes_one_instance_that_is_kept() {
        let text =
            "[instances]\nmode = \"fresh\"\nmax = 2\nrecycle-after = 7\nrecycle-age = \"1h\"\n";
        let mistakes =
            parse_for(Some(ComponentFacts { imports: &[], hands_over: true }), text).unwrap_err();
        for (mistake, (place, rule, remedy)) in mistakes.iter().zip([
            ("2:8", "mode cannot be \"fresh\"", "write \"shared\" or \"exclusive\""),
            ("3:7", "max must be 1, not 2", "remove it"),
        ]) {
            let start = format!(
                "m.toml:{place}: instances.{rule}: the component exports plugind:plugin/handover"
            );
            assert!(mistake.starts_with(&start) && mistake.ends_with(remedy), "{mistake}");
        }
        assert_eq!(mistakes.len(), 2);
        assert!(parse(text).is_ok(), "of another component");
        let one = "[instances]\nmode = \"exclusive\"\nmax = 1\nconcurrency = 3\n";
        assert!(parse_for(Some(ComponentFacts { imports: &[], hands_over: true }), one).is_ok());
    }

    #[test]
    fn what_is_handed_over_has_limits() {
        let handover = parse("").unwrap().handover;
        assert_eq!(handover.timeout, Duration::from_secs(10));
        assert_eq!((handover.state_max, handover.held_max), (Bytes(16 << 20), 1024));
        for (line, place) in [
            (
                "timeout-sec = \"0\"",
                "2:15: handover.timeout-sec must be greater than 0, not \"0s\"",
            ),
            (
                "state-max = \"0\"",
                "2:13: handover.state-max must be greater than 0 and at most \"1G\", not \"0\"",
            ),
            (
                "state-max = \"2G\"",
                "2:13: handover.state-max must be greater than 0 and at most \"1G\", not \"2G\"",
            ),
            ("held-max = 0", "2:12: handover.held-max must be a whole number of at least 1, not 0"),
            ("held-max = 1025", "2:12: handover.held-max must be at most 1024, not 1025"),
        ] {
            let mistakes = parse(&format!("[handover]\n{line}\n")).unwrap_err();
            assert_eq!(mistakes, [format!("m.toml:{place}")]);
        }
        let text = "[handover]\ntimeout-sec = \"1min\"\nstate-max = \"1G\"\nheld-max = 1024\n";
        assert!(parse(text).is_ok());
        let mistakes = parse_for(Some(importing(&[])), text).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].contains("[handover] cannot be used"), "{mistakes:?}");
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
    fn arguments_are_a_list_for_a_component_that_reads_them() {
        let text = "arguments = [\"--port\", \"\"]\n";
        assert_eq!(parse(text).unwrap().arguments, ["--port", ""]);
        let reads = ["wasi:cli/environment@0.2.6".to_owned()];
        assert!(parse_for(Some(importing(&reads)), text).is_ok());
        assert!(parse_for(Some(importing(&[])), "").is_ok());
        for (component, text, rule) in [
            (None, "arguments = \"x\"\n", "arguments must be a list"),
            (None, "arguments = [\"a\\u0000\"]\n", "arguments: an argument must not contain NUL"),
            (Some(importing(&[])), text, "does not import wasi:cli/environment; remove the key"),
        ] {
            let mistakes = parse_for(component, text).unwrap_err();
            assert!(mistakes[0].contains(rule), "{mistakes:?}");
        }
    }

    #[test]
    fn what_is_written_counts() {
        let manifest = parse(
            "required = false\ndescription = \"greets\"\n[[serve]]\nroute = \"/hi\"\nhost = \"Hello.Example\"\nstrip-prefix = true\n\
             [service]\nrestart = \"no\"\nfailure-action = \"exit\"\n[instances]\nmode = \"fresh\"\nmax = 3\nrecycle-age = \"1h\"\n[limits]\nmemory-max = \"1G\"\n\
             [config]\ngreeting = \"hello\"\n",
        )
        .unwrap();
        assert!(!manifest.required);
        assert_eq!(manifest.description.as_deref(), Some("greets"));
        assert_eq!(manifest.serve[0].host.as_deref(), Some("hello.example"));
        assert_eq!(manifest.service.restart, RestartPolicy::No);
        assert_eq!(manifest.service.failure_action, FailureAction::Exit);
        assert_eq!(manifest.instances.mode, Some(Mode::Fresh));
        assert_eq!(manifest.instances.recycle_age, Some(Duration::from_secs(3600)));
        assert_eq!(manifest.limits.memory_max, Bytes(1 << 30));
        assert_eq!(manifest.config["greeting"], "hello");
    }

    #[test]
    fn whether_a_plugin_is_required_is_read_off_a_manifest_with_mistakes_too() {
        let is_required = |text| Manifest::is_required(&document(text));
        assert!(!is_required("required = false\n[service]\nwatchdog-sec = \"soon\"\n"));
        assert!(is_required("required = \"no\"\n"));
        assert!(is_required("required = false\nbroken ="));
    }

    #[test]
    fn a_description_of_several_lines_is_refused() {
        for text in ["a\\nb", "a\\u2028b", "a\\u202eb"] {
            let mistakes = parse(&format!("description = \"{text}\"\n")).unwrap_err();
            let rule =
                "m.toml:1:15: description must be one line without control characters, not \"a";
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(rule), "{mistakes:?}");
        }
    }

    #[test]
    fn a_message_has_no_more_bytes_than_one_call_may_pass() {
        assert_eq!(parse("").unwrap().limits.message_max, Bytes(64 << 10));
        for max in ["0", "5M"] {
            let mistakes = parse(&format!("[limits]\nmessage-max = \"{max}\"\n")).unwrap_err();
            let rule = "limits.message-max must be greater than 0 and at most \"4M\"";
            assert_eq!(mistakes, [format!("m.toml:2:15: {rule}, not \"{max}\"")]);
        }
        assert!(parse("[limits]\nmessage-max = \"4M\"\n").is_ok());
    }

    #[test]
    fn an_age_that_nothing_reaches_is_refused() {
        let mistakes = parse("[instances]\nrecycle-age = \"0\"\n").unwrap_err();
        assert_eq!(
            mistakes,
            ["m.toml:2:15: instances.recycle-age must be at least \"1s\", not \"0s\""]
        );
    }

    #[test]
    fn a_route_that_no_request_can_have_is_refused_at_its_place() {
        for route in [
            "", "hello", "/a/", "/a/../b", "/a//b", "/a?b", "/a#b", "/%61", "/a b", "/grüße",
            "/a^b{c}", "/a|b",
        ] {
            let mistakes = parse(&format!("[[serve]]\nroute = \"{route}\"\n")).unwrap_err();
            assert!(mistakes[0].starts_with("m.toml:2:9: serve.route must "), "{mistakes:?}");
        }
        for route in ["/", "/A.b-c_d~/1", "/a!$&'()*+,;=:@"] {
            assert!(parse(&format!("[[serve]]\nroute = \"{route}\"\n")).is_ok(), "{route}");
        }
    }

    #[test]
    fn a_route_twice_is_refused_at_its_place_whether_written_or_default() {
        let twice = "occurs twice for the same host; remove one of them";
        let default = format!("serve.route is \"/hello\" by default and {twice}");
        for (text, mistake) in [
            ("[[serve]]\n[[serve]]\n", format!("m.toml:2:1: {default}")),
            (
                "[[serve]]\n[[serve]]\nroute = \"/hello\"\n",
                format!("m.toml:3:9: serve.route \"/hello\" {twice}"),
            ),
            ("[[serve]]\nroute = \"/hello\"\n[[serve]]\n", format!("m.toml:3:1: {default}")),
            ("serve = [{}, {}]\n", format!("m.toml:1:14: {default}")),
        ] {
            assert_eq!(parse(text).unwrap_err(), [mistake]);
        }
        assert!(parse("[[serve]]\n[[serve]]\nhost = \"h\"\n").is_ok(), "of another host");
    }

    #[test]
    fn what_is_granted_is_read_and_nothing_is_granted_by_itself() {
        assert_eq!(parse("").unwrap().grants, Grants::default());
        let grants = parse(
            "[grants]\nstate = true\nread = [\"/usr/share/zoneinfo\", \"/\"]\ncredentials = [\"api-token\"]\n\
             outgoing-http = [\"API.example.com:443\"]\ncall = [\"orders\"]\n\
             keyvalue = { quota = \"1M\", shared = [\"sessions\"] }\ntcp-connect = [\"10.1.2.3:5432\"]\nenvironment = { LANG = \"C\" }\n",
        )
        .unwrap()
        .grants;
        assert!(grants.state);
        assert_eq!(grants.read, [Path::new("/usr/share/zoneinfo"), Path::new("/")]);
        assert_eq!(grants.credentials, ["api-token"]);
        assert_eq!(grants.outgoing_http[0].to_string(), "api.example.com:443");
        let keyvalue = grants.keyvalue.unwrap();
        assert_eq!((keyvalue.quota, keyvalue.shared.len()), (Bytes(1 << 20), 1));
        assert_eq!(grants.call[0].as_str(), "orders");
        assert_eq!(grants.tcp_connect[0].to_string(), "10.1.2.3:5432");
        assert_eq!(grants.environment["LANG"], "C");
    }

    #[test]
    fn an_invalid_grant_is_reported_at_its_place() {
        for (line, place) in [
            ("read = [\"/a\", \"b\"]", "2:15: grants.read: \"b\" is not an absolute path"),
            ("read = [\"/a/../b\"]", "2:9: grants.read: "),
            ("read = [\"\"]", "2:9: grants.read: "),
            ("read = [\"/a//b\"]", "2:9: grants.read: "),
            ("state = true\nread = [\"/state\"]", "3:8: grants.read must not contain /state"),
            ("credentials = [\"../x\"]", "2:16: grants.credentials: "),
            ("outgoing-http = [\"example.com\"]", "2:18: grants.outgoing-http: "),
            (
                "outgoing-http = [\"orders.plugind:80\"]",
                "2:18: grants.outgoing-http: \"orders.plugind:80\" is a plugin and not a server",
            ),
            ("call = [\"Orders\"]", "2:9: grants.call: a name can have only"),
            ("keyvalue = { quota = \"0\" }", "2:22: grants.keyvalue.quota must be greater than 0"),
            ("keyvalue = { size = 1 }", "2:14: unknown key \"grants.keyvalue.size\""),
            (
                "keyvalue = { shared = [\"default\"] }",
                "2:24: grants.keyvalue.shared: \"default\" cannot be shared",
            ),
            ("tcp-connect = [\"*:80\"]", "2:16: grants.tcp-connect: "),
            ("environment = { \"A=B\" = \"\" }", "2:15: grants.environment must have names"),
            ("environment = { A = 1 }", "2:21: grants.environment.A must be text"),
            ("raed = []", "2:1: unknown key \"grants.raed\"; did you mean \"read\"?"),
        ] {
            let mistakes = parse(&format!("[grants]\n{line}\n")).unwrap_err();
            assert!(mistakes[0].starts_with(&format!("m.toml:{place}")), "{mistakes:?}");
        }
    }

    #[test]
    fn a_grant_without_an_import_that_uses_it_is_reported_at_its_place() {
        let all = "[grants]\nstate = true\nread = [\"/a\"]\ncredentials = [\"b\"]\noutgoing-http = [\"c:80\"]\n\
                   call = [\"f\"]\nkeyvalue = {}\ntcp-connect = [\"d:80\"]\nenvironment = { E = \"\" }\n";
        let mistakes = parse_for(Some(importing(&[])), all).unwrap_err();
        assert_eq!(mistakes.len(), Grant::ALL.len(), "{mistakes:?}");
        assert!(
            mistakes[2].starts_with(
                "m.toml:4:15: grants.credentials has no effect: the component does not import \
                 plugind:plugin/credentials@"
            ),
            "{mistakes:?}"
        );
        let used = Grant::ALL.iter().filter_map(|grant| grant.imports().next()?.versions().next());
        // A draft has no further versions.
        let version = |import: String| match import.contains('-') {
            true => import,
            false => format!("{import}.0"),
        };
        let imports: Vec<_> = used.map(version).collect();
        assert!(parse_for(Some(importing(&imports)), all).is_ok());
        let nothing = "[grants]\nstate = false\nread = []\n";
        assert!(parse_for(Some(importing(&[])), nothing).is_ok(), "nothing needs nothing");
    }
}
