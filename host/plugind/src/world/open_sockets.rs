//! The sockets that all instances of a generation have open, by `wasi:sockets` and for outgoing requests: a bounded
//! number, so that one plugin cannot take the descriptors of others.

use crate::base::descriptors;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that one plugin may have open, with any limit of the process.
const OPEN_MAX: usize = 1024;
/// The most of them that one instance may have by `wasi:sockets`.
const INSTANCE_MAX: usize = 256;
/// Divisor for the part that a plugin may have of a small limit.
const SHARE: u64 = 4;

/// Room for the open sockets of a generation. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PluginSockets(Arc<Semaphore>);

/// An open socket, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct OpenSocket {
    _room: OwnedSemaphorePermit,
}

/// The sockets that one instance has by `wasi:sockets`, by their resources.
#[derive(Debug)]
pub(super) struct InstanceSockets {
    all: PluginSockets,
    open: HashMap<u32, Arc<OpenSocket>>,
}

impl PluginSockets {
    /// None is open yet.
    pub(super) fn new() -> Self {
        let limit = descriptors::limit().map(|limit| descriptors::for_others(limit) / SHARE);
        let max = limit.and_then(|limit| usize::try_from(limit).ok());
        Self::with_max(max.map_or(OPEN_MAX, |max| max.min(OPEN_MAX)))
    }

    fn with_max(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }

    /// Counts a socket that is to be opened. None if there are as many as there may be, or if what is left is kept for
    /// others than plugins.
    pub(super) fn admit(&self) -> Option<OpenSocket> {
        let all = descriptors::limit().map_or(u64::MAX, descriptors::for_others);
        if descriptors::open().is_some_and(|open| open >= all) {
            return None;
        }
        self.0.clone().try_acquire_owned().ok().map(|room| OpenSocket { _room: room })
    }
}

impl InstanceSockets {
    /// None is open yet.
    pub(super) fn new(all: &PluginSockets) -> Self {
        Self { all: all.clone(), open: HashMap::new() }
    }

    /// Counts a socket that is to be opened. None if there are as many as there may be.
    pub(super) fn admit(&self) -> Option<OpenSocket> {
        if self.open.len() < INSTANCE_MAX { self.all.admit() } else { None }
    }

    /// A socket is open, as this resource.
    pub(super) fn opened(&mut self, resource: u32, socket: OpenSocket) {
        self.open.insert(resource, Arc::new(socket));
    }

    /// The socket of a resource. It counts as long as this is kept.
    pub(super) fn of(&self, resource: u32) -> Option<Arc<OpenSocket>> {
        self.open.get(&resource).cloned()
    }

    /// The resource is gone.
    pub(super) fn closed(&mut self, resource: u32) {
        self.open.remove(&resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_sockets_are_open_than_may_be_and_closed_ones_make_room() {
        let all = PluginSockets::with_max(2);
        let (first, second) = (all.admit().unwrap(), all.admit().unwrap());
        assert!(all.admit().is_none());
        drop(first);
        let third = all.admit().unwrap();
        assert!(all.admit().is_none());
        drop((second, third));
        assert_eq!(all.0.available_permits(), 2);
    }

    #[test]
    fn the_sockets_of_all_instances_count_together() {
        let all = PluginSockets::with_max(3);
        let mut instances = [InstanceSockets::new(&all), InstanceSockets::new(&all)];
        for (resource, instance) in [(1, 0), (1, 1), (2, 1)] {
            let socket = instances[instance].admit().unwrap();
            instances[instance].opened(resource, socket);
        }
        assert!(instances[0].admit().is_none());
        let stream = instances[1].of(2);
        instances[1].closed(2);
        assert!(instances[0].admit().is_none(), "a stream of it is still open");
        drop(stream);
        assert!(instances[0].admit().is_some());
        let [first, second] = instances;
        drop(second);
        assert_eq!(all.0.available_permits(), 2, "an instance that ends closes its sockets");
        drop(first);
    }

    #[test]
    fn one_instance_has_a_part_of_the_sockets() {
        let mut instance = InstanceSockets::new(&PluginSockets::with_max(OPEN_MAX));
        for resource in 0..256 {
            let socket = instance.admit().unwrap();
            instance.opened(resource, socket);
        }
        assert!(instance.admit().is_none());
        instance.closed(7);
        assert!(instance.admit().is_some());
    }

    #[test]
    fn a_plugin_has_a_part_of_the_descriptors() {
        let max = PluginSockets::new().0.available_permits() as u64;
        let limit = descriptors::limit().unwrap_or(u64::MAX);
        assert!((1..=1024).contains(&max) && max <= limit / 4);
    }
}
