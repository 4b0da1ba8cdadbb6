//! The figures of one plugin on one core.

use crate::base::figures::durations::{BUCKETS, bucket, nanoseconds};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The classes of statuses that responses are counted by.
pub const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The figures of one plugin on one core. Other cores hardly ever write here, so that they stay in the cache of the
/// core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreFigures {
    pub(super) responses: [Count; STATUS_CLASSES.len()],
    pub(super) durations: [Count; BUCKETS],
    /// The sum of all durations, in ns.
    pub(super) duration: Count,
    pub(super) waits: [Count; BUCKETS],
    /// The sum of all waits, in ns.
    pub(super) wait: Count,
    /// The time for which instances ran, in ns.
    pub(super) busy: Count,
    /// Bytes of request bodies, connections and WebSocket messages that instances received.
    pub received: Count,
    /// Bytes of response bodies, connections and WebSocket messages that instances sent.
    pub sent: Count,
    /// Connections that instances were given.
    pub connections: Count,
    /// Datagrams that instances were given.
    pub datagrams: Count,
}

impl CoreFigures {
    /// Counts a response, and how long it took to begin. A status below 200 counts as that of the response that the
    /// client gets in its place.
    pub fn response(&self, status: u16, duration: Duration) {
        self.class(status);
        self.durations[bucket(duration)].add(1);
        self.duration.add(nanoseconds(duration));
    }

    /// Counts a call that an instance took, and how long it waited for that.
    pub fn waited(&self, wait: Duration) {
        self.waits[bucket(wait)].add(1);
        self.wait.add(nanoseconds(wait));
    }

    /// Counts a response of the host's own, for which no instance was asked.
    pub fn refusal(&self, status: u16) {
        self.class(status);
    }

    fn class(&self, status: u16) {
        let class = match status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            _ => 3,
        };
        self.responses[class].add(1);
    }

    /// Counts how long an instance ran.
    pub fn ran(&self, time: Duration) {
        self.busy.add(nanoseconds(time));
    }
}
