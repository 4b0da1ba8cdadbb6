//! `[instances]` of a manifest: how many instances there are, and how each is used.

use crate::{
    base::quantity::{Bytes, Span},
    config::Table,
};
use std::time::Duration;

/// Instances that are replaced more often would do little else than start.
const RECYCLE_AGE_MIN: Duration = Duration::from_secs(1);

/// `[instances]`: how many instances there are, and what each is used for.
#[derive(Clone, Debug, PartialEq)]
pub struct Instances {
    /// None: as fits what the component exports.
    pub mode: Option<Mode>,
    /// The number of instances that are kept without work; none: one, or none with `on-demand`.
    pub min: Option<u32>,
    /// The most instances at a time; none: as fits the mode.
    pub max: Option<u32>,
    /// The most calls at a time in one instance; none: as fits the mode.
    pub concurrency: Option<u32>,
    /// After so many calls an instance is replaced; none: as fits the mode.
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

impl Instances {
    /// `one`: there must be one instance, which is kept. `on_demand`: none is kept without work.
    pub(super) fn read(table: &Table<'_>, one: bool, on_demand: bool) -> Self {
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
            min: table.number("min", 1),
            max: table.number("max", 1),
            concurrency: table.number("concurrency", 1),
            recycle_after: table.number("recycle-after", 1),
            recycle_age,
            recycle_memory: table.parsed("recycle-memory"),
        };
        if one {
            instances.require_single_instance(table);
        }
        instances.check_min(table, on_demand);
        instances
    }

    fn check_min(&self, table: &Table<'_>, on_demand: bool) {
        let Some(min) = self.min else { return };
        if on_demand {
            let message = "instances.min cannot be used with on-demand: such a plugin has no instance without work; \
                           remove one of the two";
            table.complain_about("min", message);
        } else if let Some(max) = self.max.filter(|max| min > *max) {
            let message = format!("instances.min must be at most instances.max, {max}, not {min}");
            table.complain_about("min", message);
        }
    }

    fn require_single_instance(&self, table: &Table<'_>) {
        let why = "the component exports plugind:plugin/handover, so it has one instance";
        let keep = "write \"shared\" or \"exclusive\"";
        let (min, max) = (self.min.unwrap_or(1), self.max.unwrap_or(1));
        let one_at_least = format!("must be 1, not {min}");
        let at_most_one = format!("must be 1, not {max}");
        for (key, is_wrong, rule, remedy) in [
            ("mode", self.mode == Some(Mode::Fresh), "cannot be \"fresh\"", keep),
            ("min", min > 1, one_at_least.as_str(), "remove it"),
            ("max", max > 1, at_most_one.as_str(), "remove it"),
        ] {
            if is_wrong {
                table.complain_about(key, format!("instances.{key} {rule}: {why}; {remedy}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plugin::manifest::{
        ComponentFacts,
        test_text::{parse, parse_for},
    };

    #[test]
    fn a_component_with_handover_must_have_one_instance_that_is_not_fresh() {
        let text =
            "[instances]\nmode = \"fresh\"\nmax = 2\nrecycle-after = 7\nrecycle-age = \"1h\"\n";
        let mistakes =
            parse_for(Some(ComponentFacts { imports: &[], hands_over: true, serves: true }), text)
                .unwrap_err();
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
        assert!(
            parse_for(Some(ComponentFacts { imports: &[], hands_over: true, serves: true }), one)
                .is_ok()
        );
    }

    #[test]
    fn the_least_number_of_instances_is_not_above_the_most() {
        assert_eq!(parse("[instances]\nmin = 2\nmax = 2\n").unwrap().instances.min, Some(2));
        let mistakes = parse("[instances]\nmin = 3\nmax = 2\n").unwrap_err();
        assert_eq!(mistakes, ["m.toml:2:7: instances.min must be at most instances.max, 2, not 3"]);
    }

    #[test]
    fn a_recycle_age_that_is_too_short_is_refused() {
        let mistakes = parse("[instances]\nrecycle-age = \"0\"\n").unwrap_err();
        assert_eq!(
            mistakes,
            ["m.toml:2:15: instances.recycle-age must be at least \"1s\", not \"0s\""]
        );
    }
}
