//! Follows the reasons for which plugins are degraded and that no instance reports, such as a key-value server that is
//! gone, or requests for which no instance had room.

use crate::{
    supervisor::{board::Board, degraded::DegradedReason},
    world::buckets::StoreBackend,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Interval at which all plugins are looked at: a store that fails is noticed at its next use, and not at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reports to the supervisor each plugin whose published reason is no longer the right one.
pub async fn follow_degraded(board: Board, stores: Arc<StoreBackend>) {
    loop {
        // A change during the look ends the wait.
        let change = stores.changed();
        for (pool, published) in board.ready_pools() {
            pool.shared().try_failed_stores();
            let reason = DegradedReason::of_pool(&pool);
            if !DegradedReason::agrees(published.as_ref(), reason.as_ref()) {
                pool.report_degraded();
            }
        }
        // Without a change, all are looked at after that time as well.
        timeout(LOOK_EVERY, change).await.ok();
    }
}
