//! The control socket: how plugind is asked how it is, and told what to do, by varlink (<https://varlink.org>).

mod door;
mod interfaces;
mod service;
mod wire;

pub use self::door::Control;
pub use self::service::House;
