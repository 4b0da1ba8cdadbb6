//! The lookups of names in progress, of which each takes a thread for as long as the resolver does.

use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// Limit of names that a generation's instances look up at a time: each takes a thread as long as the resolver does.
const LOOKUPS_MAX: usize = 16;
/// Time for which an abandoned lookup counts, since its end is unknown: longer than a resolver takes that does
/// not answer.
const LOOKUP_FORGOTTEN: Duration = Duration::from_secs(60);

/// Room for lookups at the same time.
#[derive(Clone)]
pub(super) struct Lookups(Arc<Semaphore>);

impl Lookups {
    /// Looks a name up when there is room. A lookup that is not waited for any more keeps its room until it ends, since
    /// nothing ends its thread.
    pub(super) async fn look_up(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let room = self.0.clone().acquire_owned().await.ok()?;
        let name = name.to_owned();
        let looked_up = tokio::spawn(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.ok()?.collect();
            drop(room);
            Some(addresses)
        });
        looked_up.await.ok()?
    }

    /// Room for one more lookup, if there is any.
    pub(super) fn try_admit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

/// A name that WASI 0.2 looks up.
pub(super) struct PendingLookup {
    pub(super) name: String,
    /// Taken back when its end is known.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Drop for PendingLookup {
    fn drop(&mut self) {
        // The thread that looks it up does not end with it. Without a runtime the daemon has ended.
        if let (Some(room), Ok(runtime)) = (self.room.take(), Handle::try_current()) {
            runtime.spawn(async move {
                sleep(LOOKUP_FORGOTTEN).await;
                drop(room);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_names_are_looked_up_at_a_time_than_there_is_room_for() {
        let lookups = Lookups::default();
        let room = lookups
            .0
            .clone()
            .acquire_many_owned(u32::try_from(LOOKUPS_MAX).unwrap())
            .await
            .unwrap();
        let mut waiting = std::pin::pin!(lookups.look_up("localhost"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(room);
        assert!(waiting.await.is_some());
        assert_eq!(lookups.0.available_permits(), LOOKUPS_MAX);
    }
}
