//! A change of a key in a key-value store, and its outcome, wherever the store is.

use crate::world::{
    keyvalue_error::KeyValueError,
    store_limits::{KEY_MAX, VALUE_MAX},
};
use sha2::{Digest, Sha256};

/// A change of one key.
pub(super) enum StoreChange {
    /// Sets the value of the key.
    Set(String, Vec<u8>),
    /// Deletes the key.
    Delete(String),
    /// Adds to the value, which must be a number.
    Add(String, i64),
    /// Sets the value, if the present one has this digest; none: if there is none.
    Swap(String, Option<ValueDigest>, Vec<u8>),
}

impl StoreChange {
    pub(super) fn check(&self) -> Result<(), KeyValueError> {
        check_key(match self {
            Self::Set(key, _) | Self::Delete(key) | Self::Add(key, _) | Self::Swap(key, _, _) => {
                key
            }
        })?;
        match self {
            Self::Set(_, value) | Self::Swap(_, _, value) if value.len() > VALUE_MAX => {
                Err(KeyValueError::Value(value.len()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(key, value) | Self::Swap(key, _, value) => key.len() + value.len(),
            Self::Delete(key) | Self::Add(key, _) => key.len(),
        }
    }
}

/// A digest that identifies a value.
pub(super) type ValueDigest = [u8; 32];

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreOutcome {
    /// It was made.
    Done,
    /// It was made, and this is the sum.
    Sum(i64),
    /// It was not made: the value is another one.
    Differs,
}

/// Returns the digest that identifies this value.
pub(super) fn digest(value: Option<&[u8]>) -> Option<ValueDigest> {
    value.map(|value| Sha256::digest(value).into())
}

pub(super) fn check_key(key: &str) -> Result<(), KeyValueError> {
    match key.len() {
        1..=KEY_MAX => Ok(()),
        length => Err(KeyValueError::Key(length)),
    }
}

/// Returns the sum of a value and `delta`.
pub(super) fn add(old: Option<&[u8]>, delta: i64) -> Result<i64, KeyValueError> {
    let number = |old: &[u8]| std::str::from_utf8(old).ok()?.parse::<i64>().ok();
    let old = old.map_or(Some(0), number).ok_or(KeyValueError::NotNumber)?;
    old.checked_add(delta).ok_or(KeyValueError::Overflow)
}
