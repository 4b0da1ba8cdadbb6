//! Messages about an import that this host does not have.

use crate::{
    base::suggest::suggest,
    plugin::{
        interfaces::{CONTRACT, all_imports, find, split, track},
        other_versions,
    },
};

/// Why a component cannot be given this import; none: it can.
#[must_use]
pub fn missing(import: &str) -> Option<String> {
    if find(import).is_some() {
        return None;
    }
    let (name, version) = split(import);
    if let Some(known) = all_imports().find(|known| known.name == name) {
        return Some(other_versions::message(import, known.versions()));
    }
    if name.starts_with("plugind:plugin/") {
        return Some(match track(version) == CONTRACT {
            true => format!(
                "{import}, which this host does not know; use a newer plugind, or leave it out"
            ),
            false => format!(
                "{import}, and this host speaks plugind:plugin@{CONTRACT}; rebuild it against the WIT files \
                 of plugind, as in /usr/share/plugind/wit"
            ),
        });
    }
    Some(match misspelled(name) {
        Some(known) => {
            format!("{import}, which this host does not have; the nearest that it has is {known}")
        }
        None => format!(
            "{import}, which this host does not have; build it without, or compose it with a component that exports \
             it, as with `wac plug`"
        ),
    })
}

/// The import that was probably meant: another interface of the same package, or the same one of another package, with
/// a name that differs by a typing error. Anything else would be a guess.
fn misspelled(import: &str) -> Option<&'static str> {
    let (package, interface) = import.split_once('/')?;
    let (namespace, package_name) = package.split_once(':')?;
    let known = || all_imports().filter_map(|known| Some((known, known.name.split_once('/')?)));
    let interfaces = known().filter(|(_, (of, _))| *of == package).map(|(_, (_, name))| name);
    if let Some(meant) = suggest(interface, interfaces) {
        return known().find(|(_, name)| *name == (package, meant)).map(|(known, _)| known.name);
    }
    let packages = known().filter(|(_, (_, name))| *name == interface);
    let same_namespace = packages.filter_map(|(known, (of, _))| {
        let (other, name) = of.split_once(':')?;
        (other == namespace).then_some((known.name, name))
    });
    let same_namespace: Vec<_> = same_namespace.collect();
    let meant = suggest(package_name, same_namespace.iter().map(|(_, name)| *name))?;
    same_namespace.iter().find(|(_, name)| *name == meant).map(|(known, _)| *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_import_is_reported_with_a_remedy() {
        for (import, part) in [
            ("wasi:io/pol@0.2.6", "the nearest that it has is wasi:io/poll"),
            ("wasi:http/types@0.1.0", "has wasi:http/types@0.2 and wasi:http/types@0.3"),
            ("wasi:http/types@0.3.0-rc-2026-02-09", "wasi:http/types@0.3; rebuild it against that"),
            ("wasi:config/store@0.2.0-draft-2023-11-01", "as with wit/deps/config of plugind"),
            ("wasi:logging/logging", "has wasi:logging/logging@0.1.0-draft"),
            ("plugind:plugin/journal@0.2.0", "has plugind:plugin/journal@0.1"),
            ("plugind:plugin/undertow@0.2.0", "speaks plugind:plugin@0.1"),
            ("plugind:plugin/undertow@0.1.0", "use a newer plugind"),
            ("acme:database/query@1.0.0", "wac plug"),
            ("log", "which this host does not have"),
        ] {
            let reported = missing(import).unwrap();
            assert!(reported.starts_with(import) && reported.contains(part), "{reported}");
        }
        assert_eq!(missing("wasi:io/poll@0.2.99"), None);
    }

    #[test]
    fn an_import_is_suggested_only_if_it_differs_by_a_typing_error() {
        for (import, meant) in [
            ("wasi:clocks/wal-clock", Some("wasi:clocks/wall-clock")),
            ("wasi:clock/wall-clock", Some("wasi:clocks/wall-clock")),
            ("wasi:cli/stdot", Some("wasi:cli/stdout")),
            ("wasi:keyvalue/watcher", None),
            ("wasi:blobstore/container", None),
            ("wasi:blobstore/types", None),
            ("wasi:http/server", None),
            ("wasi:tls/types", None),
            ("wasi:nn/errors", None),
            ("wasi:nn/error", None),
            ("wasi:messaging/producers", Some("wasi:messaging/producer")),
            ("acme:io/poll", None),
            ("poll", None),
            ("", None),
        ] {
            assert_eq!(misspelled(import), meant, "{import}");
        }
    }
}
