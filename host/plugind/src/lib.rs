//! Hosts WebAssembly components as if each were a small systemd service.
//!
//! The floors of the house, from the ground up: a module uses those above it in this list, never one below.

// 0 Words
pub mod chain;
pub mod nearest;
pub mod name;
pub mod quantity;
pub mod endpoint;
pub mod text;
pub mod api;

// 1 Ground: the world, typed
pub mod file;
pub mod config;
pub mod environment;
pub mod mapping;
pub mod engine;
pub mod journal;
pub mod settings;
pub mod systemd;

// 2 Plugins: what lies on disk
pub mod plugin;

// 3 Guests: where wasm runs
pub mod world;
pub mod link;
pub mod vitals;
pub mod failure;
mod clock;
mod health;
mod handover;
pub mod exchange;
pub mod crew;
mod worker;
pub mod pool;
pub mod table;

// 4 Keeper: who owns every plugin's state
pub mod restart;
pub mod lifecycle;
pub mod succession;
pub mod summary;
pub mod claims;
pub mod prepare;
pub mod generation;
pub mod reload;
pub mod kept;
pub mod compare;
pub mod phase;
pub mod keeper;
pub mod supervisor;

// 5 Doors: what outsiders touch
pub mod upload;
pub mod http;
pub mod doors;
pub mod listener;
pub mod control;

// 6 Roof
pub mod arguments;
pub mod check;
pub mod daemon;
