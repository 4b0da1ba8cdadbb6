//! Whether the compiler can keep the code that it makes. Where it cannot, plugins run all the same, and are compiled again
//! by the next daemon.

use std::sync::{Arc, Mutex, PoisonError};
use tracing::{info, warn};

/// The result of the last attempt to keep compiled code. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct UnkeptCode(Arc<Mutex<Option<String>>>);

impl UnkeptCode {
    /// Why compiled code is not kept; none: the last code was kept.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Code was kept, or not, for this reason. Only a change is logged.
    pub(super) fn note(&self, reason: Option<String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == reason {
            return;
        }
        match &reason {
            Some(error) => warn!(error, "compiled code not kept"),
            None => info!("compiled code kept again"),
        }
        *last = reason;
    }
}
