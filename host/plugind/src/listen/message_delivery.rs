//! The delivery of a message to an instance of its plugin.

use crate::{
    base::name::PluginName,
    listen::given_back::GivenBack,
    pool::{
        Reply,
        call::{Call, NotServed},
        instances::Pool,
    },
    route::table::TableReader,
    world::{broker::MESSAGE_BYTES_MAX, guest_message::GuestMessage},
};
use std::{sync::Arc, time::Duration};

/// The pauses before a message is delivered again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a message was not handled.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    /// No instance serves.
    #[error("the plugin does not serve")]
    NotServed,
    /// Too many calls wait, or no instance had room in time.
    #[error("no instance had room for the message in time")]
    Busy,
    /// It has more bytes than a plugin may receive.
    #[error("the message must have at most {MESSAGE_BYTES_MAX} bytes, not {0}")]
    TooLarge(usize),
    /// The guest took too long.
    #[error("the plugin did not handle the message within limits.request-timeout")]
    TimedOut,
    /// The guest failed.
    #[error("{0}")]
    Failed(String),
}

impl Undelivered {
    /// Whether the message is given up after this many `deliveries`, of which `max` are allowed. A lack of room is not
    /// a failure of the plugin, so the stream delivers the message again.
    pub(super) fn is_final(&self, deliveries: i64, max: Option<u32>) -> bool {
        match self {
            Self::TooLarge(_) => true,
            Self::NotServed | Self::Busy => false,
            Self::TimedOut | Self::Failed(_) => max.is_some_and(|max| deliveries >= max.into()),
        }
    }
}

/// The instances of a plugin that serve at this moment.
pub(super) fn pool_of(reader: &TableReader, plugin: &PluginName) -> Option<Arc<Pool>> {
    reader.table().subscriber(plugin).and_then(|entry| entry.pool.clone())
}

/// Has an instance of a plugin handle a message: of the pool that serves, or of the last one of a plugin that is stopped.
pub(super) async fn deliver(
    reader: &TableReader,
    plugin: &PluginName,
    last: impl Fn() -> Option<Arc<Pool>>,
    message: GuestMessage,
) -> Result<(), Undelivered> {
    if message.data.len() > MESSAGE_BYTES_MAX {
        return Err(Undelivered::TooLarge(message.data.len()));
    }
    let mut message = Box::new(message);
    let mut given_back = GivenBack::none();
    loop {
        let pool = pool_of(reader, plugin).or_else(&last).filter(|pool| given_back.allows(pool));
        let pool = pool.ok_or(Undelivered::NotServed)?;
        match pool.call(Call::Message(message)).await {
            Ok(Reply::Message) => return Ok(()),
            Err(NotServed::Draining(Call::Message(returned))) => {
                given_back.note(&pool);
                message = returned;
            }
            Err(NotServed::Busy(_)) => return Err(Undelivered::Busy),
            Err(NotServed::TimedOut) => return Err(Undelivered::TimedOut),
            Err(NotServed::Failed(error)) => return Err(Undelivered::Failed(error.to_string())),
            Ok(Reply::Http(_) | Reply::Stream | Reply::Datagram(_) | Reply::WebSocket)
            | Err(NotServed::Draining(_)) => return Err(Undelivered::NotServed),
        }
    }
}

/// The pause before the next delivery of a message, by the number of its deliveries so far.
pub(super) fn pause_after(deliveries: i64) -> Duration {
    let doublings = u32::try_from(deliveries.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
    (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_that_the_plugin_failed_is_given_up() {
        let failed = || Undelivered::Failed("trap".to_owned());
        for (why, deliveries, max, is_final) in [
            (failed(), 2, Some(2), true),
            (Undelivered::TimedOut, 3, Some(2), true),
            (failed(), 1, Some(2), false),
            (failed(), 100, None, false),
            (Undelivered::Busy, 2, Some(2), false),
            (Undelivered::NotServed, 100, Some(1), false),
            (Undelivered::TooLarge(MESSAGE_BYTES_MAX + 1), 1, None, true),
        ] {
            assert_eq!(why.is_final(deliveries, max), is_final, "{why} {deliveries} {max:?}");
        }
    }

    #[test]
    fn a_message_is_delivered_again_after_pauses_that_grow_to_a_limit() {
        let pauses: Vec<_> = [-1, 0, 1, 2, 3, 9, 10, i64::MAX].map(pause_after).into();
        let milliseconds: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(milliseconds, [100, 100, 100, 200, 400, 25_600, 30_000, 30_000]);
    }
}
