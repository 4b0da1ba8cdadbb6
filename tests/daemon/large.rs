//! Components as large as some languages make them are served, and larger ones are refused with the limit.

use plugind_tests::{Daemon, Tree};
use std::{fmt::Write, fs, thread, time::Duration};

/// A background program that succeeds if the last of the `functions` in its table returns its own number. It has so
/// many core `instances`, and `bytes` of data.
fn component(functions: u32, instances: u32, bytes: usize) -> Vec<u8> {
    with_table(functions, functions, instances, bytes)
}

/// The same with a table that has more `elements` than functions.
fn with_table(elements: u32, functions: u32, instances: u32, bytes: usize) -> Vec<u8> {
    let mut text = format!(
        "(component (core module $code (type $number (func (result i32))) (table {elements} funcref)
         (func (export \"run\") (result i32)
           (i32.ne (call_indirect (type $number) (i32.const {last})) (i32.const {last})))
         (data \"{data}\") (elem (i32.const 0) func",
        last = functions - 1,
        data = "d".repeat(bytes),
    );
    for number in 1..=functions {
        write!(text, " {number}").unwrap();
    }
    text.push_str(")\n");
    for number in 0..functions {
        writeln!(text, "(func (type $number) i32.const {number})").unwrap();
    }
    text.push_str(") (core module $small) (core instance $code (instantiate $code))\n");
    for _ in 1..instances {
        text.push_str("(core instance (instantiate $small))\n");
    }
    text.push_str(
        "(func $run (result (result)) (canon lift (core func $code \"run\")))
         (instance $cli (export \"run\" (func $run))) (export \"wasi:cli/run@0.2.0\" (instance $cli)))",
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_component_of_60_mb_with_35_000_functions_and_100_instances_runs() {
    let tree = Tree::new();
    tree.put("large.wasm", component(35_000, 100, 60_000_000));
    let daemon = Daemon::begin(&tree, &[]);
    // On a busy machine, compiling takes longer than anything else is waited for.
    while daemon.log.count(&["plugin=large", "result=success"]) == 0 {
        assert_eq!(daemon.log.count(&["plugind: startup failed"]), 0);
        thread::sleep(Duration::from_millis(50));
    }
    daemon.log.wait_for(&["plugind: ready plugins=1 failed=0"]);
}

#[test]
fn a_component_whose_instances_do_not_all_fit_the_pool_names_its_setting() {
    let tree = Tree::new();
    tree.put("many.wasm", component(1, 150, 0));
    tree.put("many.toml", "[instances]\nmax = 100\n");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&[
        "warning plugind: instances.max reduced plugin=many",
        "an instance takes 150 of 8000 core-instances; raise pool.core-instances in plugind.toml",
    ]);
    daemon.log.wait_for(&["background program finished", "plugin=many", "result=success"]);
}

#[test]
fn the_settings_that_a_refusal_names_make_room_for_the_component() {
    let tree = Tree::new();
    tree.put("large.wasm", with_table(200_001, 1, 201, 0));
    tree.put("large.toml", "required = false\n[limits]\nmemory-max = \"1G\"\n");
    let refused = |settings: &str, part: &str| {
        let path = tree.root().join("etc/plugind/plugind.toml");
        fs::write(path, format!("[pool]\n{settings}")).unwrap();
        let daemon = Daemon::start(&tree);
        daemon.log.wait_for(&["plugin failed plugin=large stage=verify", part]);
    };
    let cores = "component-core-instances = 201\n";
    refused("", "at most 200; raise pool.component-core-instances in plugind.toml, which can be");
    refused(cores, "at most 200000; raise pool.table-elements in plugind.toml, which can be");
    let path = tree.root().join("etc/plugind/plugind.toml");
    fs::write(path, format!("[pool]\n{cores}table-elements = 200001\n")).unwrap();
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&["background program finished", "plugin=large", "result=success"]);
    assert_eq!(daemon.log.count(&["instance pool unavailable"]), 0);
}

#[test]
fn the_largest_pool_that_can_be_set_is_laid_out() {
    let most = "[pool]\ncomponent-core-instances = 5000\ncomponent-memories = 500\n\
                component-tables = 5000\ntable-elements = 10000000\n";
    let daemon = Daemon::start(&Tree::new().with("hello").with_settings(most));
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.log.count(&["instance pool unavailable"]), 0);
}

#[test]
fn a_component_with_more_core_instances_than_one_may_have_is_refused_with_the_limit() {
    let tree = Tree::new();
    tree.put("many.wasm", component(1, 201, 0));
    tree.put("many.toml", "required = false\n");
    let daemon = Daemon::start(&tree);
    daemon.log.wait_for(&[
        "plugin failed plugin=many stage=verify",
        "201 instances of core modules; one component may have at most 200",
    ]);
}
