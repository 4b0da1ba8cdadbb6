//! Proves the structure of the host's crates: the folders of the daemon are its layers, imports go from a layer to an
//! earlier one and never in a cycle, no two types have the same name, and no function of the pool is long.

mod definitions;
mod graph;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use definitions::{Definition, functions, types};
use graph::Graph;

/// The folders of `host/plugind/src`. Each imports only from those before it.
const LAYERS: [&str; 16] = [
    "base",
    "api",
    "config",
    "systemd",
    "runtime",
    "journal",
    "remote",
    "plugin",
    "world",
    "pool",
    "route",
    "supervisor",
    "listen",
    "metrics",
    "control",
    "daemon",
];
/// The most files beside these folders.
const TOP_FILES_MAX: usize = 6;
/// The names of the two types of each host interface in `world/`.
const PER_INTERFACE: [&str; 2] = ["Shared", "Guest"];
/// The most lines of a function in `pool/`.
const POOL_FUNCTION_MAX: usize = 60;

/// The roots of all crates below `host/`.
fn roots() -> Vec<PathBuf> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host");
    let crates = std::fs::read_dir(&host).expect("host/ lies beside tests/");
    let sources = crates.map(|entry| entry.expect("host/ can be listed").path().join("src"));
    let mut roots: Vec<_> = sources
        .flat_map(|source| [source.join("lib.rs"), source.join("main.rs")])
        .filter(|root| root.exists())
        .collect();
    roots.sort();
    roots
}

fn on_disk(root: &Path) -> Graph {
    Graph::read(root, &|path| std::fs::read_to_string(path).ok())
}

/// A crate made up of `(file, text)`.
fn made_up<const N: usize>(files: [(&str, &str); N]) -> Graph {
    let files: BTreeMap<_, _> =
        files.map(|(path, text)| (PathBuf::from(path), text.to_owned())).into();
    Graph::read(Path::new("src/lib.rs"), &|path| files.get(path).cloned())
}

fn daemon() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/plugind/src")
}

/// The name of a file or folder.
fn last(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("the name is text")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a module is text")
}

/// The types that are defined more than once, each with all its places.
fn twice(mut types: Vec<Definition>) -> Vec<String> {
    types.sort_by(|one, other| one.name.cmp(&other.name));
    let place = |found: &Definition| format!("{}:{}", found.file.display(), found.line);
    types
        .chunk_by(|one, other| one.name == other.name)
        .filter(|same| same.len() > 1)
        .map(|same| {
            format!("{}: {}", same[0].name, same.iter().map(place).collect::<Vec<_>>().join(", "))
        })
        .collect()
}

