//! What a component may import: the interfaces that this host has, and what to say of the others.

use crate::base::suggest::nearest;

/// The versions of `plugind:plugin` that this host speaks.
pub const CONTRACT: &str = "0.1";

/// The interfaces of WASI 0.2.
const P2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];
/// The interfaces of WASI 0.3, but those that are types alone.
const P3: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];
/// The interfaces of drafts, which count in this very version only.
const DRAFTS: &[&str] = &["wasi:config/store"];
/// The interfaces of the contract of `wit/`.
const OURS: &[&str] = &[
    "plugind:plugin/credentials",
    "plugind:plugin/identity",
    "plugind:plugin/journal",
    "plugind:plugin/notify",
];

/// Each version that the host has, with its interfaces.
pub const KNOWN: [(&str, &[&str]); 4] =
    [("0.2", P2), ("0.3", P3), ("0.2.0-rc.1", DRAFTS), (CONTRACT, OURS)];

/// Why a component cannot be given this import; none: it can.
#[must_use]
pub fn missing(import: &str) -> Option<String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let versions = || KNOWN.iter().filter(|(_, known)| known.contains(&interface));
    if versions().any(|(known, _)| *known == track(version)) {
        return None;
    }
    let has: Vec<_> = versions().map(|(known, _)| format!("{interface}@{known}")).collect();
    if !has.is_empty() {
        return Some(format!(
            "{import}, of which this host has {}; rebuild it against that",
            has.join(" and ")
        ));
    }
    if interface.starts_with("plugind:plugin/") {
        return Some(match track(version) == CONTRACT {
            true => format!(
                "{import}, which this host does not know; use a newer plugind, or leave it out"
            ),
            false => format!(
                "{import}, and this host speaks plugind:plugin@{CONTRACT}; rebuild it against the host's wit/"
            ),
        });
    }
    let all = KNOWN.iter().flat_map(|(_, known)| known.iter().copied());
    Some(match nearest(interface, all).filter(|nearest| same_package(nearest, interface)) {
        Some(nearest) => {
            format!("{import}, which this host does not have; the nearest that it has is {nearest}")
        }
        None => format!(
            "{import}, which this host does not have; build it without, or compose it with a component that exports \
             it, as with `wac plug`"
        ),
    })
}

/// What versions must have in common to be used for each other: `0.2` of 0.2.6, and of drafts all of it.
fn track(version: &str) -> &str {
    if version.contains('-') {
        return version;
    }
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(dot, _)| dot);
    &version[..end]
}

/// Anything else would be a guess that leads nowhere.
fn same_package(one: &str, other: &str) -> bool {
    let namespace = |name: &str| name.split(['/', ':']).next().map(str::to_owned);
    namespace(one) == namespace(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_the_nearest_there_is() {
        for (import, part) in [
            ("wasi:io/pol@0.2.6", "the nearest that it has is wasi:io/poll"),
            ("wasi:http/types@0.1.0", "has wasi:http/types@0.2 and wasi:http/types@0.3"),
            ("wasi:http/types@0.3.0-rc-2025-09-16", "rebuild it against that"),
            ("plugind:plugin/journal@0.2.0", "has plugind:plugin/journal@0.1"),
            ("plugind:plugin/undertow@0.2.0", "speaks plugind:plugin@0.1"),
            ("plugind:plugin/undertow@0.1.0", "use a newer plugind"),
            ("acme:database/query@1.0.0", "wac plug"),
            ("log", "which this host does not have"),
        ] {
            let told = missing(import).unwrap();
            assert!(told.starts_with(import) && told.contains(part), "{told}");
        }
        assert_eq!(missing("wasi:io/poll@0.2.99"), None);
    }
}
