//! The figures of a core, by the files of the host.
#![allow(dead_code, reason = "one part of them is measured")]

#[path = "../../../../../host/plugind/src/base/figures/durations.rs"]
mod durations;
#[path = "../../../../../host/plugind/src/base/figures/per_core.rs"]
mod per_core;

pub(crate) use per_core::CoreFigures;
