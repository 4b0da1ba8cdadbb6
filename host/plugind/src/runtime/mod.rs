//! The WebAssembly engine, and compiled code: how it is found, verified and mapped.

pub mod mapping;
pub mod executors;
pub mod file_threads;
pub mod engine;
pub mod heap;
pub mod cache;
