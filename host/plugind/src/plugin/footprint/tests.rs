//! The shares of the pool that components take.

use super::*;
use crate::plugin::{contents::Contents, inspect_error::InspectError};
use std::fmt::Write as _;

fn footprint(text: &str) -> Result<Footprint, InspectError> {
    let bytes = wat::parse_str(text).unwrap();
    Contents::read(&bytes).map(|contents| contents.footprint)
}

fn error(text: &str) -> FootprintError {
    match footprint(text) {
        Err(InspectError::Footprint(error)) => error,
        Ok(footprint) => footprint.check(&ComponentLimits::DEFAULT).unwrap_err(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_instantiation_counts_with_all_that_its_modules_define() {
    let footprint = footprint(
        "(component
            (component $inner
                (core module $m (memory 2) (memory 1) (table 10 funcref))
                (core instance (instantiate $m))
                (core instance (instantiate $m)))
            (core module $small (memory 1))
            (core instance (instantiate $small))
            (component (instance (instantiate $inner)))
            (instance (instantiate $inner))
            (instance (instantiate $inner)))",
    );
    let expected = Footprint {
        core_instances: 5,
        memories: 9,
        tables: 4,
        memory: Bytes(13 << 16),
        table_elements: 40,
        largest_memory: Bytes(2 << 16),
        largest_table: 10,
    };
    assert_eq!(footprint.unwrap(), expected, "one component is defined and never instantiated");
    assert_eq!(expected.bytes(), Bytes((13 << 16) + 320));
}

#[test]
fn arguments_and_outer_definitions_count_where_they_are_instantiated() {
    let footprint = footprint(
        "(component $root
            (core module $m (memory 1))
            (component $runs
                (import \"m\" (core module $given))
                (core instance (instantiate $given))
                (export \"again\" (core module $given)))
            (component $twice
                (import \"c\" (component $given (import \"m\" (core module))))
                (component $deeper
                    (core instance (instantiate $m)))
                (instance (instantiate $given (with \"m\" (core module $m))))
                (instance (instantiate $deeper)))
            (instance $one (instantiate $runs (with \"m\" (core module $m))))
            (alias export $one \"again\" (core module $again))
            (core instance (instantiate $again))
            (instance (instantiate $twice (with \"c\" (component $runs)))))",
    );
    let footprint = footprint.unwrap();
    assert_eq!((footprint.core_instances, footprint.memories), (4, 4));
}

#[test]
fn a_small_file_that_means_millions_of_instances_is_given_up() {
    for leaf in ["(core module $m) (core instance (instantiate $m))", ""] {
        let mut text = format!("(component (component $c0 {leaf})");
        for level in 1..=24 {
            let inner = format!("(instance (instantiate $c{}))", level - 1);
            write!(text, "(component $c{level} {inner} {inner})").unwrap();
        }
        text.push_str("(instance (instantiate $c24)))");
        assert_eq!(error(&text), FootprintError::TooManySteps, "{leaf}");
    }
}

#[test]
fn a_long_chain_of_instantiations_is_given_up() {
    let mut text = "(component (component $c0)".to_owned();
    for level in 1..=200 {
        write!(text, "(component $c{level} (instance (instantiate $c{})))", level - 1).unwrap();
    }
    text.push_str("(instance (instantiate $c200)))");
    assert_eq!(error(&text), FootprintError::Chain);
}

#[test]
fn more_than_the_pool_has_is_refused_with_the_number_and_the_limit() {
    let modules = |count: usize| "(core instance (instantiate $m))".repeat(count);
    for (text, part) in [
        (
            format!("(component (core module $m) {})", modules(201)),
            "201 instances of core modules; one component may have at most 200; raise pool.component-core-instances in \
             plugind.toml, which can be at most 5000,",
        ),
        (
            format!("(component (core module $m {}) {})", "(memory 0)".repeat(17), modules(3)),
            "51 linear memories; one component may have at most 50; raise pool.component-memories in plugind.toml,",
        ),
        (
            format!(
                "(component (core module $m {}) {})",
                "(table 0 funcref)".repeat(67),
                modules(3)
            ),
            "201 tables; one component may have at most 200; raise pool.component-tables in plugind.toml,",
        ),
        (
            format!("(component (core module $m (table 200001 funcref)) {})", modules(1)),
            "a table that begins with 200001 elements; one table may have at most 200000; raise pool.table-elements in \
             plugind.toml,",
        ),
        (
            format!("(component (core module $m (memory i64 65537)) {})", modules(1)),
            "a memory that begins with 4194368K; one memory may have at most 4G",
        ),
    ] {
        let error = error(&text).to_string();
        assert!(error.starts_with(part), "{error}");
        let raised = footprint(&text).unwrap().check(&ComponentLimits::MAX);
        assert_eq!(raised.is_ok(), error.contains("raise pool."), "{raised:?}");
    }
    // What no setting permits is not said to be one.
    for text in [
        format!("(component (core module $m {}) {})", "(memory 0)".repeat(51), modules(10)),
        format!("(component (core module $m (table 10000001 funcref)) {})", modules(1)),
    ] {
        let error = error(&text).to_string();
        assert!(!error.contains("raise pool."), "{error}");
    }
    for text in [
        format!("(component (core module $m) {})", modules(200)),
        format!("(component (core module $m {}) {})", "(memory 0)".repeat(50), modules(1)),
        format!("(component (core module $m (table 200000 funcref)) {})", modules(1)),
        format!("(component (core module $m (memory 65536)) {})", modules(1)),
    ] {
        let checked = footprint(&text).unwrap().check(&ComponentLimits::DEFAULT);
        assert!(checked.is_ok(), "{text}");
    }
}
