//! The engine that runs every plugin, and the clock that makes each of them yield.

use crate::{
    base::limits::{
        CORE_INSTANCES_MAX, INSTANCE_SIZE_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX,
    },
    runtime::mapping,
};
pub use plugind_artifact::engine::EngineKind;
use plugind_artifact::engine::engine_config;
use std::{thread, time::Duration};
use tracing::warn;
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig};

/// How long a guest may run before it is made to yield: short enough that its neighbours do not notice.
pub const SLICE: Duration = Duration::from_millis(5);

/// How many instances there may be at a time, of all plugins together.
const INSTANCES: u32 = 1000;
/// How many core instances a component has at the most, on average: Rust has 4 or 5, Python a dozen.
const CORES_EACH: u32 = 8;
/// How much of an instance's memory stays resident for the next one in its place.
const KEEP_RESIDENT: usize = 1 << 20;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not take its configuration.
    #[error("cannot make an engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The clock's thread could not be started.
    #[error("cannot start the engine's clock")]
    Clock(#[source] std::io::Error),
}

/// Makes the engine and starts its clock, which runs for as long as the engine lives.
///
/// # Errors
/// When the engine cannot be made at all. Where there is no room for a pool, it does without one.
pub fn start(kind: EngineKind) -> Result<Engine, EngineError> {
    let mut config = configuration(kind);
    config.allocation_strategy(pool());
    let engine = match Engine::new(&config) {
        Ok(engine) => engine,
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                error,
                "no address space for a pool of instances, each will be allocated for itself"
            );
            plain(kind)?
        }
    };
    let clock = engine.weak();
    let tick = move || {
        while let Some(engine) = clock.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(SLICE);
        }
    };
    thread::Builder::new().name("epoch".to_owned()).spawn(tick).map_err(EngineError::Clock)?;
    Ok(engine)
}

/// Makes an engine without places for instances, and without a clock.
///
/// # Errors
/// When the engine cannot be made.
pub fn plain(kind: EngineKind) -> Result<Engine, EngineError> {
    Engine::new(&configuration(kind)).map_err(EngineError::Engine)
}

/// Makes an engine that links and never runs anything, and refuses what [`start`] refuses: its pool has places for one
/// instance.
///
/// # Errors
/// When the engine cannot be made at all. Where there is no room for a pool, it does without one.
pub fn for_checks(kind: EngineKind) -> Result<Engine, EngineError> {
    let mut pool = pool();
    pool.total_component_instances(1)
        .total_core_instances(CORE_INSTANCES_MAX)
        .total_memories(MEMORIES_MAX)
        .total_tables(TABLES_MAX)
        .total_stacks(1);
    let mut config = configuration(kind);
    config.allocation_strategy(pool);
    Engine::new(&config).or_else(|_| plain(kind))
}

fn configuration(kind: EngineKind) -> Config {
    let mut config = engine_config(kind);
    mapping::use_host_mapping(&mut config);
    config
}

/// Places for instances, laid out once. Reusing one costs a fraction of mapping memory anew, and with PAGEMAP_SCAN
/// (Linux 6.7) only the pages that were really touched are cleaned, without a system-wide interruption.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * CORES_EACH)
        .total_memories(INSTANCES * 2)
        .total_tables(INSTANCES * CORES_EACH)
        .total_stacks(INSTANCES * 2)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX as usize)
        .max_core_instance_size(INSTANCE_SIZE_MAX)
        .max_component_instance_size(INSTANCE_SIZE_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
