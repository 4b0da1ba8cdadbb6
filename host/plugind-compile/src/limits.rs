//! The limits for one component, which no request can exceed.

use clap::Args;

/// The bounds, as they are written on the command line.
#[derive(Args)]
pub(crate) struct RequestLimits {
    /// Limit the address space of a worker, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 30)]
    pub(crate) memory_max: u64,
    /// Limit the processor time for compiling one component, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) timeout: u64,
    /// Refuse components that are larger than this, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub(crate) component_max: u64,
}
