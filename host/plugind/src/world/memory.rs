//! The memory of an instance, of all instances of a plugin together, and of all plugins together.
//!
//! The linear memory and the tables of an instance count, and the memory that the host keeps for it: see
//! [`holdings`](crate::world::holdings). The runtime's own limits are for each single memory; components made from
//! Python or JavaScript have several.

use crate::base::budget::{Budget, MemoryCharge};
use std::{fmt, sync::Arc};
use wasmtime::ResourceLimiter;

/// Size of one element of a table.
const ELEMENT: usize = size_of::<usize>();

/// The memory that all instances of a generation use together.
#[derive(Debug)]
pub struct Shared {
    plugin: Arc<Budget>,
    instance_max: usize,
    /// An instance that uses so much is replaced.
    near_memory_limit: usize,
    daemon: Arc<Budget>,
}

impl Shared {
    /// No memory is used yet. All instances may use `max` bytes, and each of them `instance_max`; `daemon` bounds all
    /// plugins together. An instance that uses `near_memory_limit` bytes is replaced.
    #[must_use]
    pub fn new(
        max: usize,
        instance_max: usize,
        near_memory_limit: usize,
        daemon: Arc<Budget>,
    ) -> Self {
        let plugin = Arc::new(Budget::new(max));
        Self { plugin, instance_max, near_memory_limit, daemon }
    }

    /// Returns the number of bytes that are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.plugin.used()
    }

    /// Returns the memory that all of them use together.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.plugin
    }

    /// Charges memory that the host keeps for no single instance. None if that is more than there may be.
    #[must_use]
    pub fn charge(&self, bytes: usize) -> Option<MemoryCharge> {
        MemoryCharge::new([self.plugin.clone(), self.daemon.clone()], bytes)
    }

    /// The same for memory that is bounded otherwise and is never refused.
    #[must_use]
    pub fn charge_always(&self, bytes: usize) -> MemoryCharge {
        MemoryCharge::always([self.plugin.clone(), self.daemon.clone()], bytes)
    }

    fn take(&self, bytes: usize) -> Result<(), Limit> {
        if !self.plugin.take(bytes) {
            return Err(Limit::Plugin);
        }
        if !self.daemon.take(bytes) {
            self.plugin.give_back(bytes);
            return Err(Limit::Daemon);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.plugin.give_back(bytes);
        self.daemon.give_back(bytes);
    }
}

/// A limit that kept an instance from getting memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// That of each instance.
    Instance,
    /// That of all instances of the plugin together.
    Plugin,
    /// That of all plugins together.
    Daemon,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "limits.instance-memory-max",
            Self::Plugin => "limits.memory-max",
            Self::Daemon => "memory-max of plugind.toml",
        })
    }
}

/// Memory that an instance did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The limit that it would have exceeded.
    pub limit: Limit,
    /// The host would have kept it for the instance; otherwise it was to be memory of the instance itself.
    pub by_host: bool,
}

/// The memory that one instance uses. Returns it when dropped.
pub(super) struct Guest {
    shared: Arc<Shared>,
    used: usize,
    /// The part of it that the host keeps for the instance.
    held: usize,
    refused: Option<Refused>,
}

impl Guest {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, used: 0, held: 0, refused: None }
    }

    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Returns the number of bytes that the instance uses.
    pub(super) fn instance_used(&self) -> usize {
        self.used
    }

    /// Whether the instance has grown to so much that it should be replaced. One that had nearly as much `at_start` has
    /// not grown.
    pub(super) fn is_near_memory_limit(&self, at_start: usize) -> bool {
        let max = self.shared.instance_max;
        self.used >= self.shared.near_memory_limit && self.used >= at_start.saturating_add(max / 8)
    }

    /// The host keeps so many bytes for the instance now, in the place of those that it kept before. False if that is
    /// more than the instance may use; it must not get any further then.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.held, bytes);
        if bytes <= before {
            self.used -= before - bytes;
            self.shared.give_back(before - bytes);
            return true;
        }
        let grown = self.grow(bytes - before, true);
        if !grown {
            self.held = before;
        }
        grown
    }

    fn grow(&mut self, bytes: usize, by_host: bool) -> bool {
        let used = self.used.saturating_add(bytes);
        let taken = match used > self.shared.instance_max {
            true => Err(Limit::Instance),
            false => self.shared.take(bytes),
        };
        match taken {
            Ok(()) => self.used = used,
            Err(limit) => self.refused = Some(Refused { limit, by_host }),
        }
        taken.is_ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.give_back(self.used);
    }
}

