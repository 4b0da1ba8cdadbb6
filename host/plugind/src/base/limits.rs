//! The part of the instance pool that one component may use. A component is compared with these limits before it is
//! compiled, and the pool is laid out for them, so that whatever is accepted can also be instantiated.

/// Core module instances of one component. Rust has 4 or 5, Python a dozen.
pub const CORE_INSTANCES_MAX: u32 = 200;
/// Linear memories of one component.
pub const MEMORIES_MAX: u32 = 50;
/// Tables of one component.
pub const TABLES_MAX: u32 = 200;
/// Elements of one table. .NET has about 35,000; the pool reserves address space for these, not memory.
pub const TABLE_ELEMENTS_MAX: u32 = 200_000;
/// Bytes of one linear memory: all that a 32-bit guest can address.
pub const MEMORY_MAX: u64 = 1 << 32;
/// Bytes of the runtime's own data for one component instance, mostly 32 for each function that a table has. It is more than
/// those of the largest table take, so that this limit refuses nothing that has passed the others.
pub const INSTANCE_SIZE_MAX: usize = 8 << 20;
const _: () = assert!(TABLE_ELEMENTS_MAX as usize * 32 < INSTANCE_SIZE_MAX);
