//! The release candidate and the draft that the host serves have the types of the versions that it serves them as.

use std::{collections::BTreeMap, path::Path};
use wit_bindgen_core::wit_parser::{PackageId, Resolve};
use wit_component::WitPrinter;

/// The text of each interface of the packages below a directory, without comments and without versions.
fn interfaces(directory: &str, versions: &[&str]) -> BTreeMap<String, String> {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    resolve.push_dir(path).expect("the directory parses");
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    packages.into_iter().flat_map(|package| of_package(&resolve, package, versions)).collect()
}

fn of_package(
    resolve: &Resolve,
    package: PackageId,
    versions: &[&str],
) -> BTreeMap<String, String> {
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    printer.print(resolve, package, &[]).expect("it was parsed");
    let text = printer.output.to_string();
    let name = &resolve.packages[package].name;
    let (mut found, mut current) = (BTreeMap::new(), None);
    for line in text.lines() {
        if let Some(interface) =
            line.strip_prefix("interface ").and_then(|it| it.strip_suffix(" {"))
        {
            current = Some(format!("{}:{}/{interface}", name.namespace, name.name));
        } else if line == "}" {
            current = None;
        } else if let Some(interface) = &current
            // The version from which there is an item, and whether it was settled then.
            && !line.trim_start().starts_with('@')
        {
            let line = versions.iter().fold(line.to_owned(), |it, version| it.replace(version, ""));
            let text: &mut String = found.entry(interface.clone()).or_default();
            text.push_str(&line);
            text.push('\n');
        }
    }
    found
}

/// Compares each interface of the older packages, and returns their names.
fn compare(older: &str, newer: &str, versions: &[&str]) -> Vec<String> {
    let (older, newer) = (interfaces(older, versions), interfaces(newer, versions));
    for (name, text) in &older {
        let released = newer.get(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!(text, released, "{name}");
    }
    older.into_keys().collect()
}

#[test]
fn each_interface_of_the_release_candidate_has_the_types_of_the_release() {
    let versions = ["@0.3.0-rc-2026-03-15", "@0.3.0"];
    let names = compare("wit/candidate", "../wit", &versions);
    assert!(names.len() > 20, "{names:?}");
    for name in ["wasi:http/types", "wasi:http/client", "wasi:http/handler", "wasi:cli/run"] {
        assert!(names.iter().any(|it| it == name), "{name} is not among {names:?}");
    }
}

#[test]
fn the_draft_of_wasi_config_has_the_types_of_its_release_candidate() {
    let versions = ["@0.2.0-draft-2024-09-27", "@0.2.0-rc.1"];
    let names = compare("wit/config-draft", "../wit/deps/config", &versions);
    assert_eq!(names, ["wasi:config/store"]);
}
