//! Why a key-value store did not do what was asked of it, wherever it is.

use crate::{
    base::quantity::Bytes,
    remote::availability::Unreachable,
    world::store_limits::{KEY_MAX, PAGE_BYTES_MAX, PAGE_MAX, VALUE_MAX},
};

/// Why a store did not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The key is empty or too long.
    #[error("a key must have 1 to {KEY_MAX} bytes, not {0}")]
    Key(usize),
    /// The value is too long.
    #[error("a value must have at most {VALUE_MAX} bytes, not {0}")]
    Value(usize),
    /// Too much is asked for at once.
    #[error("a batch must have at most {PAGE_MAX} keys, and {PAGE_BYTES_MAX} bytes of values")]
    Batch,
    /// The store is full.
    #[error(
        "the store must not exceed {0}; delete keys, or raise quota of keyvalue below [grants] in the manifest"
    )]
    Quota(Bytes),
    /// The value to increment is not a number.
    #[error("the value must be a whole number of 64 bits in decimal digits")]
    NotNumber,
    /// The sum is too large or too small.
    #[error("the sum must be a number of 64 bits")]
    Overflow,
    /// The cursor is from elsewhere.
    #[error("the cursor must be one that list-keys returned for this store")]
    Cursor,
    /// The value is too long for the server.
    #[error(
        "a value must have at most {most} bytes on this server, as its max_payload says, not {length}"
    )]
    ServerValue {
        /// The most bytes.
        most: usize,
        /// Those of the value.
        length: usize,
    },
    /// The file or the server cannot be used.
    #[error("the store cannot be used at present: {0}")]
    Storage(String),
    /// There is no connection to the server.
    #[error("the store cannot be used at present: {0}")]
    Unreachable(#[from] Unreachable),
}

impl KeyValueError {
    /// The server does not answer in time.
    pub(super) fn timed_out() -> Self {
        let error = "the server does not answer in time; a change may have been made";
        Self::Storage(error.to_owned())
    }
}
