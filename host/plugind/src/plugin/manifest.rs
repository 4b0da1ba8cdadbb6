//! The contents of `NAME.toml`: serving, lifecycle and limits of a plugin. Everything is optional.

mod instances;
mod on_demand;
mod limits;
mod service;
#[cfg(test)]
pub mod test_text;

pub use instances::{Instances, Mode};
pub use limits::{Limits, MemoryOrigins};
pub use service::{FailureAction, RestartPolicy, Service};

use crate::{
    base::{name::PluginName, text::is_harmful},
    config::{Diagnostic, Document, Table},
    plugin::{
        grants::Grants,
        handover::Handover,
        manifest::on_demand::{read_idle_timeout, read_on_demand},
        middleware::{Middleware, read_middleware},
        serve::{Serve, own_route},
        subscribe::Subscribe,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The facts about a component that are known when its manifest is validated.
#[derive(Clone, Copy, Debug)]
pub struct ComponentFacts<'a> {
    /// The names of what it imports.
    pub imports: &'a [String],
    /// It has a state to hand over, and so one instance that is kept.
    pub hands_over: bool,
    /// It exports a handler, so that clients or other plugins can reach it.
    pub serves: bool,
}

/// The effective manifest: values that are missing from the file have their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// READY=1 waits for this plugin.
    pub required: bool,
    /// Description of the plugin: one line for people.
    pub description: Option<String>,
    /// It has no instance until there is work for one.
    pub on_demand: bool,
    /// An instance that is not needed is stopped after so long without work.
    pub idle_timeout: Duration,
    /// An instance that fails is dumped.
    pub core_dump: bool,
    /// The arguments of the command line, behind the plugin's name.
    pub arguments: Vec<String>,
    /// The routes and sockets that it serves; none: the route `/NAME` on all sockets for HTTP, or the socket of its
    /// name.
    pub serve: Vec<Serve>,
    /// The messages that it receives.
    pub subscribe: Vec<Subscribe>,
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

    /// Whether a manifest says that its plugin starts with the daemon, even if it has mistakes; none: it says nothing about
    /// that.
    #[must_use]
    pub fn autostart(document: &Document) -> Option<bool> {
        let autostart = std::cell::Cell::new(None);
        let read = |table: &Table<'_>| autostart.set(Service::autostart(table));
        // The mistakes have been reported already.
        document.read(|table| table.table("service", read)).ok();
        autostart.get()
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
        let limits = table.table("limits", Limits::read);
        let (timeout, mut read) = (limits.request_timeout, BTreeSet::new());
        let subscriptions =
            table.tables("subscribe", |table| Subscribe::read(table, name, timeout, &mut read));
        let subscribe: Vec<_> = subscriptions.into_iter().flatten().collect();
        let serves = component.map(|component| component.serves);
        let on_demand = read_on_demand(table, serves, !subscribe.is_empty());
        Self {
            // The daemon does not wait for what does not start with it.
            required: table.boolean("required").unwrap_or(true) && service.autostart,
            description,
            on_demand,
            idle_timeout: read_idle_timeout(table),
            core_dump: table.boolean("core-dump").unwrap_or(false),
            arguments,
            serve: table.tables("serve", |serve| Serve::read(serve, own.as_deref(), &mut places)),
            subscribe,
            middleware: read_middleware(table, name),
            service,
            instances: table.table("instances", |table| {
                Instances::read(table, hands_over == Some(true), on_demand)
            }),
            limits,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::quantity::Bytes,
        plugin::manifest::test_text::{document, importing, parse, parse_for},
    };
    use std::time::Duration;

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
    fn written_values_are_used() {
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
    fn a_plugin_without_autostart_is_not_required_even_if_its_manifest_says_so() {
        let manifest = parse("required = true\n[service]\nautostart = false\n").unwrap();
        assert!(!manifest.required && !manifest.service.autostart);
        let autostart = |text| Manifest::autostart(&document(text));
        assert_eq!(autostart("unknown = 1\n[service]\nautostart = false\n"), Some(false));
        assert_eq!(autostart("[service]\nready-sec = \"1s\"\n"), None);
        assert_eq!(autostart("broken ="), None);
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
}
