//! The state of a pool at a moment, in numbers.

use std::time::Duration;

/// The state of a pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolGauges {
    /// The number of instances.
    pub instances: usize,
    /// The number of calls that they have.
    pub in_flight: usize,
    /// The number of calls that wait for an instance.
    pub queued: usize,
    /// The time that the oldest of them has waited.
    pub waited: Duration,
    /// The memory that its instances use and that the daemon keeps for it, in bytes.
    pub memory: usize,
    /// The most memory that they have used, in bytes.
    pub memory_peak: usize,
    /// The most memory that they may use, in bytes.
    pub memory_max: usize,
    /// The number of their connections.
    pub connections: usize,
}

impl PoolGauges {
    /// Those of a plugin, two of whose generations have instances. Limits are those of the later one.
    #[must_use]
    pub fn beside(self, later: Self) -> Self {
        let memory = self.memory.saturating_add(later.memory);
        Self {
            instances: self.instances + later.instances,
            in_flight: self.in_flight + later.in_flight,
            queued: self.queued + later.queued,
            waited: self.waited.max(later.waited),
            memory,
            // What they use together is more than either has used alone.
            memory_peak: self.memory_peak.max(later.memory_peak).max(memory),
            memory_max: later.memory_max,
            connections: self.connections + later.connections,
        }
    }
}
