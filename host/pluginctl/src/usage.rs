//! The resource usage and the load of a plugin, as every command shows them.

use crate::relative_time::moment;
use plugind::api::{Plugin, PluginUsage};
use std::time::{Duration, SystemTime};

/// A size in the unit in which it has up to three digits before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_000 && unit < UNITS.len() - 1 {
        tenths = tenths.div_ceil(1024);
        unit += 1;
    }
    decimal(tenths, UNITS[unit])
}

const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];

/// A number of tenths, which are shown where they say something.
fn decimal(tenths: u64, unit: &str) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole @ 100.., _) => format!("{whole}{unit}"),
        (whole, tenths) => format!("{whole}.{tenths}{unit}"),
    }
}

/// The share of a processor for which its instances ran.
pub(crate) fn busy(usage: &PluginUsage) -> String {
    decimal(part(usage.busy, usage.period, 1000), "%")
}

/// Returns the number of responses per second.
pub(crate) fn rate(usage: &PluginUsage) -> String {
    decimal(part(usage.responses, usage.period, 10_000), "/s")
}

/// Returns the ratio of `one` to `of`, multiplied by `scale`.
pub(crate) fn part(one: u64, of: u64, scale: u64) -> u64 {
    let part = u128::from(one) * u128::from(scale) / u128::from(of.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// A time in µs, in the unit in which it has up to three digits before the point.
pub(crate) fn time(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros}us"),
        1000..1_000_000 => decimal(micros / 100, "ms"),
        _ => decimal(micros / 100_000, "s"),
    }
}

/// Returns the duration of the step that the sub-state names, and its limit if there is one: `compiling 12s`.
pub(crate) fn step(plugin: &Plugin, now: SystemTime) -> Option<String> {
    let steps = ["queued", "compiling", "starting", "ready", "handing-over"];
    let step = steps.iter().find(|step| **step == plugin.sub_state)?;
    let Some(since) = plugin.sub_state_since.map(moment) else { return Some((*step).to_owned()) };
    // Clocks are set back at times.
    let elapsed = now.duration_since(since).unwrap_or_default().as_secs();
    let max = plugin.start_timeout.filter(|_| *step == "starting").map(Duration::from_millis);
    Some(match max {
        Some(max) => format!("{step} {elapsed}s of {}s", max.as_secs()),
        None => format!("{step} {elapsed}s"),
    })
}

/// Its remark in a list: why it is tried again and when, why it is degraded, or its own status.
pub(crate) fn remark(plugin: &Plugin, now: SystemTime) -> String {
    let own = || plugin.status.clone().unwrap_or_default();
    if let (Some(next), Some(failure)) = (plugin.next_attempt.map(moment), &plugin.failure) {
        let left = next.duration_since(now).unwrap_or_default().as_secs();
        return format!("next try in {left}s: {}", failure.error);
    }
    match &plugin.degraded {
        Some(why) if !why.is_empty() => why.clone(),
        _ => own(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, greeter};

    #[test]
    fn sizes_times_and_shares_are_short() {
        for (size, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1536, "1.5K"),
            (1 << 20, "1M"),
            (200 << 20, "200M"),
            (3 << 40, "3T"),
        ] {
            assert_eq!(bytes(size), shown);
        }
        for (micros, shown) in
            [(0, "0us"), (999, "999us"), (1500, "1.5ms"), (120_000, "120ms"), (2_500_000, "2.5s")]
        {
            assert_eq!(time(micros), shown);
        }
        let usage =
            PluginUsage { period: 60_000, busy: 90_000, responses: 90, ..Default::default() };
        assert_eq!((busy(&usage), rate(&usage)), ("150%".to_owned(), "1.5/s".to_owned()));
        assert_eq!(rate(&PluginUsage::default()), "0/s");
    }

    #[test]
    fn a_step_is_shown_with_its_time_and_its_limit() {
        let starting = Plugin {
            sub_state: "starting".to_owned(),
            sub_state_since: Some(1_000_000),
            start_timeout: Some(30_000),
            ..greeter()
        };
        let now = moment(5_000_000);
        assert_eq!(step(&starting, now).as_deref(), Some("starting 4s of 30s"));
        let compiling = Plugin { sub_state: "compiling".to_owned(), ..starting };
        assert_eq!(step(&compiling, now).as_deref(), Some("compiling 4s"));
        assert_eq!(step(&greeter(), now), None);
    }

    #[test]
    fn the_next_try_goes_before_what_a_plugin_says() {
        let retried = Plugin { next_attempt: Some(9_000_000), ..failed() };
        let shown = remark(&retried, moment(4_000_000));
        assert!(shown.starts_with("next try in 5s: /etc/plugind"), "{shown}");
        let degraded = Plugin { degraded: Some("no cache".to_owned()), ..greeter() };
        assert_eq!(remark(&degraded, moment(0)), "no cache");
        assert_eq!(remark(&greeter(), moment(0)), "greets people");
    }
}
