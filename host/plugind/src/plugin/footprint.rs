//! The share of the pool that one instance takes: core instances, memories and tables, counted before anything
//! is compiled.
//!
//! A component may instantiate another one several times, and that one a further one: a file of 1 KiB can mean millions
//! of instances. So the instantiation is carried out with counters in the place of code, and given up after
//! [`STEPS_MAX`] steps.

mod counting;
pub(super) mod definitions;
#[cfg(test)]
mod tests;

use crate::base::{
    limits::{ComponentLimits, MEMORY_MAX},
    quantity::Bytes,
};

/// Limit of the definitions that are followed: the largest known component has some hundreds.
const STEPS_MAX: u32 = 20_000;
/// Limit of components that instantiate each other in a chain. Compositions have two or three.
const DEPTH_MAX: usize = 100;
/// Size of a table element, in bytes.
const ELEMENT: u64 = 8;

/// The share of the pool that one instance of a component takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Instances of core modules.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Bytes that all memories have from the beginning.
    pub memory: Bytes,
    /// Elements that all tables have from the beginning.
    pub table_elements: u64,
    /// Bytes that the largest memory has from the beginning.
    pub largest_memory: Bytes,
    /// Elements that the largest table has from the beginning.
    pub largest_table: u64,
}

/// Why no instance of a component can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FootprintError {
    /// It has more of something than one component may have.
    #[error(
        "{count} {what}; one component may have at most {max}; {}link its modules into fewer, or split it",
        raise(key, u64::from(*count), *raised_to)
    )]
    TooMany {
        /// The resource of which it has too much.
        what: &'static str,
        /// The number.
        count: u32,
        /// The limit.
        max: u32,
        /// The setting of `[pool]` that raises the limit.
        key: &'static str,
        /// The most to which it can be raised.
        raised_to: u32,
    },
    /// One of its memories begins too large.
    #[error(
        "a memory that begins with {0}; one memory may have at most {max}; build it with a smaller initial memory",
        max = Bytes(MEMORY_MAX)
    )]
    Memory(Bytes),
    /// One of its tables begins too large.
    #[error(
        "a table that begins with {elements} elements; one table may have at most {max}; {}split the component",
        raise("table-elements", *elements, ComponentLimits::MAX.table_elements)
    )]
    Table {
        /// The number of elements.
        elements: u64,
        /// The limit.
        max: u32,
    },
    /// It instantiates components too often to be counted.
    #[error(
        "components that instantiate each other in more than {STEPS_MAX} steps; build it again, or do not trust it"
    )]
    TooManySteps,
    /// It instantiates components in too long a chain.
    #[error(
        "components that instantiate each other in a chain of more than {DEPTH_MAX}; build it again, or do not trust it"
    )]
    Chain,
}

/// The remedy: to raise a setting of `[pool]`, if the setting can be as large as is needed.
fn raise(key: &str, needed: u64, max: u32) -> String {
    match needed <= u64::from(max) {
        true => format!(
            "raise pool.{key} in plugind.toml, which can be at most {max}, and restart the daemon, or "
        ),
        false => String::new(),
    }
}

impl Footprint {
    /// The bytes that an instance has from the beginning, as they count for its limits.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes(self.memory.0.saturating_add(self.table_elements.saturating_mul(ELEMENT)))
    }

    /// Whether a pool with these limits has room for an instance.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check(&self, limits: &ComponentLimits) -> Result<(), FootprintError> {
        let cores = ("instances of core modules", "component-core-instances");
        let memories = ("linear memories", "component-memories");
        let of = |limits: &ComponentLimits| [limits.core_instances, limits.memories, limits.tables];
        let counts = [self.core_instances, self.memories, self.tables];
        let most = of(&ComponentLimits::MAX);
        for (((what, key), count), (max, raised_to)) in
            [cores, memories, ("tables", "component-tables")]
                .into_iter()
                .zip(counts)
                .zip(of(limits).into_iter().zip(most))
        {
            if count > max {
                return Err(FootprintError::TooMany { what, count, max, key, raised_to });
            }
        }
        if self.largest_memory > Bytes(MEMORY_MAX) {
            return Err(FootprintError::Memory(self.largest_memory));
        }
        let (elements, max) = (self.largest_table, limits.table_elements);
        if elements > u64::from(max) {
            return Err(FootprintError::Table { elements, max });
        }
        Ok(())
    }

    fn add_module(&mut self, module: &Self) {
        self.core_instances = self.core_instances.saturating_add(1);
        self.memories = self.memories.saturating_add(module.memories);
        self.tables = self.tables.saturating_add(module.tables);
        self.memory = Bytes(self.memory.0.saturating_add(module.memory.0));
        self.table_elements = self.table_elements.saturating_add(module.table_elements);
        self.largest_memory = self.largest_memory.max(module.largest_memory);
        self.largest_table = self.largest_table.max(module.largest_table);
    }
}
