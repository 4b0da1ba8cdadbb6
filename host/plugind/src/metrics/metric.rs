//! A metric: its name, its kind, and the source of its values.

use crate::{
    base::figures::DurationCounts,
    metrics::snapshot::{DaemonSnapshot, MetricSnapshot, PluginSnapshot},
};
use std::{borrow::Cow, time::Duration};

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// It counts values by their size.
    Histogram,
    /// Its labels are what it says.
    Info,
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// Times.
    Seconds,
    /// Amounts of data.
    Bytes,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// A number.
    Number(u64),
    /// A time.
    Time(Duration),
    /// Times by their length, and their sum.
    Times(DurationCounts, Duration),
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// The labels, in the order of the table.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: MetricValue,
}

/// Values, each with that of a label.
pub(super) type LabelledValues = Vec<(Cow<'static, str>, MetricValue)>;

/// The source of the values of a metric: none for a sample without a value at the moment.
pub(super) enum MetricReader {
    /// One value of the daemon.
    Daemon(fn(&DaemonSnapshot) -> Option<MetricValue>),
    /// Values of the daemon, one for each value of a label.
    DaemonBy(&'static str, fn(&DaemonSnapshot) -> LabelledValues),
    /// One value of each plugin.
    Plugin(fn(&PluginSnapshot) -> Option<MetricValue>),
    /// Values of each plugin, one for each value of a second label.
    PluginBy(&'static str, fn(&PluginSnapshot) -> LabelledValues),
    /// The values of these labels, of each plugin that has them.
    PluginInfo(&'static [&'static str], fn(&PluginSnapshot) -> Option<Vec<Cow<'static, str>>>),
}

/// A metric.
pub struct Metric {
    /// Its name, without the suffixes for unit and kind.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Option<MetricUnit>,
    /// Its description.
    pub help: &'static str,
    reader: MetricReader,
}

/// The label for the name of a plugin.
const PLUGIN: &str = "plugin";

use MetricKind::{Counter, Gauge, Histogram, Info};
use MetricReader::{Daemon, DaemonBy, Plugin, PluginBy, PluginInfo};
use MetricUnit::{Bytes, Seconds};

/// A metric without a unit.
pub(super) const fn metric(
    kind: MetricKind,
    name: &'static str,
    help: &'static str,
    reader: MetricReader,
) -> Metric {
    Metric { name, kind, unit: None, help, reader }
}

impl Metric {
    /// The same with a unit.
    pub(super) const fn of(mut self, unit: MetricUnit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Its name as it is published, without the suffix for the parts of a histogram.
    #[must_use]
    pub fn full_name(&self) -> String {
        let unit = self.unit.map_or("", |unit| match unit {
            Seconds => "_seconds",
            Bytes => "_bytes",
        });
        let kind = match self.kind {
            Counter => "_total",
            Info => "_info",
            Gauge | Histogram => "",
        };
        format!("{}{unit}{kind}", self.name)
    }

    /// The names of its labels.
    #[must_use]
    pub fn labels(&self) -> Vec<&'static str> {
        match self.reader {
            Daemon(_) => Vec::new(),
            DaemonBy(label, _) => vec![label],
            Plugin(_) => vec![PLUGIN],
            PluginBy(label, _) => vec![PLUGIN, label],
            PluginInfo(labels, _) => [&[PLUGIN], labels].concat(),
        }
    }

    /// Its values.
    #[must_use]
    pub fn samples(&self, all: &MetricSnapshot) -> Vec<MetricSample> {
        let plugin = |it: &PluginSnapshot| (PLUGIN, Cow::Owned(it.view.name.to_string()));
        match self.reader {
            Daemon(read) => {
                let value = read(&all.daemon).into_iter();
                value.map(|value| MetricSample { labels: Vec::new(), value }).collect()
            }
            DaemonBy(label, read) => {
                let values = read(&all.daemon).into_iter();
                values
                    .map(|(by, value)| MetricSample { labels: vec![(label, by)], value })
                    .collect()
            }
            Plugin(read) => {
                let values = all.plugins.iter().filter_map(|it| Some((it, read(it)?)));
                values.map(|(it, value)| MetricSample { labels: vec![plugin(it)], value }).collect()
            }
            PluginBy(label, read) => {
                let values = all
                    .plugins
                    .iter()
                    .flat_map(|it| read(it).into_iter().map(move |(by, value)| (it, by, value)));
                values
                    .map(|(it, by, value)| MetricSample {
                        labels: vec![plugin(it), (label, by)],
                        value,
                    })
                    .collect()
            }
            PluginInfo(labels, read) => {
                let values = all.plugins.iter().filter_map(|it| Some((it, read(it)?)));
                let sample = |(it, values)| {
                    let values = labels.iter().copied().zip(values);
                    let labels = [plugin(it)].into_iter().chain(values).collect();
                    MetricSample { labels, value: MetricValue::Number(1) }
                };
                values.map(sample).collect()
            }
        }
    }
}
