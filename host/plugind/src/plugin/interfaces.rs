//! The interfaces that this host has for plugins, a row each: what is imported, in which versions, and by which grant.
//!
//! The other half of the table, in `world/interfaces.rs`, links each of them.

use plugind_artifact::candidate::CANDIDATE;

/// The versions of `plugind:plugin` that this host speaks.
pub const CONTRACT: &str = "0.1";

const P2: &[&str] = &["0.2"];
const P3: &[&str] = &["0.3"];
const WASI: &[&str] = &["0.2", "0.3"];
const KEYVALUE: &[&str] = &["0.2.0-draft2"];
const CONFIG: &[&str] = &["0.2.0-rc.1", "0.2.0-draft-2024-09-27"];
/// A draft whose types are those of the release candidate.
pub const CONFIG_DRAFT: &str = CONFIG[1];
const MESSAGING: &[&str] = &["0.2.0-draft"];
const OURS: &[&str] = &[CONTRACT];

/// Declares [`Interface`] by its rows: a variant, and what is imported.
macro_rules! interfaces {
    ($($(#[$about:meta])* $variant:ident: [$($import:expr,)*];)*) => {
        /// A group of interfaces that a guest may import from the host.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Interface { $($(#[$about])* $variant,)* }

        impl Interface {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The imported interfaces. Those of WASI 0.3 that only define types are missing: no host has to provide
            /// them.
            #[must_use]
            pub const fn imports(self) -> &'static [Import] {
                match self {
                    $(Self::$variant => const { &[$($import,)*] },)*
                }
            }
        }
    };
}

/// Declares [`Grant`] by its rows: a variant, the key, and a value as an example.
macro_rules! grants {
    ($($(#[$about:meta])* $variant:ident: $key:literal = $example:literal;)*) => {
        /// A key of `[grants]` in a manifest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Grant { $($(#[$about])* $variant,)* }

        impl Grant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The key in the manifest.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => $key,)*
                }
            }

            /// A line of a manifest that grants something by it.
            #[must_use]
            pub const fn example(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($key, " = ", $example),)*
                }
            }
        }
    };
}

interfaces! {
    /// `wasi:cli`
    Cli: [
        refuses("wasi:cli/environment", WASI, &[Grant::Environment]),
        free("wasi:cli/exit", WASI),
        free("wasi:cli/stderr", WASI),
        free("wasi:cli/stdin", WASI),
        free("wasi:cli/stdout", WASI),
        free("wasi:cli/terminal-input", WASI),
        free("wasi:cli/terminal-output", WASI),
        free("wasi:cli/terminal-stderr", WASI),
        free("wasi:cli/terminal-stdin", WASI),
        free("wasi:cli/terminal-stdout", WASI),
    ];
    /// `wasi:clocks`
    Clocks: [
        free("wasi:clocks/monotonic-clock", WASI),
        free("wasi:clocks/system-clock", P3),
        free("wasi:clocks/wall-clock", P2),
    ];
    /// `wasi:config`
    Config: [
        free("wasi:config/store", CONFIG),
    ];
    /// `wasi:filesystem`
    Filesystem: [
        refuses("wasi:filesystem/preopens", WASI, &[Grant::Read, Grant::State]),
        free("wasi:filesystem/types", WASI),
    ];
    /// `wasi:http`, as a client and as middleware
    Http: [
        refuses("wasi:http/client", P3, &[Grant::OutgoingHttp, Grant::Call]),
        free("wasi:http/handler", P3),
        refuses("wasi:http/outgoing-handler", P2, &[Grant::OutgoingHttp, Grant::Call]),
        free("wasi:http/types", WASI),
    ];
    /// `wasi:io`
    Io: [
        free("wasi:io/error", P2),
        free("wasi:io/poll", P2),
        free("wasi:io/streams", P2),
    ];
    /// `wasi:keyvalue`
    KeyValue: [
        granted("wasi:keyvalue/atomics", KEYVALUE, &[Grant::KeyValue]),
        granted("wasi:keyvalue/batch", KEYVALUE, &[Grant::KeyValue]),
        granted("wasi:keyvalue/store", KEYVALUE, &[Grant::KeyValue]),
    ];
    /// `wasi:logging`
    Logging: [
        free("wasi:logging/logging", &["0.1.0-draft"]),
    ];
    /// `wasi:messaging`
    Messaging: [
        granted("wasi:messaging/producer", MESSAGING, &[Grant::Publish]),
        refuses("wasi:messaging/request-reply", MESSAGING, &[Grant::Publish]),
        refuses("wasi:messaging/types", MESSAGING, &[Grant::Publish]),
    ];
    /// `wasi:random`
    Random: [
        free("wasi:random/insecure", WASI),
        free("wasi:random/insecure-seed", WASI),
        free("wasi:random/random", WASI),
    ];
    /// `wasi:sockets`
    Sockets: [
        free("wasi:sockets/instance-network", P2),
        free("wasi:sockets/ip-name-lookup", WASI),
        free("wasi:sockets/network", P2),
        refuses("wasi:sockets/tcp", P2, &[Grant::TcpConnect]),
        free("wasi:sockets/tcp-create-socket", P2),
        refuses("wasi:sockets/types", P3, &[Grant::TcpConnect]),
        free("wasi:sockets/udp", P2),
        free("wasi:sockets/udp-create-socket", P2),
    ];
    /// `plugind:plugin/credentials`
    Credentials: [
        granted("plugind:plugin/credentials", OURS, &[Grant::Credentials]),
    ];
    /// `plugind:plugin/connections` and `plugind:plugin/blocking-connections`
    Connections: [
        free("plugind:plugin/blocking-connections", OURS),
        free("plugind:plugin/connections", OURS),
    ];
    /// `plugind:plugin/identity`
    Identity: [
        free("plugind:plugin/identity", OURS),
    ];
    /// `plugind:plugin/journal`
    Journal: [
        free("plugind:plugin/journal", OURS),
    ];
    /// `plugind:plugin/notify`
    Notify: [
        free("plugind:plugin/notify", OURS),
    ];
    /// `plugind:plugin/websockets` and `plugind:plugin/blocking-websockets`
    WebSockets: [
        free("plugind:plugin/blocking-websockets", OURS),
        free("plugind:plugin/websockets", OURS),
    ];
}

