//! The table of all metrics: what each is called, what it means, and where its values come from.
//!
//! Names and units follow the conventions of Prometheus. Labels have few values: names of plugins and sockets, and words
//! of the daemon's own.

use crate::{
    base::figures::STATUS_CLASSES,
    listen::listeners::SocketUsage,
    metrics::{
        metric::{
            LabelledValues, Metric,
            MetricKind::{Counter, Gauge, Histogram, Info},
            MetricReader::{Daemon, DaemonBy, Plugin, PluginBy, PluginInfo},
            MetricUnit::{Bytes, Seconds},
            MetricValue::{self, Number, Time, Times},
            metric,
        },
        snapshot::{DaemonSnapshot, PluginSnapshot},
    },
};
use plugind_artifact::hex::hex;

/// systemd's words for the state of a unit, which are those for the state of a plugin.
const STATES: [&str; 6] =
    ["inactive", "activating", "active", "reloading", "deactivating", "failed"];

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric(Info, "plugind_build", "The version of the daemon", DaemonBy("version", |_| {
        vec![(env!("CARGO_PKG_VERSION").into(), Number(1))]
    })),
    metric(Gauge, "plugind_uptime", "Time since the daemon was started", Daemon(|it| {
        Some(Time(it.uptime))
    }))
    .of(Seconds),
    metric(Counter, "plugind_reloads", "Reloads by their outcome", DaemonBy("outcome", |it| {
        it.reloads.iter().map(|(outcome, count)| ((*outcome).into(), Number(*count))).collect()
    })),
    metric(Gauge, "plugind_reloading", "Whether a reload is in progress", Daemon(|it| {
        Some(truth(it.is_reloading))
    })),
    metric(Gauge, "plugind_socket_connections", "Connections of a socket", DaemonBy(
        "socket",
        |it| by_socket(it, |socket| count(socket.connections)),
    )),
    metric(Gauge, "plugind_socket_connections_limit", "The most connections that a socket may have", DaemonBy(
        "socket",
        |it| by_socket(it, |socket| count(socket.max)),
    )),
    metric(
        Counter,
        "plugind_socket_connections_accepted",
        "Connections that were accepted from a socket",
        DaemonBy("socket", |it| by_socket(it, |socket| Number(socket.admitted))),
    ),
    metric(Gauge, "plugind_sockets_unused", "Sockets that nothing is served on", Daemon(|it| {
        Some(count(it.unused_sockets))
    })),
    metric(Counter, "plugind_log_entries_lost", "Log entries that could not be written", Daemon(
        |it| Some(Number(it.lost_entries)),
    )),
    metric(
        Counter,
        "plugind_spans_exported",
        "Spans that the collector of traces accepted; absent without a collector",
        Daemon(|it| it.spans.map(|(exported, _)| Number(exported))),
    ),
    metric(
        Counter,
        "plugind_spans_dropped",
        "Spans that did not reach the collector of traces; absent without a collector",
        Daemon(|it| it.spans.map(|(_, dropped)| Number(dropped))),
    ),
    metric(
        Counter,
        "plugind_memory_pressure",
        "Reports of memory pressure to which the daemon reacted",
        Daemon(|it| Some(Number(it.pressure.0))),
    ),
    metric(
        Counter,
        "plugind_memory_pressure_instances_ended",
        "Instances without work that were ended because of memory pressure",
        Daemon(|it| Some(Number(it.pressure.1))),
    ),
    metric(
        Gauge,
        "plugind_pool_unused_memory",
        "Memory that unused places of the instance pool keep for the next instances; absent without a pool",
        Daemon(|it| it.pool_unused.map(Number)),
    )
    .of(Bytes),
    metric(
        Gauge,
        "plugind_watchdog_slack",
        "Time that is left until systemd ends the daemon because its watchdog was not notified",
        Daemon(|it| it.watchdog_slack.map(Time)),
    )
    .of(Seconds),
    metric(Gauge, "process_open_fds", "Files that the daemon has open", Daemon(|it| {
        it.open_files.map(Number)
    })),
    metric(Gauge, "process_max_fds", "The most files that the daemon may have open", Daemon(|it| {
        it.max_files.map(Number)
    })),
    metric(
        Info,
        "plugind_plugin",
        "The version of a plugin that serves: digests of its component and of its manifest with drop-ins, and \
         the version that its author gave it",
        PluginInfo(&["component_digest", "configuration_digest", "version"], |it| {
            let release = it.view.release.as_deref()?;
            let (digests, version) = (release.digests(), release.inspection.version.clone());
            let (component, configuration) = (hex(&digests.component), hex(&digests.configuration));
            Some(vec![component.into(), configuration.into(), version.unwrap_or_default().into()])
        }),
    ),
    metric(
        Gauge,
        "plugind_plugin_state",
        "Whether a plugin is in this state: 1 for one of them, 0 for the others",
        PluginBy("state", |it| {
            STATES.iter().map(|state| ((*state).into(), truth(*state == it.view.state))).collect()
        }),
    ),
    metric(
        Gauge,
        "plugind_plugin_ready",
        "Whether a plugin serves, has done its work, or is started by its next request",
        Plugin(|it| Some(truth(it.view.is_ready))),
    ),
    metric(
        Gauge,
        "plugind_plugin_on_demand",
        "Whether a plugin has no instance, and its next request or connection starts one",
        Plugin(|it| Some(truth(it.view.is_on_demand))),
    ),
    metric(
        Gauge,
        "plugind_plugin_newest_failed",
        "Whether the newest version of a plugin cannot be used; the previous one may serve",
        Plugin(|it| Some(truth(it.view.has_failed_version))),
    ),
    metric(
        Gauge,
        "plugind_plugin_degraded",
        "Whether a plugin serves and is degraded, for any reason",
        Plugin(|it| Some(truth(it.view.degraded.is_some()))),
    ),
    metric(
        Gauge,
        "plugind_plugin_required",
        "Whether a plugin is required",
        Plugin(|it| Some(truth(it.view.is_required))),
    ),
    metric(
        Gauge,
        "plugind_plugin_generation",
        "The generation of a plugin that serves; it grows with every start of a version",
        Plugin(|it| it.view.generation.map(Number)),
    ),
    metric(Gauge, "plugind_plugin_instances", "Instances of a plugin", Plugin(|it| {
        Some(count(it.view.gauges.instances))
    })),
    metric(
        Counter,
        "plugind_plugin_instance_failures",
        "Instances of a plugin that failed, by the result",
        PluginBy("result", |it| {
            let failures = it.totals.failures.iter();
            failures.map(|(result, count)| ((*result).into(), Number(*count))).collect()
        }),
    ),
    metric(
        Gauge,
        "plugind_plugin_in_flight",
        "Requests, connections, datagrams and messages in progress in a plugin",
        Plugin(|it| Some(count(it.view.gauges.in_flight))),
    ),
    metric(
        Gauge,
        "plugind_plugin_queued",
        "Requests, connections, datagrams and messages that wait for an instance of a plugin",
        Plugin(|it| Some(count(it.view.gauges.queued))),
    ),
    metric(
        Gauge,
        "plugind_plugin_queue_wait",
        "Time for which the oldest waiting request, connection, datagram or message has waited",
        Plugin(|it| Some(Time(it.view.gauges.waited))),
    )
    .of(Seconds),
    metric(
        Histogram,
        "plugind_plugin_queue_duration",
        "Time that requests, connections, datagrams and messages waited until an instance of a plugin took them",
        Plugin(|it| Some(Times(it.totals.waits, it.totals.wait))),
    )
    .of(Seconds),
    metric(
        Counter,
        "plugind_plugin_requests",
        "Responses to requests of a plugin, by the class of the status",
        PluginBy("class", |it| {
            let classes = STATUS_CLASSES.iter().zip(it.totals.responses);
            classes.map(|(class, count)| ((*class).into(), Number(count))).collect()
        }),
    ),
    metric(
        Histogram,
        "plugind_plugin_request_duration",
        "Time from the header of a request until its response begins",
        Plugin(|it| Some(Times(it.totals.durations, it.totals.duration))),
    )
    .of(Seconds),
    metric(
        Counter,
        "plugind_plugin_received",
        "Bytes of request bodies, connections and WebSockets that a plugin read",
        Plugin(|it| Some(Number(it.totals.received))),
    )
    .of(Bytes),
    metric(
        Counter,
        "plugind_plugin_sent",
        "Bytes of response bodies, connections and WebSockets that a plugin wrote",
        Plugin(|it| Some(Number(it.totals.sent))),
    )
    .of(Bytes),
    metric(
        Gauge,
        "plugind_plugin_connections",
        "Connections and WebSockets that a plugin serves",
        Plugin(|it| Some(count(it.view.gauges.connections))),
    ),
    metric(
        Counter,
        "plugind_plugin_connections_begun",
        "Connections and WebSockets that were passed to a plugin",
        Plugin(|it| Some(Number(it.totals.connections))),
    ),
    metric(Counter, "plugind_plugin_datagrams", "Datagrams that reached a plugin", Plugin(|it| {
        Some(Number(it.totals.datagrams))
    })),
    metric(
        Counter,
        "plugind_plugin_datagrams_dropped",
        "Datagrams to a plugin, and answers of it, that were dropped",
        Plugin(|it| Some(Number(it.totals.datagrams_dropped))),
    ),
    metric(
        Counter,
        "plugind_plugin_messages_delivered",
        "Messages that a plugin handled",
        Plugin(|it| Some(Number(it.totals.messages.delivered))),
    ),
    metric(
        Counter,
        "plugind_plugin_messages_failed",
        "Deliveries of messages that a plugin did not handle: it failed, took too long or had no room",
        Plugin(|it| Some(Number(it.totals.messages.failed))),
    ),
    metric(
        Counter,
        "plugind_plugin_messages_redelivered",
        "Deliveries to a plugin of messages that had been delivered before",
        Plugin(|it| Some(Number(it.totals.messages.redelivered))),
    ),
    metric(
        Counter,
        "plugind_plugin_messages_dropped",
        "Messages without a stream that were dropped, because the limit of waiting messages was reached",
        Plugin(|it| Some(Number(it.totals.messages.dropped))),
    ),
    metric(
        Counter,
        "plugind_plugin_messages_published",
        "Messages that a plugin sent",
        Plugin(|it| Some(Number(it.totals.messages.published))),
    ),
    metric(
        Gauge,
        "plugind_plugin_messages_in_flight",
        "Messages that were received for a plugin and are in progress",
        Plugin(|it| Some(Number(it.totals.messages.in_flight))),
    ),
    metric(
        Counter,
        "plugind_plugin_keyvalue_operations",
        "Operations of a plugin on its key-value stores; a batch is one operation",
        Plugin(|it| Some(Number(it.totals.keyvalue.begun))),
    ),
    metric(
        Counter,
        "plugind_plugin_keyvalue_failures",
        "Operations of a plugin on its key-value stores that returned an error",
        Plugin(|it| Some(Number(it.totals.keyvalue.failed))),
    ),
    metric(
        Counter,
        "plugind_plugin_calls",
        "Requests that a plugin sent to other plugins",
        Plugin(|it| Some(Number(it.totals.calls.begun))),
    ),
    metric(
        Counter,
        "plugind_plugin_calls_failed",
        "Requests to other plugins that were denied, or got no response or one of the class 5xx",
        Plugin(|it| Some(Number(it.totals.calls.failed))),
    ),
    metric(Gauge, "plugind_plugin_memory", "Memory that all instances of a plugin use", Plugin(
        |it| Some(count(it.view.gauges.memory)),
    ))
    .of(Bytes),
    metric(
        Gauge,
        "plugind_plugin_memory_peak",
        "The most memory that the instances of this version of a plugin used at a time",
        Plugin(|it| Some(count(it.view.gauges.memory_peak))),
    )
    .of(Bytes),
    metric(
        Gauge,
        "plugind_plugin_memory_limit",
        "The most memory that all instances of a plugin may use: limits.memory-max",
        Plugin(|it| Some(count(it.view.gauges.memory_max)).filter(|_| it.has_pool())),
    )
    .of(Bytes),
    metric(
        Gauge,
        "plugind_plugin_state_size",
        "Size of the state directory and the key-value store of a plugin, measured at most every 30 s",
        Plugin(|it| it.state_size.map(Number)),
    )
    .of(Bytes),
    metric(
        Counter,
        "plugind_plugin_busy",
        "Time for which instances of a plugin ran on a thread",
        Plugin(|it| Some(Time(it.totals.busy))),
    )
    .of(Seconds),
    metric(
        Counter,
        "plugind_plugin_log_entries",
        "Log entries of a plugin that were sent to the journal",
        Plugin(|it| Some(Number(it.totals.log_entries))),
    ),
    metric(
        Counter,
        "plugind_plugin_log_entries_dropped",
        "Log entries of a plugin that were dropped because of limits.log-rate",
        Plugin(|it| Some(Number(it.totals.log_dropped))),
    ),
    metric(
        Gauge,
        "plugind_plugin_compile_time",
        "Time that it took to compile the newest version of a plugin; absent if it came from the cache",
        Plugin(|it| it.totals.compile.map(Time)),
    )
    .of(Seconds),
    metric(
        Gauge,
        "plugind_plugin_start_time",
        "Time from the creation of the serving version of a plugin until it was ready",
        Plugin(|it| it.totals.start.map(Time)),
    )
    .of(Seconds),
];

impl PluginSnapshot {
    fn has_pool(&self) -> bool {
        self.view.gauges.memory_max > 0
    }
}

fn count(number: usize) -> MetricValue {
    Number(number as u64)
}

fn truth(is_true: bool) -> MetricValue {
    Number(u64::from(is_true))
}

fn by_socket(
    daemon: &DaemonSnapshot,
    read: impl Fn(&SocketUsage) -> MetricValue,
) -> LabelledValues {
    daemon.sockets.iter().map(|it| (it.socket.to_string().into(), read(it))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_name_stands_once_in_the_table_and_follows_the_conventions() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("plugind_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{name}");
            let reserved = ["_total", "_count", "_sum", "_bucket", "_info", "_seconds", "_bytes"];
            assert!(!reserved.iter().any(|suffix| name.ends_with(suffix)), "{name}");
            assert!(!metric.help.ends_with('.') && !metric.help.is_empty(), "{name}");
        }
    }
}
