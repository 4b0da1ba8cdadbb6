//! Replies of a daemon that tests are made with.

use plugind::api;

pub(crate) fn greeter() -> api::Plugin {
    api::Plugin {
        name: "greeter".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        result: "success".to_owned(),
        required: true,
        status: Some("greets people".to_owned()),
        degraded: None,
        generation: Some(3),
        since: Some(1_000_000),
        workers: 2,
        failures: 1,
        routes: vec!["/greeter".to_owned(), "a.example/hi".to_owned()],
        failure: None,
        next_attempt: None,
        requests: None,
        sub_state_since: None,
        start_timeout: None,
        usage: None,
        version: Some("1.2.3".to_owned()),
        component_digest: Some("4e07408562bedb8b60ce05c1decfe3ad".to_owned()),
        configuration_digest: Some("16b7827747822b10".to_owned()),
        pinned: false,
    }
}

/// A plugin that used the processor for `busy` of the last 60,000 ms.
pub(crate) fn used(name: &str, busy: u64, memory: u64) -> api::Plugin {
    let usage = api::PluginUsage {
        instances: 2,
        in_flight: 1,
        memory,
        memory_max: 256 << 20,
        period: 60_000,
        busy,
        responses: 90,
        p50: Some(850),
        p99: Some(12_000),
        ..Default::default()
    };
    api::Plugin { name: name.to_owned(), usage: Some(usage), ..greeter() }
}

pub(crate) fn failure() -> api::PluginFailure {
    api::PluginFailure {
        plugin: "bad".to_owned(),
        stage: "verify".to_owned(),
        error: "/etc/plugind/plugins/bad.toml:1:1: unknown key".to_owned(),
        remedy: "fix it and reload".to_owned(),
        configuration: true,
        previous_since: None,
    }
}

pub(crate) fn failed() -> api::Plugin {
    api::Plugin {
        name: "bad".to_owned(),
        active_state: "failed".to_owned(),
        sub_state: "failed".to_owned(),
        result: "trap".to_owned(),
        required: false,
        status: None,
        degraded: None,
        generation: None,
        since: None,
        workers: 0,
        failures: 0,
        routes: Vec::new(),
        failure: Some(failure()),
        next_attempt: None,
        requests: None,
        sub_state_since: None,
        start_timeout: None,
        usage: None,
        version: None,
        component_digest: None,
        configuration_digest: None,
        pinned: false,
    }
}

pub(crate) fn description(plugin: api::Plugin) -> api::Description {
    api::Description {
        plugin,
        component: Some("/etc/plugind/plugins/greeter.wasm".to_owned()),
        digest: Some("4e07408562bedb8b60ce05c1decfe3ad".to_owned()),
        imports: Vec::new(),
        exports: Vec::new(),
        kept: api::PluginKept::default(),
    }
}