/// The runtime asks before it compares with the maximum that the component declares, and such a growth fails in any case.
impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(is_possible && self.grow(desired.saturating_sub(current), false))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_possible = maximum.is_none_or(|maximum| desired <= maximum);
        let bytes = desired.saturating_sub(current).saturating_mul(ELEMENT);
        Ok(is_possible && self.grow(bytes, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shared(max: usize, instance_max: usize, daemon: usize) -> Arc<Shared> {
        let daemon = Arc::new(Budget::new(daemon));
        Arc::new(Shared::new(max, instance_max, instance_max / 4 * 3, daemon))
    }

    fn refused(limit: Limit, by_host: bool) -> Option<Refused> {
        Some(Refused { limit, by_host })
    }

    #[test]
    fn an_instance_is_near_its_limit_only_if_it_has_grown_to_that() {
        let mut guest = Guest::new(shared(1000, 800, 1000));
        assert!(guest.grow(600, false) && guest.is_near_memory_limit(100));
        assert!(!guest.is_near_memory_limit(550), "it needs that much from the beginning");
    }

    #[test]
    fn the_limit_that_was_reached_is_known_and_all_memory_is_released() {
        let shared = shared(100, 60, 110);
        let (mut one, mut other) = (Guest::new(shared.clone()), Guest::new(shared.clone()));
        assert!(one.grow(60, false) && one.refused().is_none());
        assert!(!one.grow(1, false) && one.refused() == refused(Limit::Instance, false));
        assert!(!other.grow(50, false) && other.refused() == refused(Limit::Plugin, false));
        shared.daemon.take(50);
        assert!(!other.hold(40) && other.refused() == refused(Limit::Daemon, true));
        drop((one, other));
        assert_eq!((shared.used(), shared.daemon.used()), (0, 50));
    }

    #[test]
    fn a_growth_beyond_the_maximum_of_a_memory_or_table_costs_nothing() {
        // A memory of one or two pages, and a table of one or two elements, whose growth fails again and again.
        let module = "(module (memory 1 2) (table 1 2 funcref)
            (func (export \"grow\") (result i32)
                (drop (memory.grow (i32.const 2)))
                (table.grow (ref.null func) (i32.const 2)))
            (func (export \"grow-by-one\") (result i32)
                (drop (memory.grow (i32.const 1)))
                (table.grow (ref.null func) (i32.const 1))))";
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, wat::parse_str(module).unwrap()).unwrap();
        let shared = shared(1 << 20, 1 << 20, 1 << 20);
        let mut store = wasmtime::Store::new(&engine, Guest::new(shared.clone()));
        store.limiter(|guest| guest);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let mut call = |name| {
            let grow = instance.get_typed_func::<(), i32>(&mut store, name).unwrap();
            (grow.call(&mut store, ()).unwrap(), shared.used(), store.data().refused())
        };
        let of_one = (64 << 10) + ELEMENT;
        for _ in 0..3 {
            assert_eq!(call("grow"), (-1, of_one, None));
        }
        assert_eq!(call("grow-by-one"), (1, 2 * of_one, None));
        assert_eq!(call("grow-by-one"), (-1, 2 * of_one, None));
    }

    proptest! {
        #[test]
        fn what_is_used_is_the_sum_of_all_and_never_beyond_a_limit(
            steps in prop::collection::vec((0..3_usize, 0..50_usize, any::<bool>()), 0..60),
        ) {
            let shared = shared(200, 100, 150);
            let mut guests: Vec<_> = (0..3).map(|_| Guest::new(shared.clone())).collect();
            for (nth, bytes, by_host) in steps {
                let before = guests[nth].used;
                let done = match by_host {
                    true => guests[nth].hold(bytes),
                    false => guests[nth].grow(bytes, false),
                };
                prop_assert!(done || guests[nth].used == before);
                let sum: usize = guests.iter().map(|guest| guest.used).sum();
                prop_assert_eq!((sum, sum), (shared.used(), shared.daemon.used()));
                prop_assert!(sum <= 150 && guests.iter().all(|guest| guest.used <= 100));
            }
            drop(guests);
            prop_assert_eq!((shared.used(), shared.daemon.used()), (0, 0));
        }
    }
}
