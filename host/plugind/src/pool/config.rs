//! The use of a plugin's instances: its manifest with every default resolved.

use crate::{
    plugin::manifest::{Manifest, Mode},
    runtime::engine::SLICE,
    world::link::Linked,
};
use std::time::Duration;

/// The most workers of a plugin whose instances are reused, unless its manifest says otherwise. With fewer
/// cores there are fewer workers: more workers than cores are of no use.
const REUSED_MAX: usize = 4;
/// The most calls at a time in a shared worker.
const SHARED_CONCURRENCY: usize = 16;
/// The most datagrams at a time in a shared worker.
const DATAGRAM_CONCURRENCY: usize = 256;
/// The most instances at a time of a plugin whose instances serve one call, or one connection at a time.
const FRESH_MAX: usize = 128;
/// An instance is replaced after this many calls: resources that the guest has leaked are released then.
const RECYCLE_AFTER: u32 = 100_000;

/// The use of workers, with every default resolved.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    /// The most workers at a time.
    pub(crate) workers: usize,
    /// The number of workers that are kept without work.
    pub(crate) min: usize,
    /// A worker beyond that number is stopped after so long without work.
    pub(crate) idle_timeout: Duration,
    /// There is no worker until there is work: `on-demand` of the manifest.
    pub(crate) on_demand: bool,
    /// The most calls at a time in one worker.
    pub(crate) concurrency: usize,
    /// After so many calls a worker is replaced.
    pub(crate) recycle_after: Option<u32>,
    /// A worker of this age is replaced.
    pub(crate) recycle_age: Option<Duration>,
    /// Every call has a worker of its own, which is made when the call comes.
    pub(crate) worker_per_call: bool,
    /// It is a background program: it serves nothing, and has no health checks.
    pub(crate) program: bool,
    /// Its one worker has a state that is handed over.
    pub(crate) hands_over: bool,
    /// Until an instance is ready.
    pub(crate) timeout_start: Duration,
    /// Until an instance is gone.
    pub(crate) timeout_stop: Duration,
    /// Interval at which an instance is asked for its health; zero: never.
    pub(crate) watchdog: Duration,
    /// Slices of processor time without a sign of life.
    pub(crate) slices_max: u32,
}

impl PoolConfig {
    /// Returns the values of a plugin's manifest, and otherwise those of its component, where so many cores have an
    /// executor.
    pub(crate) fn of(linked: &Linked, cores: usize) -> Self {
        let Manifest { service, instances, .. } = &linked.release.manifest;
        let (program, hands_over) =
            (linked.release.inspection.is_program(), linked.release.inspection.handover);
        let mode = instances.mode.unwrap_or_else(|| linked.release.inspection.mode());
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        // Without a handler there is no work that would need a second instance.
        let alone = !linked.release.inspection.serves();
        let connections = linked.release.inspection.serves_connections();
        let shared = if connections {
            number(linked.release.manifest.limits.connections_max)
        } else if linked.release.inspection.datagrams {
            DATAGRAM_CONCURRENCY
        } else {
            SHARED_CONCURRENCY
        };
        let (workers, concurrency, recycle_after) = match mode {
            Mode::Shared => (cores.min(REUSED_MAX), shared, RECYCLE_AFTER),
            // A connection may last, and others should not wait for its end.
            Mode::Exclusive if connections => (FRESH_MAX, 1, RECYCLE_AFTER),
            Mode::Exclusive => (cores.min(REUSED_MAX), 1, RECYCLE_AFTER),
            Mode::Fresh => (FRESH_MAX, 1, 1),
        };
        let recycle_after = Some(recycle_after);
        let min = instances.min.map_or(1, number);
        let max = instances.max.map_or(workers, number);
        // What the manifest asks for counts more than what fits the mode.
        let workers = if alone || hands_over { 1 } else { max.max(min) };
        let on_demand = linked.release.manifest.on_demand;
        Self {
            workers,
            min: if on_demand { 0 } else { min.min(workers) },
            idle_timeout: linked.release.manifest.idle_timeout,
            on_demand,
            concurrency: match mode {
                Mode::Shared => instances.concurrency.map_or(concurrency, number),
                Mode::Exclusive | Mode::Fresh => 1,
            },
            recycle_after: match mode {
                Mode::Fresh => recycle_after,
                Mode::Shared | Mode::Exclusive => instances.recycle_after.or(recycle_after),
            },
            recycle_age: instances.recycle_age,
            worker_per_call: linked.release.has_instance_per_call(),
            program,
            hands_over,
            timeout_start: service.timeout_start,
            timeout_stop: service.timeout_stop,
            watchdog: service.watchdog,
            slices_max: if program { u32::MAX } else { slices(service.watchdog) },
        }
    }

    /// Whether a worker is there for one call. Then the next one is started ahead of its call.
    pub(crate) fn serve_one(&self) -> bool {
        self.recycle_after == Some(1) && self.concurrency == 1
    }

    /// Whether workers may be stopped because they have no work.
    pub(crate) fn shrinks(&self) -> bool {
        match self.worker_per_call {
            true => self.on_demand,
            false => !self.program && self.workers > self.min,
        }
    }
}

/// Returns the number of slices for a processor time; zero time means no limit.
fn slices(time: Duration) -> u32 {
    match time.as_millis() / SLICE.as_millis() {
        0 => u32::MAX,
        slices => u32::try_from(slices).unwrap_or(u32::MAX),
    }
}
