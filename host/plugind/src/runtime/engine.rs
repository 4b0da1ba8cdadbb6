//! The engine that runs every plugin, and the clock that makes each of them yield.

use crate::{base::limits::ComponentLimits, config::settings::PoolSettings, runtime::mapping};
pub use plugind_artifact::engine::EngineKind;
use plugind_artifact::engine::engine_config;
use std::{thread, time::Duration};
use tracing::warn;
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig};

/// Time that a guest may run before it is made to yield: short enough that its neighbours do not notice.
pub const SLICE: Duration = Duration::from_millis(5);

/// Memory of an instance that stays resident for the next one in its place: more than an ordinary guest writes to
/// in one request. The runtime never gives it back, so it must not be much.
const KEEP_RESIDENT: usize = 256 << 10;
/// The same, of each table.
const TABLE_KEEP_RESIDENT: usize = 16 << 10;

/// Stacks in addition to those that the number of instances requires.
const STACKS_EXTRA: u32 = 64;
/// The stack of a guest whose code is not optimized, since the frames of this code are much larger: three times that of
/// others. The rest of the 2 MiB is for the host.
const UNOPTIMIZED_STACK: usize = 1536 << 10;

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
pub fn start(kind: EngineKind, settings: &PoolSettings) -> Result<Engine, EngineError> {
    let mut config = configuration(kind);
    config.allocation_strategy(pool(settings));
    let engine = match Engine::new(&config) {
        Ok(engine) => engine,
        Err(error) => {
            let error = format!("{error:#}");
            warn!(error, "instance pool unavailable");
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

/// Makes an engine that links and never runs anything, and refuses what [`start`] refuses with these limits: its pool has
/// places for one instance.
///
/// # Errors
/// When the engine cannot be made at all. Where there is no room for a pool, it does without one.
pub fn for_checks(kind: EngineKind, component: ComponentLimits) -> Result<Engine, EngineError> {
    let mut pool = pool(&PoolSettings {
        instances: 1,
        core_instances: component.core_instances,
        memories: component.memories,
        tables: component.tables,
        component,
    });
    pool.total_stacks(1);
    let mut config = configuration(kind);
    config.allocation_strategy(pool);
    Engine::new(&config).or_else(|_| plain(kind))
}

/// Bytes that unused places for instances keep resident; none without a pool.
#[must_use]
pub fn pool_unused(engine: &Engine) -> Option<u64> {
    let pool = engine.pooling_allocator_metrics()?;
    let unused =
        pool.unused_memory_bytes_resident().saturating_add(pool.unused_table_bytes_resident());
    u64::try_from(unused).ok()
}

/// Stacks for so many instances. One runs on a stack while its guest does; a guest with several tasks that each wait in a
/// synchronous call has one for each of them. Each stack is a system call at the start, so there are no more than these.
fn stacks(instances: u32) -> u32 {
    instances + instances / 4 + STACKS_EXTRA
}

fn configuration(kind: EngineKind) -> Config {
    let mut config = engine_config(kind);
    mapping::use_host_mapping(&mut config);
    // For the plugins that want it. It changes no code, and costs something only when a guest traps.
    config.coredump_on_trap(true);
    if kind == EngineKind::Unoptimized {
        config.max_wasm_stack(UNOPTIMIZED_STACK);
    }
    config
}

/// Places for instances, laid out once. Reusing one costs a fraction of mapping new memory, and with PAGEMAP_SCAN
/// (Linux 6.7) only the pages that were really touched are cleaned, without a system-wide interruption.
fn pool(settings: &PoolSettings) -> PoolingAllocationConfig {
    let (mut pool, component) = (PoolingAllocationConfig::new(), settings.component);
    pool.total_component_instances(settings.instances)
        .total_core_instances(settings.core_instances)
        .total_memories(settings.memories)
        .total_tables(settings.tables)
        .total_stacks(stacks(settings.instances))
        .max_core_instances_per_component(component.core_instances)
        .max_memories_per_component(component.memories)
        .max_memories_per_module(component.memories)
        .max_tables_per_component(component.tables)
        .max_tables_per_module(component.tables)
        .table_elements(component.table_elements as usize)
        .max_core_instance_size(component.instance_size())
        .max_component_instance_size(component.instance_size())
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}
