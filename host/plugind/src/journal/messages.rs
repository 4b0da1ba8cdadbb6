//! The identifiers of the events that can be searched for by MESSAGE_ID=, each explained in `units/plugind.catalog`.
//!
//! An identifier never changes, and is never used for another event. `systemd-id128 new` creates one.

/// Every required plugin is ready, and so is the daemon.
pub const READY: &str = "4885044bd7704a9fb22438914be7a5d1";
/// A new generation of a plugin serves.
pub const PLUGIN_READY: &str = "1cd9bcfa04a24f83a6c27cdf27b82087";
/// A version of a plugin cannot be used.
pub const PLUGIN_FAILED: &str = "df86524a694a4e1bb5367f78761a5239";
/// The newest version of a plugin failed at the start, and the version that served last serves.
pub const PREVIOUS_VERSION: &str = "7cde9633b63f41cead26a458ca04864a";
/// The component of a plugin was removed or masked, and so the plugin is removed.
pub const PLUGIN_REMOVED: &str = "d7a98a023fc54c43b9025965cfe2d59a";
/// An operator stopped a plugin.
pub const PLUGIN_STOPPED: &str = "d41af5c360d84caa85b9471684eab92b";
/// The last instance of a plugin that starts on demand was stopped, since it had no work.
pub const PLUGIN_IDLE: &str = "921590ced09540b9a9398e6fe3c28f3f";
/// A request, connection or datagram has started an instance of a plugin that starts on demand.
pub const PLUGIN_STARTED_ON_DEMAND: &str = "284c60204f904e45a5cd7bfcdd52decb";
/// A background program returned successfully and is not restarted.
pub const PROGRAM_FINISHED: &str = "34a9998be6e84d92a50c1ae904de008c";
/// An instance of a plugin failed.
pub const INSTANCE_FAILED: &str = "01a385bb88854d74a7ab1d00035f1b56";
/// A reload was requested, and the directories are read again.
pub const RELOAD_STARTED: &str = "3bb442e3b1ac4d13a999c0680d418821";
/// A reload has ended.
pub const RELOAD_FINISHED: &str = "09249a3519074dff8b101d87a4c8cbdc";
/// A plugin directory or `plugind.toml` cannot be read or is invalid.
pub const CONFIGURATION_UNREADABLE: &str = "98f3902b00ff42eb8ad09f5abbcd9afb";
/// Entries were lost because the journal, or the reader of standard error, was too slow.
pub const DROPPED: &str = "d88a1dd47a5044f09a3467368bd88d90";
/// Entries of a plugin were dropped because it exceeded its log rate.
pub const LOG_RATE_EXCEEDED: &str = "569d6668ff2c4a6fbd8065d4521c6044";
/// Requests to a plugin failed.
pub const REQUESTS_FAILED: &str = "daace9582b714084bdf57b0764eeca9b";
/// The NATS server refuses a subscription of a plugin.
pub const SUBSCRIPTION_FAILED: &str = "ec3bd33c83fc4f2082b255081e1df3fd";
/// A message of a stream was delivered to a plugin as often as it may be, or is too large, and is not delivered again.
pub const MESSAGE_GIVEN_UP: &str = "aa73680328684c8f952aee6f55c257be";
/// A request was answered; only sockets with an access log have this.
pub const REQUEST_SERVED: &str = "3f350c7b626d464abb7940b571439e9b";
/// The daemon ends because it had nothing to do for long.
pub const EXITING_ON_IDLE: &str = "4172cd5ad3c041438777d19ba00ef011";
/// The system reported memory pressure, and the daemon has freed memory.
pub const MEMORY_PRESSURE: &str = "d467b290cb4b40dcaf7ef8a6b56e83fa";
/// The daemon exits before it is ready.
pub const STARTUP_FAILED: &str = "50f07d10a05b4f39b6d72333f094360b";
/// The daemon exits after it was ready.
pub const DAEMON_FAILED: &str = "b0097b4ca0a74ed6b1f46f8533f2d770";
