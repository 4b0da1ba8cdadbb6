//! Messages about interfaces that this host has in other versions than those of a component.

use crate::plugin::{
    interface_types::INTERFACES,
    interfaces::{split, track},
};

/// The packages of which drafts are served, by their places in `wit/deps`.
const DRAFTS: [&str; 4] = ["config", "keyvalue", "logging.wit", "messaging"];
/// The beginning of the versions of release candidates, and the toolchains that build against the release.
const CANDIDATES: [(&str, &str); 2] = [
    (
        "0.3.0-rc",
        "is built against a release candidate of WASI 0.3, so use a newer toolchain: in Rust the crate wasip3 0.7 or \
         later, in JavaScript componentize-qjs 0.4.5 or later, in Python componentize-py 0.25.1 or later, in Go \
         componentize-go (its 0.3.0-rc-2026-03-15 is served, too), in other languages the WIT of `pluginctl new`",
    ),
    (
        "0.2.0-rc",
        "is built against a release candidate of WASI 0.2, so use a newer toolchain: in Rust the target \
         wasm32-wasip2, in other languages the WIT of `pluginctl new`",
    ),
];

/// The message about an import or an export with this name, of which the host has these versions.
pub(super) fn message(name: &str, versions: impl Iterator<Item = String>) -> String {
    let has = versions.collect::<Vec<_>>().join(" and ");
    let with = draft(name).map(|place| format!(", as with wit/deps/{place} of plugind"));
    let with = with.unwrap_or_default();
    format!("{name}, of which this host has {has}; rebuild it against that{with}")
}

/// The place of the served draft, for an interface of another draft of the same package.
fn draft(name: &str) -> Option<&'static str> {
    let (interface, version) = split(name);
    let package = interface.strip_prefix("wasi:")?.split_once('/')?.0;
    let is_place = |place: &&str| place.trim_end_matches(".wit") == package;
    DRAFTS.into_iter().find(is_place).filter(|_| version.contains("-draft"))
}

/// The message about an export that the host would call in another version.
pub(super) fn of_export(name: &str) -> Option<String> {
    let (interface, version) = split(name);
    let known = || INTERFACES.iter().filter(move |known| known.name == interface);
    if interface.starts_with("plugind:plugin/")
        || known().any(|known| known.versions == track(version))
    {
        return None;
    }
    let versions = known().map(|known| format!("{interface}@{}", known.versions));
    let versions: Vec<_> = versions.collect();
    (!versions.is_empty()).then(|| message(name, versions.into_iter()))
}

/// The message about the toolchain of a component with these imports and exports, if it builds against a release
/// candidate.
pub(super) fn toolchain<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'static str> {
    let versions: Vec<_> = names.map(|name| split(name)).collect();
    let is_of = |candidate: &str| {
        let is = |(interface, version): &(&str, &str)| {
            interface.starts_with("wasi:")
                && version.starts_with(candidate)
                && track(version) == *version
        };
        versions.iter().any(is)
    };
    CANDIDATES.iter().find(|(candidate, _)| is_of(candidate)).map(|(_, message)| *message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_another_version_is_reported_with_the_served_ones() {
        for (export, has) in [
            ("wasi:http/handler@0.3.0-rc-2025-09-16", Some("wasi:http/handler@0.3")),
            (
                "wasi:http/incoming-handler@0.2.0-rc-2023-12-05",
                Some("wasi:http/incoming-handler@0.2"),
            ),
            ("wasi:cli/run@0.4.0", Some("wasi:cli/run@0.2 and wasi:cli/run@0.3")),
            (
                "wasi:messaging/incoming-handler@0.2.0-draft2",
                Some("wasi:messaging/incoming-handler@0.2.0-draft"),
            ),
            ("wasi:http/handler@0.3.0-rc-2026-03-15", None),
            ("wasi:http/incoming-handler@0.2.6", None),
            ("wasi:http/types@0.2.6", None),
            ("acme:http/handler@0.1.0", None),
            ("run", None),
        ] {
            let reported = of_export(export);
            assert_eq!(reported.is_some(), has.is_some(), "{export}: {reported:?}");
            if let (Some(reported), Some(has)) = (reported, has) {
                let start = format!("{export}, of which this host has {has}; rebuild it");
                assert!(reported.starts_with(&start), "{reported}");
            }
        }
    }

    #[test]
    fn the_toolchain_is_named_for_release_candidates_that_are_not_served() {
        let named = |name: &str| toolchain([name.to_owned()].iter());
        for (name, part) in [
            ("wasi:http/types@0.3.0-rc-2025-09-16", "the crate wasip3 0.7"),
            ("wasi:cli/run@0.2.0-rc-2023-12-05", "the target wasm32-wasip2"),
        ] {
            assert!(named(name).is_some_and(|message| message.contains(part)), "{name}");
        }
        for name in
            ["wasi:http/types@0.3.0-rc-2026-03-15", "acme:a/b@0.3.0-rc-1", "wasi:cli/run@0.4.0"]
        {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn the_named_toolchains_are_those_of_the_templates() {
        let (_, message) = CANDIDATES[0];
        for (template, before) in [
            (
                include_str!("../../../../plugins/templates/js/common/package.json"),
                "componentize-qjs\": \"^",
            ),
            (
                include_str!("../../../../plugins/templates/python/common/requirements.txt"),
                "componentize-py==",
            ),
        ] {
            let version = template.split(before).nth(1).unwrap();
            let version: String =
                version.chars().take_while(|it| matches!(it, '0'..='9' | '.')).collect();
            let name = before.split(['"', '=']).next().unwrap();
            assert!(message.contains(&format!("{name} {version}")), "{name} {version}");
        }
    }
}
