//! Requests between plugins that lead in a circle, as far as manifests show it: calls, and middleware. Pure.

use crate::{
    base::name::PluginName,
    config::{Diagnostic, Position},
    plugin::{
        directories::{VerifyResult, name_of},
        interfaces::Grant,
        manifest::Manifest,
        verify::Verified,
    },
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// To which plugins the requests of a plugin may lead.
type CallGraph<'a> = BTreeMap<&'a PluginName, Vec<&'a PluginName>>;

/// For each plugin whose requests can lead back to it, the shortest way from it to itself, as a text.
#[must_use]
pub fn call_cycles(plugins: &[VerifyResult]) -> BTreeMap<PluginName, String> {
    let manifests = plugins.iter().filter_map(|outcome| {
        let manifest: &Manifest = match outcome {
            Ok(verified) => verified.manifest(),
            Err(rejected) => rejected.manifest.as_ref()?,
        };
        Some((name_of(outcome), manifest))
    });
    let manifests: BTreeMap<_, _> = manifests.collect();
    let graph = manifests.iter().filter_map(|(name, manifest)| {
        let to: Vec<_> =
            manifest.grants.call.iter().chain(manifest.middleware.links.iter()).collect();
        (!to.is_empty()).then_some((*name, to))
    });
    let ways = cycles(graph.collect());
    ways.into_iter().map(|(name, way)| (name, described(&way, &manifests))).collect()
}

/// A way as a text: `a calls b calls a`, and with middleware `a has the middleware b, b calls a`.
fn described(way: &[PluginName], manifests: &BTreeMap<&PluginName, &Manifest>) -> String {
    let calls = |step: &[PluginName]| {
        manifests.get(&step[0]).is_some_and(|from| from.grants.call.contains(&step[1]))
    };
    if way.windows(2).all(calls) {
        return way.iter().map(PluginName::as_str).collect::<Vec<_>>().join(" calls ");
    }
    let step = |step: &[PluginName]| {
        let verb = if calls(step) { "calls" } else { "has the middleware" };
        format!("{} {verb} {}", step[0], step[1])
    };
    way.windows(2).map(step).collect::<Vec<_>>().join(", ")
}

/// Returns the mistake of a plugin in a circle, with the place in its manifest.
#[must_use]
pub fn cycle_message(verified: &Verified, way: &str) -> String {
    let manifest = verified.manifest();
    let (key, place, remedy) = match manifest.grants.origin(Grant::Call).0 {
        Some(place) => ("grants.call", Some(place), "remove one of these grants"),
        None => ("middleware", manifest.middleware.origin.0.clone(), "remove one of these"),
    };
    let place = place.unwrap_or_else(|| Position::whole(verified.path()));
    let message = format!("{key} must not lead back to the plugin itself: {way}; {remedy}");
    Diagnostic::at(place, message).to_string()
}

fn cycles(mut graph: CallGraph<'_>) -> BTreeMap<PluginName, Vec<PluginName>> {
    // Those that only call plugins outside of every circle are outside, too, and need no search.
    loop {
        let is_outside = |calls: &[&PluginName]| !calls.iter().any(|to| graph.contains_key(to));
        let outside: Vec<_> =
            graph.iter().filter(|(_, calls)| is_outside(calls)).map(|(name, _)| *name).collect();
        if outside.is_empty() {
            break;
        }
        for name in outside {
            graph.remove(name);
        }
    }
    let way_back = |name: &&PluginName| Some(((*name).clone(), way_back(&graph, name)?));
    graph.keys().filter_map(way_back).collect()
}

/// The shortest way from a plugin back to it.
fn way_back(graph: &CallGraph<'_>, name: &PluginName) -> Option<Vec<PluginName>> {
    let mut reached = BTreeSet::new();
    let mut ways = VecDeque::from([vec![name]]);
    while let Some(way) = ways.pop_front() {
        let calls = way.last().and_then(|last| graph.get(last));
        for call in calls.into_iter().flatten().copied() {
            let next: Vec<_> = way.iter().copied().chain([call]).collect();
            if call == name {
                return Some(next.into_iter().cloned().collect());
            }
            if reached.insert(call) {
                ways.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ways in `a: b c; b: a`, where a may call b and c, and b may call a.
    fn ways(calls: &str) -> Vec<String> {
        let name = |name: &str| name.trim().parse::<PluginName>().unwrap();
        let calls = calls.split(';').map(|calls| calls.split_once(':').unwrap());
        let calls: Vec<_> = calls
            .map(|(from, to)| (name(from), to.split_whitespace().map(name).collect::<Vec<_>>()))
            .collect();
        let graph = calls.iter().map(|(from, to)| (from, to.iter().collect())).collect();
        let shown =
            |way: Vec<PluginName>| way.iter().map(PluginName::as_str).collect::<Vec<_>>().join(" ");
        cycles(graph).into_values().map(shown).collect()
    }

    #[test]
    fn only_a_plugin_whose_calls_lead_back_to_it_is_in_a_circle() {
        for (calls, expected) in [
            ("a: b c; b: c", &[] as &[&str]),
            ("a: a", &["a a"]),
            ("a: b; b: a", &["a b a", "b a b"]),
            ("x: a; a: b d; b: c; c: a; d: e", &["a b c a", "b c a b", "c a b c"]),
            ("a: b; b: b a", &["a b a", "b b"]),
        ] {
            assert_eq!(ways(calls), expected, "{calls}");
        }
    }

    #[test]
    fn many_plugins_that_call_each_other_in_a_row_are_in_no_circle() {
        let row: Vec<_> = (0..500).map(|nth| format!("p{nth}: p{}", nth + 1)).collect();
        assert!(ways(&row.join("; ")).is_empty());
    }
}
