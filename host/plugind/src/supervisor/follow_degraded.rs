//! Follows the reasons for which plugins are degraded and that no instance reports, such as a key-value server that is
//! gone, or requests for which no instance had room.

use crate::{
    base::name::PluginName,
    supervisor::{board::Board, degraded::DegradedReason},
    world::buckets::StoreBackend,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Interval at which all plugins are looked at: a store that fails is noticed at its next use, and not at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reports to the supervisor when a plugin becomes degraded, is so for another reason, or no longer is.
pub async fn follow_degraded(board: Board, stores: Arc<StoreBackend>) {
    let mut known = BTreeMap::new();
    loop {
        known = look(&board, &known);
        // Without a change, all are looked at after that time as well.
        timeout(LOOK_EVERY, stores.changed()).await.ok();
    }
}

/// The reasons of the plugins that are degraded. A difference from `known` is reported.
fn look(
    board: &Board,
    known: &BTreeMap<PluginName, DegradedReason>,
) -> BTreeMap<PluginName, DegradedReason> {
    let mut found = BTreeMap::new();
    for standing in board.standings() {
        let Some(pool) = board.serving_pool(&standing.name) else { continue };
        let reason = DegradedReason::of_pool(&pool);
        if reason.as_ref() != known.get(&standing.name) {
            pool.report_degraded();
        }
        found.extend(reason.map(|reason| (standing.name, reason)));
    }
    found
}
