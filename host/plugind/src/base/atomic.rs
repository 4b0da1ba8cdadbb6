//! Atomic types and locks that threads share in `pool/`: those of the standard library, or, with the feature `loom`,
//! those of the model checker that runs the tests of `pool/models.rs` in every order that threads allow.

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};
