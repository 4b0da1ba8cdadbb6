//! Figures as text: in the format of OpenMetrics, and in the older one of Prometheus.

use crate::{
    base::figures::DURATION_BOUNDS,
    metrics::{
        metric::{Metric, MetricKind, MetricUnit, MetricValue},
        snapshot::MetricSnapshot,
        table::METRICS,
    },
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use std::fmt;

/// A format of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
}

impl MetricFormat {
    /// The format that a client with this `Accept` field gets.
    #[must_use]
    pub fn of(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All figures as text.
///
/// # Errors
/// When the library cannot write them, which would be a mistake of ours.
pub fn exposition(snapshot: MetricSnapshot, format: MetricFormat) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SnapshotCollector(snapshot)));
    let mut written = String::new();
    match format {
        MetricFormat::OpenMetrics => text::encode(&mut written, &registry)?,
        MetricFormat::Prometheus => prometheus_text::encode(&mut written, &registry)?,
    }
    Ok(written)
}

/// Hands figures that were taken to the library.
#[derive(Debug)]
struct SnapshotCollector(MetricSnapshot);

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for metric in METRICS {
            self.encode_metric(metric, &mut encoder)?;
        }
        Ok(())
    }
}

impl SnapshotCollector {
    fn encode_metric(&self, metric: &Metric, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let samples = metric.samples(&self.0);
        if samples.is_empty() {
            return Ok(());
        }
        let unit = metric.unit.map(|unit| match unit {
            MetricUnit::Seconds => Unit::Seconds,
            MetricUnit::Bytes => Unit::Bytes,
        });
        let (kind, name) = match metric.kind {
            MetricKind::Counter => (MetricType::Counter, metric.name),
            MetricKind::Gauge => (MetricType::Gauge, metric.name),
            MetricKind::Histogram => (MetricType::Histogram, metric.name),
            MetricKind::Info => (MetricType::Info, metric.name),
        };
        let mut family = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
        for sample in samples {
            if metric.kind == MetricKind::Info {
                family.encode_info(&sample.labels)?;
                continue;
            }
            let mut one = family.encode_family(&sample.labels)?;
            encode_value(metric.kind, &sample.value, &mut one)?;
        }
        Ok(())
    }
}

fn encode_value(kind: MetricKind, value: &MetricValue, encoder: &mut MetricEncoder) -> fmt::Result {
    match (kind, value) {
        (_, MetricValue::Times(counts, sum)) => {
            let bounds = DURATION_BOUNDS.iter().map(|micros| seconds(*micros));
            let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts.0).collect();
            let (sum, count) = (sum.as_secs_f64(), counts.count());
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        (MetricKind::Counter, MetricValue::Number(number)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (MetricKind::Counter, MetricValue::Time(time)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(&time.as_secs_f64(), None)
        }
        (_, MetricValue::Number(number)) => encoder.encode_gauge(number),
        (_, MetricValue::Time(time)) => encoder.encode_gauge(&time.as_secs_f64()),
    }
}

/// Microseconds as seconds, which is exact enough for a bound.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_format_that_it_accepts() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(MetricFormat::of(prometheus), MetricFormat::OpenMetrics);
        assert_eq!(MetricFormat::of("*/*"), MetricFormat::Prometheus);
        assert_eq!(MetricFormat::of(""), MetricFormat::Prometheus);
    }
}
