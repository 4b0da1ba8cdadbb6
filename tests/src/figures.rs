//! Resources of the daemon that must not grow, whatever plugins, clients and operators do.

use crate::{Daemon, eventually};
use std::{fmt, fs};

/// A few descriptors and threads come and go by themselves: a file that is being read, a thread for blocking work.
const SLACK: usize = 8;
/// The allocator and the instance pool keep some memory of their busiest moment, in bytes.
const MEMORY_SLACK: u64 = 96 << 20;

/// The kernel's figures of a process.
#[derive(Clone, Copy)]
pub struct Figures {
    descriptors: usize,
    threads: usize,
    mappings: usize,
    memory: u64,
    proportional: u64,
}

impl Figures {
    fn read(daemon: &Daemon) -> Self {
        let process = format!("/proc/{}", daemon.pid());
        let entries = |name: &str| {
            fs::read_dir(format!("{process}/{name}")).expect("the daemon is there").count()
        };
        let mappings = fs::read_to_string(format!("{process}/maps")).expect("the daemon is there");
        Self {
            descriptors: entries("fd"),
            threads: entries("task"),
            mappings: mappings.lines().count(),
            memory: daemon.memory(),
            proportional: daemon.proportional_memory(),
        }
    }

    /// The figures once connections and work have ended: when two looks in a row find the same descriptors and
    /// threads.
    ///
    /// # Panics
    /// When the daemon does not come to rest.
    #[must_use]
    pub fn at_rest(daemon: &Daemon) -> Self {
        let mut previous = Self::read(daemon);
        eventually("a daemon at rest", || {
            let now = Self::read(daemon);
            let is_same =
                (now.descriptors, now.threads) == (previous.descriptors, previous.threads);
            previous = now;
            is_same.then_some(now)
        })
    }

    /// The figures once they are not above `first`, except for the slack.
    ///
    /// # Panics
    /// When they stay above it.
    #[must_use]
    pub fn not_above(daemon: &Daemon, first: &Self) -> Self {
        let mut now = Self::at_rest(daemon);
        let limits = format!("figures like those of the first half: {first}");
        eventually(&limits, || {
            now = Self::read(daemon);
            let is_flat = now.descriptors <= first.descriptors + SLACK
                && now.threads <= first.threads + SLACK
                && now.mappings <= first.mappings + first.mappings / 4 + SLACK
                && now.memory <= first.memory + first.memory / 4 + MEMORY_SLACK
                && now.proportional <= first.proportional + first.proportional / 4 + MEMORY_SLACK;
            is_flat.then_some(now)
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, mappings, memory, proportional } = self;
        let (rss, pss) = (memory >> 20, proportional >> 20);
        write!(
            f,
            "{descriptors} descriptors, {threads} threads, {mappings} mappings, RSS {rss} MiB, PSS {pss} MiB"
        )
    }
}
