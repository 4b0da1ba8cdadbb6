//! The columns of `pluginctl top`: their cells, and the order of plugins by each of them.

use crate::{
    columns::KEPT,
    usage::{busy, bytes, part, rate, remark, step, time},
};
use clap::ValueEnum;
use plugind::{
    api::{Plugin, PluginUsage},
    base::text::Escaped,
};
use std::{
    cmp::{Ordering, Reverse},
    time::SystemTime,
};

/// The width that the last column needs if it is shown at all. It takes what the others leave.
pub(super) const STATUS_WIDTH: u16 = 12;

/// The columns from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    Name,
    State,
    Cpu,
    Memory,
    Limit,
    Requests,
    P50,
    P99,
    InFlight,
    Queue,
    Instances,
    Status,
}

impl Column {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Limit => "LIMIT",
            Self::Requests => "REQ/S",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::InFlight => "FLIGHT",
            Self::Queue => "QUEUE",
            Self::Instances => "INST",
            Self::Status => "STATUS",
        }
    }

    pub(crate) fn cell(self, plugin: &Plugin, now: SystemTime) -> String {
        let figure = |shown: fn(&PluginUsage) -> String| {
            plugin.usage.as_ref().map_or_else(|| "-".to_owned(), shown)
        };
        let or_none = |time_in: Option<u64>| time_in.map_or_else(|| "-".to_owned(), time);
        match self {
            Self::Name => plugin.name.clone(),
            Self::State => state(plugin, now),
            Self::Cpu => figure(busy),
            Self::Memory => figure(|usage| bytes(usage.memory)),
            Self::Limit => figure(|usage| bytes(usage.memory_max)),
            Self::Requests => figure(rate),
            Self::P50 => or_none(plugin.usage.as_ref().and_then(|usage| usage.p50)),
            Self::P99 => or_none(plugin.usage.as_ref().and_then(|usage| usage.p99)),
            Self::InFlight => figure(|usage| usage.in_flight.to_string()),
            Self::Queue => plugin.usage.as_ref().map_or("-".to_owned(), |_| {
                plugin.requests.as_ref().map_or(0, |requests| requests.queued).to_string()
            }),
            Self::Instances => figure(|usage| usage.instances.to_string()),
            Self::Status => remark(plugin, now),
        }
    }

    /// The order of two plugins: texts ascend, and of figures the largest is first. Equal plugins are in the order of
    /// their names.
    pub(crate) fn compare(self, one: &Plugin, other: &Plugin, now: SystemTime) -> Ordering {
        let order = match self {
            Self::Name => Ordering::Equal,
            Self::State | Self::Status => self.cell(one, now).cmp(&self.cell(other, now)),
            _ => Reverse(self.figure(one)).cmp(&Reverse(self.figure(other))),
        };
        order.then_with(|| one.name.cmp(&other.name))
    }

    /// The number that plugins are sorted by; none where the plugin has none.
    fn figure(self, plugin: &Plugin) -> Option<u64> {
        let usage = plugin.usage.as_ref()?;
        match self {
            Self::Cpu => Some(part(usage.busy, usage.period, 1_000_000)),
            Self::Memory => Some(usage.memory),
            Self::Limit => Some(usage.memory_max),
            Self::Requests => Some(part(usage.responses, usage.period, 1_000_000)),
            Self::P50 => usage.p50,
            Self::P99 => usage.p99,
            Self::InFlight => Some(usage.in_flight),
            Self::Queue => plugin.requests.as_ref().map(|requests| requests.queued),
            Self::Instances => Some(usage.instances),
            Self::Name | Self::State | Self::Status => None,
        }
    }

    /// Returns the column that is `steps` to the right of this one. The first column follows the last one.
    pub(crate) fn beside(self, steps: usize) -> Self {
        let all = Self::value_variants();
        let own = all.iter().position(|column| *column == self).unwrap_or_default();
        all[(own + steps) % all.len()]
    }

    /// The width of its cells and its importance. The name and the column of the order are always shown.
    pub(crate) fn size(self, plugins: &[Plugin], by: Self, now: SystemTime) -> (usize, u8) {
        let cells = plugins.iter().map(|it| Escaped(&self.cell(it, now)).to_string());
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
        // Its end may be cut off.
        let widest =
            if self == Self::Status { widest.min(usize::from(STATUS_WIDTH)) } else { widest };
        let is_kept = self == by || self == Self::Name;
        let importance = if is_kept { KEPT } else { self.importance() };
        (widest.max(self.heading().len()), importance)
    }

    /// The importance where not all columns fit: those with the smallest number are left out first.
    pub(crate) fn importance(self) -> u8 {
        match self {
            Self::Limit => 0,
            Self::P50 => 1,
            Self::Instances => 2,
            Self::Queue => 3,
            Self::InFlight => 4,
            Self::P99 => 5,
            Self::Status => 6,
            Self::Requests => 7,
            Self::Memory => 8,
            Self::Cpu => 9,
            Self::State => 10,
            Self::Name => 11,
        }
    }
}

fn state(plugin: &Plugin, now: SystemTime) -> String {
    step(plugin, now).unwrap_or_else(|| match &*plugin.sub_state {
        "" => plugin.active_state.clone(),
        more => more.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, used};

    fn order(by: Column, plugins: &[Plugin]) -> Vec<&str> {
        let mut sorted: Vec<_> = plugins.iter().collect();
        sorted.sort_by(|one, other| by.compare(one, other, SystemTime::now()));
        sorted.into_iter().map(|plugin| &*plugin.name).collect()
    }

    #[test]
    fn figures_descend_texts_ascend_and_a_plugin_without_figures_is_last() {
        let plugins = [failed(), used("b", 600, 2 << 20), used("a", 6_000, 1 << 20)];
        assert_eq!(order(Column::Cpu, &plugins), ["a", "b", "bad"]);
        assert_eq!(order(Column::Memory, &plugins), ["b", "a", "bad"]);
        assert_eq!(order(Column::Requests, &plugins), ["a", "b", "bad"], "equal, so by name");
        assert_eq!(order(Column::State, &plugins), ["bad", "a", "b"]);
    }

    #[test]
    fn the_column_beside_the_last_is_the_first() {
        assert_eq!(Column::Status.beside(1), Column::Name);
        assert_eq!(Column::Name.beside(Column::value_variants().len() - 1), Column::Status);
        assert_eq!(Column::Cpu.beside(1), Column::Memory);
    }
}
