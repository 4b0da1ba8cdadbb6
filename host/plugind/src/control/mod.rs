//! The control socket: how plugind is asked how it is, and told what to do, by varlink.

pub mod api;
