//! The contract of `wit/` as its readers and its generators see it.

#[path = "contract/candidates.rs"]
mod candidates;
#[path = "contract/handbook.rs"]
mod handbook;
#[path = "contract/reference.rs"]
mod reference;

use std::path::Path;
use wit_bindgen_core::{
    AsyncFilterSet, Files, WorldGenerator,
    wit_parser::{Docs, PackageId, Resolve, TypeDefKind},
};

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit).expect("wit/ parses");
    (resolve, package)
}

#[test]
fn the_package_has_the_interfaces_that_are_served_and_no_others() {
    let (resolve, package) = contract();
    let package = &resolve.packages[package];
    assert_eq!(package.name.to_string(), "plugind:plugin@0.1.0");
    let mut interfaces: Vec<_> = package.interfaces.keys().map(String::as_str).collect();
    interfaces.sort_unstable();
    assert_eq!(
        interfaces,
        [
            "blocking-connection-handler",
            "blocking-connections",
            "blocking-websocket-handler",
            "blocking-websockets",
            "connection-handler",
            "connections",
            "credentials",
            "datagram-handler",
            "handover",
            "identity",
            "journal",
            "lifecycle",
            "notify",
            "types",
            "websocket-handler",
            "websockets",
        ]
    );
}

#[test]
fn every_item_is_documented() {
    let (resolve, package) = contract();
    let mut missing = Vec::new();
    let mut check = |docs: &Docs, name: String| {
        // A sentence at least, which begins with a capital letter and ends.
        let text = docs.contents.as_deref().unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with(char::is_uppercase) || !text.trim_end().ends_with(['.', '`', ':']) {
            missing.push(name);
        }
    };
    let package = &resolve.packages[package];
    check(&package.docs, package.name.to_string());
    for (name, world) in &package.worlds {
        check(&resolve.worlds[*world].docs, format!("world {name}"));
    }
    for (name, interface) in &package.interfaces {
        let interface = &resolve.interfaces[*interface];
        check(&interface.docs, name.clone());
        for (function, it) in &interface.functions {
            check(&it.docs, format!("{name}.{function}"));
        }
        for (kind, it) in &interface.types {
            let (it, name) = (&resolve.types[*it], format!("{name}.{kind}"));
            let parts: Vec<(&String, &Docs)> = match &it.kind {
                // The parts of a type from another interface are documented there.
                TypeDefKind::Type(_) => continue,
                TypeDefKind::Enum(it) => it.cases.iter().map(|it| (&it.name, &it.docs)).collect(),
                TypeDefKind::Variant(it) => {
                    it.cases.iter().map(|it| (&it.name, &it.docs)).collect()
                }
                TypeDefKind::Record(it) => {
                    it.fields.iter().map(|it| (&it.name, &it.docs)).collect()
                }
                TypeDefKind::Flags(it) => it.flags.iter().map(|it| (&it.name, &it.docs)).collect(),
                _ => Vec::new(),
            };
            check(&it.docs, name.clone());
            for (part, docs) in parts {
                check(docs, format!("{name}.{part}"));
            }
        }
    }
    assert_eq!(missing, [""; 0], "these have no docs, or docs that are no sentence");
}

/// Generates for every world, and returns what was written as one text.
fn generated(mut generator: impl FnMut() -> Box<dyn WorldGenerator>) -> String {
    let mut text = String::new();
    let names: Vec<_> = {
        let (resolve, package) = contract();
        resolve.packages[package].worlds.keys().cloned().collect()
    };
    let expected =
        ["plugin", "stateful-plugin", "connection-plugin", "datagram-plugin", "websocket-plugin"];
    assert_eq!(names, expected);
    for name in names {
        let (mut resolve, package) = contract();
        let world = resolve.select_world(&[package], Some(&name)).expect("the world is there");
        let mut files = Files::default();
        let made = generator().generate(&mut resolve, world, &mut files);
        made.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        for (_, contents) in files.iter() {
            text.push_str(&String::from_utf8_lossy(contents));
        }
    }
    text
}

#[test]
fn bindings_for_c_generate() {
    let c = generated(|| wit_bindgen_c::Opts::default().build());
    assert!(c.contains("plugind_plugin_journal_send("), "the journal is not there");
}

#[test]
fn bindings_for_c_generate_for_toolchains_without_async() {
    let mut sync = AsyncFilterSet::default();
    sync.push("all");
    let options = wit_bindgen_c::Opts { async_: sync, ..Default::default() };
    let c = generated(|| options.build());
    assert!(c.contains("exports_plugind_plugin_lifecycle_start("), "the start is not there");
    assert!(c.contains("exports_plugind_plugin_handover_save("), "the save is not there");
    assert!(
        c.contains("bool plugind_plugin_connections_method_connection_read("),
        "the read is not there, as a function that blocks"
    );
}

#[test]
fn bindings_for_rust_generate() {
    let rust = generated(|| {
        let everything = wit_bindgen_rust::Opts { generate_all: true, ..Default::default() };
        Box::new(everything.build())
    });
    assert!(rust.contains("async fn start("), "the start is not there");
}
