//! `[handover]` of a manifest: how a plugin's state goes to its next version.

use crate::{
    base::quantity::{Bytes, Span},
    config::Table,
};
use std::time::Duration;

/// The largest state that a manifest may allow: what is kept is kept twice, by the daemon and on disk.
const STATE_MAX: Bytes = Bytes(1 << 30);
/// The largest `held-max` of a manifest: the length of the queue of any plugin.
const HELD_MAX: u32 = 1024;

/// `[handover]`: how a plugin's state goes to its next version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Handover {
    /// The longest time for which work is held until the next version has the state.
    pub timeout: Duration,
    /// The largest state.
    pub state_max: Bytes,
    /// The most requests that wait meanwhile.
    pub held_max: u32,
}

impl Handover {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let timeout = table.parsed::<Span>("timeout-sec").map(|span| span.0);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            table.complain_about(
                "timeout-sec",
                "handover.timeout-sec must be greater than 0, not \"0s\"",
            );
        }
        let state_max = table.parsed::<Bytes>("state-max");
        if let Some(max) = state_max.filter(|max| *max == Bytes(0) || *max > STATE_MAX) {
            let message = format!(
                "handover.state-max must be greater than 0 and at most \"{STATE_MAX}\", not \"{max}\""
            );
            table.complain_about("state-max", message);
        }
        let held_max = table.number("held-max", 1);
        if let Some(max) = held_max.filter(|max| *max > HELD_MAX) {
            let message = format!("handover.held-max must be at most {HELD_MAX}, not {max}");
            table.complain_about("held-max", message);
        }
        Self {
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            state_max: state_max.unwrap_or(Bytes(16 << 20)),
            held_max: held_max.unwrap_or(HELD_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::test_text::{importing, parse, parse_for};

    #[test]
    fn a_handover_has_limits_with_defaults() {
        let handover = parse("").unwrap().handover;
        assert_eq!(handover.timeout, Duration::from_secs(10));
        assert_eq!((handover.state_max, handover.held_max), (Bytes(16 << 20), 1024));
        for (line, place) in [
            (
                "timeout-sec = \"0\"",
                "2:15: handover.timeout-sec must be greater than 0, not \"0s\"",
            ),
            (
                "state-max = \"0\"",
                "2:13: handover.state-max must be greater than 0 and at most \"1G\", not \"0\"",
            ),
            (
                "state-max = \"2G\"",
                "2:13: handover.state-max must be greater than 0 and at most \"1G\", not \"2G\"",
            ),
            ("held-max = 0", "2:12: handover.held-max must be a whole number of at least 1, not 0"),
            ("held-max = 1025", "2:12: handover.held-max must be at most 1024, not 1025"),
        ] {
            let mistakes = parse(&format!("[handover]\n{line}\n")).unwrap_err();
            assert_eq!(mistakes, [format!("m.toml:{place}")]);
        }
        let text = "[handover]\ntimeout-sec = \"1min\"\nstate-max = \"1G\"\nheld-max = 1024\n";
        assert!(parse(text).is_ok());
        let mistakes = parse_for(Some(importing(&[])), text).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].contains("[handover] cannot be used"), "{mistakes:?}");
    }
}
