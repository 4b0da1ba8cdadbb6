//! The writes that wait for a transaction.

use crate::{
    base::quantity::Bytes,
    world::{
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome},
    },
};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// The most bytes in a transaction, unless a single write is larger.
const TRANSACTION_MAX: usize = 4 << 20;

/// Changes of one caller, in their order.
pub(super) struct StoreWrite {
    pub(super) changes: Vec<StoreChange>,
    pub(super) quota: Bytes,
    pub(super) reply: oneshot::Sender<Result<StoreOutcome, KeyValueError>>,
}

#[derive(Default)]
pub(super) struct WriteQueue {
    pub(super) waiting: VecDeque<StoreWrite>,
    /// Whether a thread serves the queue.
    pub(super) is_served: bool,
}

impl WriteQueue {
    /// Removes the writes whose callers are gone.
    pub(super) fn forget_abandoned(&mut self) {
        self.waiting.retain(|write| !write.reply.is_closed());
    }

    /// Takes the writes for one transaction.
    pub(super) fn take(&mut self) -> Vec<StoreWrite> {
        let (mut writes, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            bytes += next.changes.iter().map(StoreChange::bytes).sum::<usize>();
            if !writes.is_empty() && bytes > TRANSACTION_MAX {
                break;
            }
            writes.extend(self.waiting.pop_front());
        }
        writes
    }
}
