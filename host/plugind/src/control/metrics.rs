//! `io.systemd.Metrics`: the table of metrics, as systemd-report(1) reads it.

use crate::{
    base::figures::DURATION_BOUNDS,
    metrics::{
        metric::{Metric, MetricKind, MetricSample, MetricValue},
        snapshot::MetricSnapshot,
        table::METRICS,
    },
};
use serde_json::{Map, Value, json};

/// The prefix of the names of all metrics: the name of the socket in `/run/systemd/report`, as systemd expects it.
const PREFIX: &str = "io.plugind";

/// The replies to `List`: one for each value.
pub(super) fn list(all: &MetricSnapshot) -> Vec<Value> {
    let values = METRICS.iter().flat_map(|metric| {
        let name = name(metric);
        let samples = metric.samples(all).into_iter();
        samples.map(move |sample| listed(&name, metric.kind, sample))
    });
    values.collect()
}

/// The replies to `Describe`: one for each metric.
pub(super) fn describe() -> Vec<Value> {
    let described = |metric: &Metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "object",
            MetricKind::Info => "string",
        };
        json!({ "name": name(metric), "description": metric.help, "type": kind })
    };
    METRICS.iter().map(described).collect()
}

/// A name as systemd writes it: `plugind_plugin_requests_total` is `io.plugind.pluginRequestsTotal`.
fn name(metric: &Metric) -> String {
    let full = metric.full_name();
    let words = full.strip_prefix("plugind_").unwrap_or(&full).split('_');
    let words = words.enumerate().map(|(number, word)| match word.chars().next() {
        Some(first) if number > 0 => format!("{}{}", first.to_ascii_uppercase(), &word[1..]),
        _ => word.to_owned(),
    });
    format!("{PREFIX}.{}", words.collect::<String>())
}

fn listed(name: &str, kind: MetricKind, sample: MetricSample) -> Value {
    let MetricSample { mut labels, value } = sample;
    // The first label is what the metric is about, if it is about a plugin or a socket.
    let of_one = labels.first().is_some_and(|(label, _)| ["plugin", "socket"].contains(label));
    let object = of_one.then(|| labels.remove(0).1);
    let value = match value {
        _ if kind == MetricKind::Info && !labels.is_empty() => json!(labels.remove(0).1),
        MetricValue::Number(number) => json!(number),
        MetricValue::Time(time) => json!(time.as_secs_f64()),
        MetricValue::Times(counts, sum) => {
            let bounds = DURATION_BOUNDS.iter().map(ToString::to_string);
            let buckets = bounds.chain(["more".to_owned()]).zip(counts.0);
            let buckets: Map<_, _> = buckets.map(|(bound, count)| (bound, json!(count))).collect();
            let (count, sum) = (counts.count(), sum.as_secs_f64());
            json!({ "count": count, "sumSeconds": sum, "countsByMicroseconds": buckets })
        }
    };
    let mut listed = Map::from_iter([("name".to_owned(), json!(name))]);
    listed.insert("value".to_owned(), value);
    if let Some(object) = object {
        listed.insert("object".to_owned(), json!(object));
    }
    if !labels.is_empty() {
        let fields: Map<_, _> =
            labels.into_iter().map(|(label, value)| (label.to_owned(), json!(value))).collect();
        listed.insert("fields".to_owned(), Value::Object(fields));
    }
    Value::Object(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_systemd_writes_them() {
        let names: Vec<_> = METRICS.iter().map(name).collect();
        for expected in
            ["pluginRequestsTotal", "pluginMemoryLimitBytes", "uptimeSeconds", "processOpenFds"]
        {
            assert!(names.contains(&format!("io.plugind.{expected}")), "{names:?}");
        }
    }

    #[test]
    fn a_value_is_listed_with_its_object_and_its_fields() {
        let labels = vec![("plugin", "hello".into()), ("class", "2xx".into())];
        let sample = MetricSample { labels, value: MetricValue::Number(3) };
        assert_eq!(
            listed("io.plugind.x", MetricKind::Counter, sample),
            json!({
                "name": "io.plugind.x", "value": 3, "object": "hello", "fields": { "class": "2xx" },
            })
        );
        let labels = vec![("version", "1.2".into())];
        let sample = MetricSample { labels, value: MetricValue::Number(1) };
        assert_eq!(
            listed("io.plugind.x", MetricKind::Info, sample),
            json!({ "name": "io.plugind.x", "value": "1.2" })
        );
        let labels = vec![("plugin", "a".into()), ("digest", "0f".into()), ("version", "2".into())];
        let sample = MetricSample { labels, value: MetricValue::Number(1) };
        assert_eq!(
            listed("io.plugind.x", MetricKind::Info, sample),
            json!({
                "name": "io.plugind.x", "value": "0f", "object": "a", "fields": { "version": "2" },
            })
        );
    }
}