#[test]
fn the_folders_of_the_daemon_are_its_layers_and_few_files_lie_beside_them() {
    let entries = std::fs::read_dir(daemon()).expect("the daemon has sources");
    let entries = entries.map(|entry| entry.expect("the folder can be listed").path());
    let (mut folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders.sort();
    let mut layers = LAYERS.to_vec();
    layers.sort_unstable();
    assert_eq!(folders.iter().map(|path| last(path)).collect::<Vec<_>>(), layers);
    assert!(files.len() <= TOP_FILES_MAX, "more than {TOP_FILES_MAX} files: {files:?}");
}

#[test]
fn the_daemon_declares_its_layers_in_order() {
    let declared = on_disk(&daemon().join("lib.rs")).layers;
    assert_eq!(declared[..LAYERS.len()], LAYERS, "lib.rs must declare them first, in this order");
}

#[test]
fn no_layer_imports_a_later_one() {
    if let Some(upward) = on_disk(&daemon().join("lib.rs")).upward() {
        panic!("imports from a later layer, in the order of lib.rs:\n{upward}");
    }
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let roots = roots();
    assert!(!roots.is_empty(), "there is no crate below host/");
    for root in roots {
        if let Some(cycle) = on_disk(&root).cycle() {
            panic!("the files below {} import each other in a cycle:\n{cycle}", root.display());
        }
    }
}

#[test]
fn no_two_types_of_the_host_have_the_same_name() {
    let is_per_interface = |found: &Definition| {
        PER_INTERFACE.contains(&found.name.as_str())
            && found.file.parent().is_some_and(|folder| folder.ends_with("plugind/src/world"))
    };
    let mut found = Vec::new();
    for root in roots() {
        for file in on_disk(&root).files() {
            found.extend(types(file, &read(file)));
        }
    }
    assert!(found.len() > 100, "there are only {} types", found.len());
    found.retain(|found| !is_per_interface(found));
    let twice = twice(found);
    assert!(twice.is_empty(), "types with the same name:\n{}", twice.join("\n"));
}

#[test]
fn no_function_of_the_pool_is_long() {
    let graph = on_disk(&daemon().join("lib.rs"));
    let pool = daemon().join("pool");
    let files: Vec<_> = graph.files().filter(|file| file.starts_with(&pool)).collect();
    assert!(!files.is_empty(), "there is no pool");
    let functions = files.into_iter().flat_map(|file| functions(file, &read(file)));
    let long: Vec<_> = functions.filter(|function| function.lines > POOL_FUNCTION_MAX).collect();
    assert!(long.is_empty(), "longer than {POOL_FUNCTION_MAX} lines: {long:#?}");
}

#[test]
fn a_cycle_of_two_is_found_in_grouped_imports() {
    let graph = made_up([
        ("src/lib.rs", "pub mod pool;\nmod table;\n"),
        ("src/pool.rs", "use std::io;\nuse crate::{table::{Entry, Route as R}};\n"),
        ("src/table.rs", "use crate::pool::{self, Pool};\n"),
    ]);
    assert_eq!(
        graph.cycle().as_deref(),
        Some(
            "src/pool.rs:2: crate::pool imports crate::table as crate::table::Entry\n\
             src/table.rs:1: crate::table imports crate::pool as crate::pool"
        )
    );
}

#[test]
fn a_cycle_is_found_in_every_way_to_write_an_import() {
    for import in [
        "use crate::table::Entry;",
        "use crate::table;",
        "use crate::table as t;",
        "use crate::table::*;",
        "use super::table::Entry;",
        "use super::{table, other::Thing};",
        "fn f() { crate::table::get(); }",
        "fn f() { use super::table::get; }",
        "fn f(entry: &crate::table::Entry) {}",
        "impl From<super::table::Entry> for u8 {}",
        "fn f() { println!(\"{}\", crate::table::get()); }",
        "macro_rules! get { () => { $crate::table::get() } }",
        "bindgen!({ with: { \"a:b/c\": super::table::Entry } });",
        "quote! { use crate::{table::Entry, other}; }",
        "mod within { use super::super::table::Entry; }",
        "pub use crate::table::Entry;",
    ] {
        let graph = made_up([
            ("src/lib.rs", "mod table; mod other; mod pool;"),
            ("src/pool.rs", import),
            ("src/other.rs", "pub struct Thing;"),
            ("src/table.rs", "use crate::pool::Pool;"),
        ]);
        assert!(graph.cycle().is_some(), "not seen: {import}");
    }
}

#[test]
fn a_cycle_of_three_is_printed_completely() {
    let graph = made_up([
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; use crate::d::D;"),
        ("src/b.rs", "use crate::c::C;"),
        ("src/c.rs", "fn f() -> super::a::A {}"),
        ("src/d.rs", ""),
    ]);
    let cycle = graph.cycle().expect("a, b and c import each other");
    assert_eq!(cycle.lines().count(), 3, "{cycle}");
    assert!(!cycle.contains("crate::d"), "{cycle}");
}

#[test]
fn a_parent_that_only_declares_its_children_may_be_imported_by_them() {
    let files = |parent| {
        made_up([
            ("src/lib.rs", "mod plugin;"),
            ("src/plugin/mod.rs", parent),
            ("src/plugin/scan.rs", "use super::Found; pub(in crate::plugin) fn scan() {}"),
        ])
    };
    assert!(files("mod scan; pub struct Found;").cycle().is_none());
    assert!(files("mod scan; pub struct Found; pub use scan::scan;").cycle().is_some());
    assert!(files("mod scan; pub struct Found; fn f() { scan::scan() }").cycle().is_some());
    assert!(files("mod scan; pub struct Found; use self::scan::scan;").cycle().is_some());
}

#[test]
fn an_import_is_followed_through_a_renaming_use() {
    let graph = made_up([
        ("src/lib.rs", "mod plugin; mod engine;"),
        ("src/plugin.rs", "pub mod cache;"),
        ("src/plugin/cache.rs", "use crate::engine::Engine;"),
        ("src/engine.rs", "use crate::plugin as p; fn f() { p::cache::open() }"),
    ]);
    assert!(graph.has("crate::engine", "crate::plugin::cache"));
    assert!(graph.cycle().is_some());
}

#[test]
fn imports_for_tests_and_of_other_crates_close_no_cycle() {
    let graph = made_up([
        ("src/lib.rs", "mod pool; mod table; #[cfg(test)] mod tests;"),
        ("src/table.rs", "use crate::pool::Pool;"),
        (
            "src/pool.rs",
            "//! See [`crate::table`].
             #[cfg(test)] mod tests { use crate::table::Entry; }
             #[cfg(test)] use crate::table;
             use ::table::Thing;
             use other::table;
             fn f(table: u8) -> u8 { let text = \"crate::table::Entry\"; table }",
        ),
    ]);
    assert_eq!(graph.cycle(), None);
}

#[test]
fn an_import_from_a_later_layer_is_found_even_where_it_closes_no_cycle() {
    let files = |order| {
        made_up([
            ("src/lib.rs", order),
            ("src/daemon.rs", "use crate::pool::Pool; use crate::name::Name;"),
            ("src/pool.rs", "use crate::name::Name;"),
            ("src/name.rs", ""),
        ])
    };
    assert_eq!(files("mod name; mod pool; mod daemon;").upward(), None);
    let upward = files("mod name; mod daemon; mod pool;").upward();
    assert_eq!(
        upward.as_deref(),
        Some("src/daemon.rs:1: crate::daemon imports crate::pool as crate::pool::Pool")
    );
}

#[test]
fn a_type_that_is_defined_twice_is_found_with_both_places() {
    let one = types(Path::new("one.rs"), "struct A; type B = u8; mod within { enum C {} }");
    let other = types(Path::new("other.rs"), "\ntrait A {}\nfn f() { union C { a: u8 } }");
    let twice = twice([one, other].concat());
    assert_eq!(twice, ["A: one.rs:1, other.rs:2", "C: one.rs:1, other.rs:3"]);
}

#[test]
fn associated_types_and_types_for_tests_are_not_defined() {
    let text = "impl Iterator for A { type Item = u8; }
        trait T { type Error; }
        #[cfg(test)] struct B;
        #[cfg(test)] mod tests { struct C; }
        use other::D;";
    let names: Vec<_> = types(Path::new("a.rs"), text).into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["T"]);
}

#[test]
fn the_length_of_a_function_is_that_of_its_signature_and_body() {
    let text = "/// Text.\n#[must_use]\nfn a(\n) {\n}\nimpl A {\n  async fn b() {}\n}\n#[test]\nfn t() {\n}\n";
    let found = functions(Path::new("a.rs"), text);
    let lengths: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    assert_eq!(lengths, [("a", 3, 3), ("b", 7, 1), ("t", 10, 2)]);
}
