//! `[pool]`: the limits of the instance pool, and of one component in it.

use crate::{base::limits::ComponentLimits, config::Table};

/// An instance of any accepted component takes at most one part in so many of the pool. That part is reserved for
/// first instances.
const LARGEST_PART: u32 = 20;

/// `[pool]`: the limits of the instance pool, for all plugins together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Instances.
    pub instances: u32,
    /// Instances of core modules.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// The most that one component may have.
    pub component: ComponentLimits,
}

impl PoolSettings {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let at_most = |max, key, number: Option<u32>, default| {
            let number = number.unwrap_or(default);
            if number > max {
                let message = format!("pool.{key} must be at most {max}, not {number}");
                table.complain_about(key, message);
            }
            // What follows from a number that is too large is not reported as well.
            number.min(max)
        };
        let (least, most) = (ComponentLimits::DEFAULT, ComponentLimits::MAX);
        let component = ComponentLimits {
            core_instances: at_most(
                most.core_instances,
                "component-core-instances",
                table.number("component-core-instances", least.core_instances),
                least.core_instances,
            ),
            memories: at_most(
                most.memories,
                "component-memories",
                table.number("component-memories", least.memories),
                least.memories,
            ),
            tables: at_most(
                most.tables,
                "component-tables",
                table.number("component-tables", least.tables),
                least.tables,
            ),
            table_elements: at_most(
                most.table_elements,
                "table-elements",
                table.number("table-elements", least.table_elements),
                least.table_elements,
            ),
        };
        let [cores, memories, tables] =
            [component.core_instances, component.memories, component.tables]
                .map(|max| max * LARGEST_PART);
        Self {
            instances: at_most(10_000, "instances", table.number("instances", LARGEST_PART), 1000),
            core_instances: at_most(
                100_000,
                "core-instances",
                table.number("core-instances", cores),
                cores.max(8000),
            ),
            memories: at_most(
                10_000,
                "memories",
                table.number("memories", memories),
                memories.max(2000),
            ),
            tables: at_most(100_000, "tables", table.number("tables", tables), tables.max(8000)),
            component,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, settings::Settings};
    use std::path::Path;

    fn pool(text: &str) -> Result<PoolSettings, Vec<String>> {
        let document = Document::new(Path::new("plugind.toml"), format!("[pool]\n{text}"));
        let settings = Settings::parse(&document).map(|settings| settings.pool);
        settings.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_pool_is_as_large_as_the_largest_component_needs_unless_that_is_set() {
        let defaults = pool("").unwrap();
        assert_eq!((defaults.component, defaults.memories), (ComponentLimits::DEFAULT, 2000));
        let larger = pool("component-core-instances = 1000\ncomponent-memories = 60\n").unwrap();
        assert_eq!((larger.core_instances, larger.memories, larger.tables), (20_000, 2000, 8000));
        let mistakes = pool("component-tables = 1000\ntables = 8000\n").unwrap_err();
        assert_eq!(
            mistakes,
            ["plugind.toml:3:10: pool.tables must be a whole number of at least 20000, not 8000"]
        );
    }

    #[test]
    fn a_component_cannot_be_given_more_than_the_largest_pool_or_engine_has() {
        let mistakes = pool("component-memories = 501\ntable-elements = 10000001\n").unwrap_err();
        assert_eq!(
            mistakes,
            [
                "plugind.toml:2:22: pool.component-memories must be at most 500, not 501",
                "plugind.toml:3:18: pool.table-elements must be at most 10000000, not 10000001",
            ]
        );
        let most = ComponentLimits::MAX;
        let text = format!(
            "component-core-instances = {}\ncomponent-memories = {}\ncomponent-tables = {}\n\
             table-elements = {}\n",
            most.core_instances, most.memories, most.tables, most.table_elements
        );
        assert_eq!(pool(&text).unwrap().component, most);
    }
}
