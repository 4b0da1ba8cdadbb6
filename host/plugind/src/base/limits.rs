//! The part of the instance pool that one component may use. A component is compared with these limits before it is
//! compiled, and the pool is laid out for them, so that whatever is accepted can also be instantiated.

/// Bytes of one linear memory: all that a 32-bit guest can address.
pub const MEMORY_MAX: u64 = 1 << 32;

/// The most that one component may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentLimits {
    /// Core module instances. Rust has 4 or 5, Python a dozen.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Elements of one table. .NET has about 35,000; the pool reserves address space for these, not memory.
    pub table_elements: u32,
}

impl ComponentLimits {
    /// The limits without a setting, which are also the least that can be set.
    pub const DEFAULT: Self =
        Self { core_instances: 200, memories: 50, tables: 200, table_elements: 200_000 };
    /// The most that can be set: a twentieth of the largest pool, and the largest table that the engine accepts.
    pub const MAX: Self =
        Self { core_instances: 5000, memories: 500, tables: 5000, table_elements: 10_000_000 };

    /// Bytes of the runtime's own data for one component instance, mostly 32 for each function that a table has. It is more
    /// than those of the largest table take, so that this limit refuses nothing that has passed the others.
    #[must_use]
    pub fn instance_size(&self) -> usize {
        (8 << 20) + self.table_elements as usize * 32
    }
}

impl Default for ComponentLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
