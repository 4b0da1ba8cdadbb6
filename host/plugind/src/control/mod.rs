//! The control socket: how plugind is asked how it is, and told what to do, by varlink (<https://varlink.org>).

mod listener;
mod interfaces;
mod service;
mod wire;

pub use self::listener::server;
pub use self::service::ControlContext;
