//! The instance pool as shared by plugins: each is guaranteed some instances, the rest is for those that need more,
//! and a part is only for first instances.
//!
//! An instance takes core instances, memories and tables. What counts is the largest part that it takes of any of them,
//! its *cost*, so that a sum of costs that is at most the whole never exceeds the pool. [`Ledger`] decides; it is a value
//! without clock and without threads.

use crate::{base::name::PluginName, config::settings::PoolSettings, plugin::footprint::Footprint};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::sync::Notify;
use tracing::warn;

/// The whole pool.
const WHOLE: u64 = 1_000_000;
/// Only for first instances: of a plugin, of a new version, or in the place of one that ended.
const FIRST: u64 = WHOLE / 20;
/// The part that is guaranteed to plugins, in equal shares, used or not.
const GUARANTEED: u64 = WHOLE / 2;
/// The most instances that are guaranteed to one plugin.
const LEVEL_MAX: u64 = 128;

/// The part of the pool that an instance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The largest part, of [`WHOLE`].
    part: u64,
    /// The scarcest resource, by its key in `[pool]`.
    scarce: &'static str,
    /// Number of these that it takes.
    takes: u32,
    /// The total.
    of: u32,
}

impl Cost {
    /// Returns the part that an instance with this footprint takes of a pool with these limits.
    #[must_use]
    pub fn new(footprint: &Footprint, pool: &PoolSettings) -> Self {
        let parts = [
            ("instances", 1, pool.instances),
            ("core-instances", footprint.core_instances, pool.core_instances),
            ("memories", footprint.memories, pool.memories),
            ("tables", footprint.tables, pool.tables),
        ];
        let costs = parts.map(|(scarce, takes, of)| {
            let part = (u64::from(takes) * WHOLE).div_ceil(u64::from(of.max(1)));
            Self { part, scarce, takes, of }
        });
        let [first, rest @ ..] = costs;
        rest.into_iter().fold(first, |max, cost| if cost.part > max.part { cost } else { max })
    }

    /// The most instances that there is room for besides first ones.
    #[must_use]
    pub fn instances_max(&self) -> u64 {
        (WHOLE - FIRST) / self.part
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scarce, takes, of, .. } = self;
        write!(f, "an instance takes {takes} of {of} {scarce}; raise pool.{scarce} in plugind.toml")
    }
}

/// The shares of all plugins in the pool.
#[derive(Debug)]
struct Ledger {
    shares: BTreeMap<u64, Entry>,
    next: u64,
    /// So many instances are guaranteed to each, if it may have as many.
    level: u64,
    /// The sum of what is guaranteed.
    guaranteed: u64,
    /// The sum of what is used.
    used: u64,
    /// The sum of what is used beyond what is guaranteed.
    beyond: u64,
}

#[derive(Debug)]
struct Entry {
    part: u64,
    max: u64,
    used: u64,
}

impl Entry {
    fn guaranteed(&self, level: u64) -> u64 {
        self.max.min(level) * self.part
    }

    fn beyond(&self, level: u64) -> u64 {
        self.used.saturating_sub(self.max.min(level)) * self.part
    }
}

impl Ledger {
    fn new() -> Self {
        let shares = BTreeMap::new();
        Self { shares, next: 0, level: LEVEL_MAX, guaranteed: 0, used: 0, beyond: 0 }
    }

    /// Adds a share with at most `max` instances.
    fn register(&mut self, part: u64, max: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        let entry = Entry { part, max, used: 0 };
        self.guaranteed += entry.guaranteed(self.level);
        self.shares.insert(id, entry);
        if self.guaranteed > GUARANTEED && self.level > 1 {
            self.share_out();
        }
        id
    }

    fn unregister(&mut self, id: u64) {
        let Some(entry) = self.shares.remove(&id) else { return };
        self.used -= entry.used * entry.part;
        self.share_out();
    }

