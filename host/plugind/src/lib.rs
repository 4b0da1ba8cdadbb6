//! Hosts WebAssembly components as if each were a small systemd service.
//!
//! Folders are layers. They are declared from the bottom to the top: a layer uses those above it in this list, never
//! one below.

pub mod base;
pub mod api;
pub mod config;
pub mod systemd;
pub mod runtime;
pub mod journal;
pub mod plugin;
pub mod world;
pub mod pool;
pub mod route;
pub mod supervisor;
pub mod listen;
pub mod control;
pub mod cli;
pub mod check;
pub mod daemon;
