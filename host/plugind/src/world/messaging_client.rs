//! The resources of `wasi:messaging` besides messages: clients, and the options of a request.

use crate::world::broker::SendDelivery;
use std::time::Duration;

/// A client that a guest opened.
#[derive(Clone, Copy, Debug)]
pub struct MessagingClient(pub(super) SendDelivery);

/// The options of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagingOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) replies: Option<u32>,
}
