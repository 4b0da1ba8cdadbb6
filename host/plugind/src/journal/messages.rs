//! The messages that can be searched for by MESSAGE_ID=, each explained in `units/plugind.catalog`.
//!
//! A number is never used for anything else, nor changed: see `systemd-id128 new` for more.

/// Every required plugin is ready, and so is the daemon.
pub const READY: &str = "4885044bd7704a9fb22438914be7a5d1";
/// A version of a plugin took over.
pub const PLUGIN_READY: &str = "1cd9bcfa04a24f83a6c27cdf27b82087";
/// A version of a plugin cannot be used.
pub const PLUGIN_FAILED: &str = "df86524a694a4e1bb5367f78761a5239";
/// A plugin's files are gone, and so is the plugin.
pub const PLUGIN_REMOVED: &str = "d7a98a023fc54c43b9025965cfe2d59a";
/// A program has done its work.
pub const PLUGIN_INACTIVE: &str = "34a9998be6e84d92a50c1ae904de008c";
/// An instance of a plugin ended that should not have.
pub const WORKER_ENDED: &str = "01a385bb88854d74a7ab1d00035f1b56";
/// The directories are being read anew.
pub const RELOADING: &str = "3bb442e3b1ac4d13a999c0680d418821";
/// What changed in the directories was taken over, or not.
pub const RELOADED: &str = "09249a3519074dff8b101d87a4c8cbdc";
/// The directories or the daemon's own configuration cannot be read.
pub const UNREADABLE: &str = "98f3902b00ff42eb8ad09f5abbcd9afb";
/// Entries were lost because journald, or whoever reads the log, was too slow.
pub const DROPPED: &str = "d88a1dd47a5044f09a3467368bd88d90";
/// Entries of a plugin were lost because it said more than it may.
pub const SAYS_TOO_MUCH: &str = "569d6668ff2c4a6fbd8065d4521c6044";
/// The daemon cannot start, or cannot go on.
pub const START_FAILED: &str = "50f07d10a05b4f39b6d72333f094360b";