    /// Finds the largest number of instances that can be guaranteed to everybody.
    fn share_out(&mut self) {
        let sum = |level| self.shares.values().map(|entry| entry.guaranteed(level)).sum::<u64>();
        let (mut low, mut high) = (1, LEVEL_MAX);
        while low < high {
            let middle = u64::midpoint(low, high) + (low + high) % 2;
            if sum(middle) <= GUARANTEED {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        (self.level, self.guaranteed) = (low, sum(low));
        self.beyond = self.shares.values().map(|entry| entry.beyond(low)).sum();
    }

    /// Has another instance, if there may be one. `first`: there is no other one that takes calls; it is also a first one
    /// if there is none at all.
    fn take(&mut self, id: u64, first: bool) -> bool {
        let level = self.level;
        let Some(entry) = self.shares.get_mut(&id) else { return false };
        let first = first || entry.used == 0;
        let beyond = entry.beyond(level);
        entry.used += 1;
        let more = entry.beyond(level) - beyond;
        let max = if first { WHOLE } else { WHOLE - FIRST };
        // The part that is not guaranteed to any plugin yet is reserved for later ones.
        let fits = self.used + entry.part <= max
            && (first || more == 0 || self.beyond + more <= WHOLE - FIRST - GUARANTEED);
        if fits {
            self.used += entry.part;
            self.beyond += more;
        } else {
            entry.used -= 1;
        }
        fits
    }

    /// Has one instance fewer.
    fn give_back(&mut self, id: u64) {
        let level = self.level;
        let Some(entry) = self.shares.get_mut(&id) else { return };
        let beyond = entry.beyond(level);
        entry.used -= 1;
        self.used -= entry.part;
        self.beyond -= beyond - entry.beyond(level);
    }
}

/// The instance pool, as it is shared.
pub struct InstancePool {
    settings: PoolSettings,
    ledger: Mutex<Ledger>,
    waiting: AtomicUsize,
    freed: Notify,
}

impl InstancePool {
    /// Makes an unused pool with these limits.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Arc<Self> {
        let ledger = Mutex::new(Ledger::new());
        Arc::new(Self { settings, ledger, waiting: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// The share of a generation whose instances have this footprint, and of which there are `max`.
    #[must_use]
    pub fn share(self: &Arc<Self>, footprint: &Footprint, max: usize) -> Arc<Share> {
        let cost = Cost::new(footprint, &self.settings);
        let id = self.ledger().register(cost.part, u64::try_from(max).unwrap_or(u64::MAX));
        Arc::new(Share { places: self.clone(), id, cost })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The share of one generation in the pool. Returns it when dropped.
pub struct Share {
    places: Arc<InstancePool>,
    id: u64,
    /// The part that each of its instances takes.
    pub cost: Cost,
}

impl Share {
    /// Logs a warning if there is less room than for the instances that a plugin asks for.
    pub fn warn_if_less(&self, plugin: &PluginName, max: Option<u32>) {
        let room = self.cost.instances_max();
        if let Some(max) = max.filter(|max| u64::from(*max) > room) {
            let reason = self.cost.to_string();
            warn!(%plugin, max, room, reason, "instances.max reduced");
        }
    }

    /// A place for another instance, if there is one now. `first`: there is no other one that takes calls.
    #[must_use]
    pub fn try_take(self: &Arc<Self>, first: bool) -> Option<InstancePlace> {
        self.places.ledger().take(self.id, first).then(|| InstancePlace(self.clone()))
    }

    /// A place for another instance, as soon as there is one.
    pub async fn take(self: &Arc<Self>, first: bool) -> InstancePlace {
        if let Some(place) = self.try_take(first) {
            return place;
        }
        let _waits = Waits::new(&self.places.waiting);
        loop {
            let freed = self.places.freed.notified();
            if let Some(place) = self.try_take(first) {
                return place;
            }
            freed.await;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.places.ledger().unregister(self.id);
    }
}

/// The place of one instance. Gives it back when dropped.
pub struct InstancePlace(Arc<Share>);

impl Drop for InstancePlace {
    fn drop(&mut self) {
        let places = &self.0.places;
        places.ledger().give_back(self.0.id);
        if places.waiting.load(SeqCst) > 0 {
            places.freed.notify_waiters();
        }
    }
}

/// Counts one that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::ComponentLimits;
    use proptest::prelude::*;

    fn pool() -> PoolSettings {
        PoolSettings {
            instances: 1000,
            core_instances: 8000,
            memories: 2000,
            tables: 8000,
            component: ComponentLimits::DEFAULT,
        }
    }

    fn cost(core_instances: u32, memories: u32, tables: u32) -> Cost {
        let footprint = Footprint { core_instances, memories, tables, ..Footprint::default() };
        Cost::new(&footprint, &pool())
    }

    /// So many instances as there may be.
    fn take_all(ledger: &mut Ledger, id: u64) -> u64 {
        (0..).find(|nth| !ledger.take(id, *nth == 0)).unwrap()
    }

    #[test]
    fn what_an_instance_takes_most_of_is_named_with_its_setting() {
        assert_eq!(cost(5, 1, 2).part, 1000);
        let large = cost(18, 18, 18);
        assert_eq!((large.part, large.instances_max()), (9000, 105));
        assert_eq!(
            large.to_string(),
            "an instance takes 18 of 2000 memories; raise pool.memories in plugind.toml"
        );
    }

    #[test]
    fn eight_that_take_all_they_can_leave_room_for_a_ninth() {
        let mut ledger = Ledger::new();
        let part = cost(5, 1, 2).part;
        let nine: Vec<_> = (0..9).map(|_| ledger.register(part, 128)).collect();
        for id in &nine[..8] {
            assert!(take_all(&mut ledger, *id) >= 50);
        }
        assert!(take_all(&mut ledger, nine[8]) >= 50);
        let late = ledger.register(part, 128);
        assert!(ledger.take(late, true), "a first instance has room");
    }

    #[test]
    fn two_of_many_memories_leave_most_of_them_to_others() {
        let mut ledger = Ledger::new();
        let large = cost(18, 18, 18);
        let (one, other) = (ledger.register(large.part, 128), ledger.register(large.part, 128));
        let ordinary = ledger.register(cost(5, 1, 2).part, 128);
        take_all(&mut ledger, one);
        take_all(&mut ledger, other);
        assert!(take_all(&mut ledger, ordinary) >= 16);
    }

    #[test]
    fn a_thousand_have_an_instance_each() {
        let mut ledger = Ledger::new();
        let part = cost(5, 1, 2).part;
        let all: Vec<_> = (0..1000).map(|_| ledger.register(part, 4)).collect();
        assert!(all.iter().all(|id| ledger.take(*id, true)));
        assert!(!ledger.take(all[0], false));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Register(u64, u64),
        Unregister(usize),
        Take(usize, bool),
        GiveBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (1000..50_000_u64, 1..200_u64).prop_map(|(part, max)| Step::Register(part, max)),
            1 => (0..8_usize).prop_map(Step::Unregister),
            20 => (0..8_usize, any::<bool>()).prop_map(|(nth, first)| Step::Take(nth, first)),
            6 => (0..8_usize).prop_map(Step::GiveBack),
        ]
    }

    proptest! {
        #[test]
        fn no_walk_exceeds_the_pool_or_forgets_anything(
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut ledger = Ledger::new();
            for step in steps {
                let ids: Vec<_> = ledger.shares.keys().copied().collect();
                let id = |nth: usize| ids.get(nth % ids.len().max(1)).copied();
                match step {
                    Step::Register(part, max) => drop(ledger.register(part, max)),
                    Step::Unregister(nth) => {
                        // Its instances are gone by then.
                        id(nth).filter(|id| ledger.shares[id].used == 0)
                            .into_iter().for_each(|id| ledger.unregister(id));
                    }
                    Step::Take(nth, first) => {
                        let Some(id) = id(nth) else { continue };
                        let entry = &ledger.shares[&id];
                        let within = (entry.used + 1) * entry.part <= entry.guaranteed(ledger.level);
                        let room = ledger.used + entry.part <= WHOLE - FIRST;
                        let taken = ledger.take(id, first);
                        prop_assert!(taken || !(within && room), "a guarantee was not kept");
                    }
                    Step::GiveBack(nth) => {
                        id(nth).filter(|id| ledger.shares[id].used > 0)
                            .into_iter().for_each(|id| ledger.give_back(id));
                    }
                }
                let entries = || ledger.shares.values();
                let used: u64 = entries().map(|entry| entry.used * entry.part).sum();
                let beyond: u64 = entries().map(|entry| entry.beyond(ledger.level)).sum();
                prop_assert_eq!((used, beyond), (ledger.used, ledger.beyond));
                prop_assert!(used <= WHOLE);
                prop_assert!(ledger.guaranteed <= GUARANTEED || ledger.level == 1);
            }
        }

        #[test]
        fn what_is_guaranteed_is_there_however_much_the_others_take(
            parts in prop::collection::vec((1000..20_000_u64, 1..200_u64), 2..12),
        ) {
            let mut ledger = Ledger::new();
            let ids: Vec<_> =
                parts.iter().map(|(part, max)| ledger.register(*part, *max)).collect();
            let (last, others) = ids.split_last().unwrap();
            for id in others {
                while ledger.take(*id, false) {}
            }
            let entry = &ledger.shares[last];
            let guaranteed = entry.guaranteed(ledger.level) / entry.part;
            for _ in 0..guaranteed {
                prop_assert!(ledger.take(*last, false));
            }
        }
    }
}
