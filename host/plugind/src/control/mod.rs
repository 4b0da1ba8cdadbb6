//! The control socket: reports the state of plugind and accepts commands, by varlink (<https://varlink.org>).

mod listener;
mod interfaces;
mod metrics;
mod cleaning;
mod clock;
mod draining;
mod measuring;
mod plugins;
mod profile;
mod service;
mod wire;

pub use self::listener::server;
pub use self::measuring::StateMeasurements;
pub use self::service::ControlContext;
