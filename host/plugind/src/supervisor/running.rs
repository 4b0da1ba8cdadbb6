//! The instances of one generation, as the supervisor holds them.

use crate::pool::instances::Pool;
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// The instances of one generation.
pub(super) struct RunningGeneration {
    /// The instances.
    pub(super) pool: Arc<Pool>,
    /// The save that was ordered last.
    pub(super) save: u64,
    /// When it took over.
    pub(super) since: Option<SystemTime>,
    /// When it was created.
    pub(super) created: Instant,
}
