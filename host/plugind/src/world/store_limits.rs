//! The limits of keys, of values and of calls, which all key-value stores have, wherever they are.

/// The longest key, in bytes.
pub(super) const KEY_MAX: usize = 1024;
/// The longest value, in bytes.
pub(super) const VALUE_MAX: usize = 1 << 20;
/// The most keys that one call returns, and the most bytes of keys or values.
pub(super) const PAGE_MAX: usize = 1000;
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