grants! {
    /// Environment variables.
    Environment: "environment" = "{ NAME = \"…\" }";
    /// Directories to read.
    Read: "read" = "[\"/…\"]";
    /// A directory of the plugin's own.
    State: "state" = "true";
    /// Key-value stores.
    KeyValue: "keyvalue" = "{ quota = \"64M\" }";
    /// Secrets.
    Credentials: "credentials" = "[\"…\"]";
    /// HTTP requests.
    OutgoingHttp: "outgoing-http" = "[\"HOST:PORT\"]";
    /// Requests to other plugins.
    Call: "call" = "[\"PLUGIN\"]";
    /// Messages.
    Publish: "publish" = "[\"SUBJECT\"]";
    /// TCP connections.
    TcpConnect: "tcp-connect" = "[\"HOST:PORT\"]";
}

/// One import.
#[derive(Debug)]
pub struct Import {
    /// Its name without a version.
    pub name: &'static str,
    /// The parts of its versions that must be equal: `0.2`, or the whole version of a draft.
    pub tracks: &'static [&'static str],
    /// The plugins that may import and use it.
    pub access: Access,
}

/// The plugins that may import and use an interface.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Every plugin.
    Free,
    /// Every plugin may import it, since many toolchains do so unasked; it refuses what one of these does not grant.
    Refuses(&'static [Grant]),
    /// Only a plugin with one of these may import it.
    Granted(&'static [Grant]),
}

const fn free(name: &'static str, tracks: &'static [&'static str]) -> Import {
    Import { name, tracks, access: Access::Free }
}

const fn refuses(
    name: &'static str,
    tracks: &'static [&'static str],
    grants: &'static [Grant],
) -> Import {
    Import { name, tracks, access: Access::Refuses(grants) }
}

const fn granted(
    name: &'static str,
    tracks: &'static [&'static str],
    grants: &'static [Grant],
) -> Import {
    Import { name, tracks, access: Access::Granted(grants) }
}

impl Grant {
    /// The imports through which a plugin uses it.
    pub fn imports(self) -> impl Iterator<Item = &'static Import> {
        all_imports().filter(move |import| import.access.grants().contains(&self))
    }
}

impl Access {
    /// The grants that it depends on.
    #[must_use]
    pub const fn grants(self) -> &'static [Grant] {
        match self {
            Self::Free => &[],
            Self::Refuses(grants) | Self::Granted(grants) => grants,
        }
    }
}

impl Import {
    /// Returns its name in each of its versions.
    pub fn versions(&self) -> impl Iterator<Item = String> {
        self.tracks.iter().map(|track| format!("{}@{track}", self.name))
    }
}

/// All imports that the host has.
pub fn all_imports() -> impl Iterator<Item = &'static Import> {
    Interface::ALL.iter().flat_map(|interface| interface.imports())
}

/// The import of this name, if the host has it in this version.
#[must_use]
pub fn find(name: &str) -> Option<&'static Import> {
    let (name, version) = split(name);
    all_imports().find(|import| import.name == name && import.tracks.contains(&track(version)))
}

/// The name and the version of an import, which may be empty.
pub(super) fn split(import: &str) -> (&str, &str) {
    import.split_once('@').unwrap_or((import, ""))
}

/// The part that compatible versions have in common: `0.2` of 0.2.6, and the whole version of drafts. The release
/// candidate that is served as the release counts as one.
pub(super) fn track(version: &str) -> &str {
    if version.contains('-') && version != CANDIDATE {
        return version;
    }
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(dot, _)| dot);
    &version[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_import_has_two_rows_and_every_grant_has_an_import() {
        let names: BTreeSet<_> = all_imports().map(|import| import.name).collect();
        assert_eq!(names.len(), all_imports().count());
        let keys: BTreeSet<_> = Grant::ALL.iter().map(|grant| grant.key()).collect();
        assert_eq!(keys.len(), Grant::ALL.len());
        for grant in Grant::ALL {
            assert!(grant.imports().next().is_some(), "{grant:?} is of no use");
        }
    }

    #[test]
    fn an_import_is_found_in_its_versions_and_no_others() {
        for name in [
            "wasi:io/poll@0.2.99",
            "wasi:http/types@0.3.0",
            "wasi:http/types@0.3.0-rc-2026-03-15",
            "wasi:config/store@0.2.0-draft-2024-09-27",
            "wasi:logging/logging@0.1.0-draft",
            "plugind:plugin/journal@0.1.7",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in [
            "wasi:io/poll@0.3.0",
            "wasi:http/types@0.3.0-rc-2025-09-16",
            "wasi:logging/logging@0.1.0",
            "wasi:logging/logging",
            "plugind:plugin/journal@0.2.0",
            "wasi:io/pol@0.2.0",
            "",
        ] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
