//! A call that one generation of a plugin gives back, because it drains, is offered to the next one.

use crate::pool::instances::Pool;
use std::sync::Arc;

/// The generation that gave a call back: it is not offered the call again.
#[derive(Default)]
pub(super) struct GivenBack(Option<Arc<Pool>>);

impl GivenBack {
    /// The call came back from this pool.
    pub(super) fn by(pool: Arc<Pool>) -> Self {
        Self(Some(pool))
    }

    /// Whether the call may be offered to a pool. If not, no other generation serves yet.
    pub(super) fn allows(&self, pool: &Arc<Pool>) -> bool {
        self.0.as_ref().is_none_or(|last| !Arc::ptr_eq(last, pool))
    }
}
