//! `on-demand` and `idle-timeout-sec` of a manifest: instances that exist only while there is work for them.

use crate::{base::quantity::Span, config::Table};
use std::time::Duration;

/// The time without work after which an instance that is not needed is stopped.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// An instance that is stopped sooner would be started again for most requests.
const IDLE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Reads `on-demand`. `serves` says whether the component exports a handler, if that is known, and `subscribes` whether
/// the manifest has a valid `[[subscribe]]`.
pub(super) fn read_on_demand(table: &Table<'_>, serves: Option<bool>, subscribes: bool) -> bool {
    let on_demand = table.boolean("on-demand").unwrap_or(false);
    if on_demand && serves == Some(false) {
        table.complain_about(
            "on-demand",
            "on-demand cannot be used: the component exports no handler, so no request or connection could start it; \
             remove the key",
        );
    }
    if on_demand && subscribes {
        table.complain_about(
            "on-demand",
            "on-demand cannot be used with [[subscribe]]: the plugin waits for messages all the time; remove the key",
        );
    }
    on_demand
}

/// Reads `idle-timeout-sec`.
pub(super) fn read_idle_timeout(table: &Table<'_>) -> Duration {
    let idle_timeout = table.parsed::<Span>("idle-timeout-sec").map_or(IDLE_TIMEOUT, |span| span.0);
    if idle_timeout < IDLE_TIMEOUT_MIN {
        let (least, value) = (Span(IDLE_TIMEOUT_MIN), Span(idle_timeout));
        let message = format!("idle-timeout-sec must be at least \"{least}\", not \"{value}\"");
        table.complain_about("idle-timeout-sec", message);
    }
    idle_timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::{
        ComponentFacts,
        test_text::{importing, parse, parse_for},
    };

    #[test]
    fn a_plugin_is_not_on_demand_unless_its_manifest_says_so() {
        let manifest = parse("").unwrap();
        assert!(!manifest.on_demand);
        assert_eq!(manifest.idle_timeout, IDLE_TIMEOUT);
        let manifest = parse("on-demand = true\nidle-timeout-sec = \"5min\"\n").unwrap();
        assert!(manifest.on_demand);
        assert_eq!(manifest.idle_timeout, Duration::from_secs(300));
    }

    #[test]
    fn a_component_without_a_handler_cannot_start_on_demand() {
        let program = ComponentFacts { serves: false, ..importing(&[]) };
        let mistakes = parse_for(Some(program), "on-demand = true\n").unwrap_err();
        let rule = "m.toml:1:13: on-demand cannot be used: the component exports no handler";
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(rule), "{mistakes:?}");
        assert!(parse_for(Some(program), "on-demand = false\n").is_ok());
        assert!(parse_for(Some(importing(&[])), "on-demand = true\n").is_ok());
    }

    #[test]
    fn a_plugin_that_waits_for_messages_cannot_start_on_demand() {
        let text = "on-demand = true\n[[subscribe]]\nsubject = \"orders\"\n";
        let mistakes = parse(text).unwrap_err();
        let rule = "m.toml:1:13: on-demand cannot be used with [[subscribe]]";
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(rule), "{mistakes:?}");
    }

    #[test]
    fn an_idle_timeout_that_is_too_short_is_refused() {
        let mistakes = parse("idle-timeout-sec = \"10ms\"\n").unwrap_err();
        let rule = "m.toml:1:20: idle-timeout-sec must be at least \"100ms\", not \"10ms\"";
        assert_eq!(mistakes, [rule]);
    }

    #[test]
    fn a_plugin_on_demand_has_no_least_number_of_instances() {
        let text = "on-demand = true\n[instances]\nmin = 2\n";
        let mistakes = parse(text).unwrap_err();
        let rule = "m.toml:3:7: instances.min cannot be used with on-demand: ";
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(rule), "{mistakes:?}");
    }
}
