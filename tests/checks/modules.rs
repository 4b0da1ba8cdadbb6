//! Proves that the modules of each crate of the host import only downward.

mod graph;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graph::Graph;

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

#[test]
fn no_two_modules_import_each_other_in_a_circle() {
    let roots = roots();
    assert!(!roots.is_empty(), "there is no crate below host/");
    for root in roots {
        if let Some(circle) = on_disk(&root).circle() {
            panic!("the modules below {} import each other in a circle:\n{circle}", root.display());
        }
    }
}

#[test]
fn the_daemon_declares_its_floors_in_order_and_no_floor_imports_one_above() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/plugind/src/lib.rs");
    if let Some(upward) = on_disk(&root).upward() {
        panic!("imports that go the other way than the rest, in the order of lib.rs:\n{upward}");
    }
}

#[test]
fn a_circle_of_two_is_found_in_grouped_imports() {
    let graph = made_up([
        ("src/lib.rs", "pub mod pool;\nmod table;\n"),
        ("src/pool.rs", "use std::io;\nuse crate::{table::{Entry, Route as R}};\n"),
        ("src/table.rs", "use crate::pool::{self, Pool};\n"),
    ]);
    assert_eq!(
        graph.circle().as_deref(),
        Some(
            "src/pool.rs:2: crate::pool imports crate::table as crate::table::Entry\n\
             src/table.rs:1: crate::table imports crate::pool as crate::pool"
        )
    );
}

#[test]
fn a_circle_is_found_however_the_import_is_written() {
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
        assert!(graph.circle().is_some(), "not seen: {import}");
    }
}

#[test]
fn a_circle_of_three_is_named_whole() {
    let graph = made_up([
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; use crate::d::D;"),
        ("src/b.rs", "use crate::c::C;"),
        ("src/c.rs", "fn f() -> super::a::A {}"),
        ("src/d.rs", ""),
    ]);
    let circle = graph.circle().expect("a, b and c are a circle");
    assert_eq!(circle.lines().count(), 3, "{circle}");
    assert!(!circle.contains("crate::d"), "{circle}");
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
    assert!(files("mod scan; pub struct Found;").circle().is_none());
    assert!(files("mod scan; pub struct Found; pub use scan::scan;").circle().is_some());
    assert!(files("mod scan; pub struct Found; fn f() { scan::scan() }").circle().is_some());
    assert!(files("mod scan; pub struct Found; use self::scan::scan;").circle().is_some());
}

#[test]
fn a_module_is_followed_through_the_name_that_a_use_gave_it() {
    let graph = made_up([
        ("src/lib.rs", "mod plugin; mod engine;"),
        ("src/plugin.rs", "pub mod cache;"),
        ("src/plugin/cache.rs", "use crate::engine::Engine;"),
        ("src/engine.rs", "use crate::plugin as p; fn f() { p::cache::open() }"),
    ]);
    assert!(graph.has("crate::engine", "crate::plugin::cache"));
    assert!(graph.circle().is_some());
}

#[test]
fn what_only_tests_import_and_what_only_looks_alike_is_no_circle() {
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
    assert_eq!(graph.circle(), None);
}

#[test]
fn an_import_against_the_order_of_the_floors_is_found_even_where_it_closes_no_circle() {
    let files = |order| {
        made_up([
            ("src/lib.rs", order),
            ("src/daemon.rs", "use crate::pool::Pool; use crate::name::Name;"),
            ("src/pool.rs", "use crate::name::Name;"),
            ("src/name.rs", ""),
        ])
    };
    assert_eq!(files("mod daemon; mod pool; mod name;").upward(), None);
    assert_eq!(files("mod name; mod pool; mod daemon;").upward(), None);
    let upward = files("mod pool; mod daemon; mod name;").upward();
    assert_eq!(
        upward.as_deref(),
        Some("src/daemon.rs:1: crate::daemon imports crate::pool as crate::pool::Pool")
    );
}
