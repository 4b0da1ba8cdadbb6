//! The limits of keys, of values and of calls, which all key-value stores have, wherever they are.

use std::time::Duration;

/// The longest key, in bytes.
pub(super) const KEY_MAX: usize = 1024;
/// The longest value, in bytes.
pub(super) const VALUE_MAX: usize = 1 << 20;
/// The most keys that one call returns, and the most bytes of keys or values.
pub(super) const PAGE_MAX: usize = 1000;
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;

/// Time for which a failure of a store is remembered although entries can be read. After it, the daemon tries to read one.
pub(super) const FAILURE_REMEMBERED: Duration = Duration::from_secs(60);
