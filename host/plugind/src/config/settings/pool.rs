//! `[pool]`: the limits of the instance pool.

use crate::{
    base::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX},
    config::Table,
};

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
}

impl PoolSettings {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let at_most = |max, key, number: Option<u32>, default| {
            let number = number.unwrap_or(default);
            if number > max {
                let message = format!("pool.{key} must be at most {max}, not {number}");
                table.complain_about(key, message);
            }
            number
        };
        // An instance of any accepted component takes at most a twentieth: the part reserved for first instances.
        let [cores, memories, tables] =
            [CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX].map(|max| max * 20);
        Self {
            instances: at_most(10_000, "instances", table.number("instances", 20), 1000),
            core_instances: at_most(
                100_000,
                "core-instances",
                table.number("core-instances", cores),
                8000,
            ),
            memories: at_most(10_000, "memories", table.number("memories", memories), 2000),
            tables: at_most(100_000, "tables", table.number("tables", tables), 8000),
        }
    }
}
