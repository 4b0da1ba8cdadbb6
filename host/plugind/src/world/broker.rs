//! The NATS server, as plugins use it: translates between its messages and those of guests.

use crate::{
    base::subject::is_inbox,
    remote::{availability::Unreachable, nats::NatsConnection, refusals::refusal},
    world::guest_message::GuestMessage,
};
use async_nats::{
    Client, HeaderMap, HeaderName, HeaderValue, Message, PublishError, StatusCode, Subscriber,
    client::PublishErrorKind, jetstream,
};
use bytes::Bytes;
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// The header that has the format of the data.
const CONTENT_TYPE: &str = "Content-Type";
/// The beginning of the headers that the server interprets.
const RESERVED: &str = "nats-";
/// The one of them that a plugin may send: a stream stores a message with the same value once.
const MESSAGE_ID: &str = "nats-msg-id";
/// The largest message that is sent or taken: as much as a plugin may pass in one call.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Time in which a message must have been sent, and a stream must have stored it.
const SENT_WITHIN: Duration = Duration::from_secs(5);

/// The NATS server, if there is one. Clones share its connection.
#[derive(Clone, Debug, Default)]
pub struct Broker(Option<Arc<NatsConnection>>);

/// The delivery of a message that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendDelivery {
    /// To those that listen at that moment.
    Plain,
    /// To a stream, which has stored it when it counts as sent.
    Stored,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The server cannot be reached.
    #[error("{0}")]
    Connection(String),
    /// There was no answer in time.
    #[error("there was no answer in time")]
    TimedOut,
    /// The server refuses it.
    #[error("the server refuses the message: {0}")]
    Refused(String),
    /// No stream has stored it.
    #[error("no stream has stored the message: {0}")]
    NotStored(String),
    /// It cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// Nothing listens on its subject.
    #[error("nothing replies to requests on this subject")]
    NoResponder,
}

impl From<Unreachable> for BrokerError {
    fn from(error: Unreachable) -> Self {
        Self::Connection(error.to_string())
    }
}

impl Broker {
    /// The server at the other end of a connection.
    #[must_use]
    pub fn new(connection: NatsConnection) -> Self {
        Self(Some(Arc::new(connection)))
    }

    /// The connection to it, if one is configured.
    #[must_use]
    pub fn connection(&self) -> Option<&Arc<NatsConnection>> {
        self.0.as_ref()
    }

    fn connection_or_error(&self) -> Result<&NatsConnection, BrokerError> {
        let missing = || BrokerError::Connection("plugind.toml has no [messaging]".to_owned());
        self.0.as_deref().ok_or_else(missing)
    }

    /// Sends a message.
    pub(super) async fn publish(
        &self,
        delivery: SendDelivery,
        subject: String,
        message: &GuestMessage,
    ) -> Result<(), BrokerError> {
        let headers = headers_of(message)?;
        check_size(message)?;
        let (connection, data) = (self.connection_or_error()?, message.data.clone());
        // Before `unless_refused`, which fails at once during an outage: this call waits a moment for the end of one.
        let client = connection.client().await?;
        let sent = async {
            match delivery {
                SendDelivery::Plain => {
                    publish_plain(connection, client, &subject, headers, data).await
                }
                SendDelivery::Stored => store(connection, &subject, headers, data).await,
            }
        };
        let sent = timeout(SENT_WITHIN, unless_refused(connection, &subject, sent)).await;
        sent.map_err(|_| BrokerError::TimedOut)?
    }

    /// Sends a message and waits for up to `max` replies, at most for `timeout`.
    pub(super) async fn request(
        &self,
        subject: String,
        message: &GuestMessage,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<GuestMessage>, BrokerError> {
        let headers = headers_of(message)?;
        check_size(message)?;
        let connection = self.connection_or_error()?;
        let client = connection.client().await?;
        let (deadline, data) = (Instant::now() + timeout, message.data.clone());
        let inbox = client.new_inbox();
        let sent = async {
            let replies = client.subscribe(inbox.clone()).await;
            let replies = replies.map_err(|error| BrokerError::Connection(error.to_string()))?;
            let sent = client.publish_with_reply_and_headers(subject.clone(), inbox, headers, data);
            sent.await.map_err(|error| not_sent(&error))?;
            Ok::<_, BrokerError>(replies)
        };
        let answered = async {
            let sent = timeout_at(deadline, sent).await;
            let replies = sent.map_err(|_| BrokerError::TimedOut)??;
            receive_replies(replies, max, deadline).await
        };
        unless_refused(connection, &subject, answered).await
    }
}

/// Does work on a message to this subject, until the server refuses the message or cannot be reached.
async fn unless_refused<T>(
    connection: &NatsConnection,
    subject: &str,
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let mut errors = connection.errors();
    tokio::select! {
        biased;
        error = refusal(&mut errors, subject) => Err(BrokerError::Refused(error.to_string())),
        done = work => done,
        unreachable = connection.availability().until_unreachable() => Err(unreachable.into()),
    }
}

fn not_sent(error: &PublishError) -> BrokerError {
    match error.kind() {
        PublishErrorKind::Send => BrokerError::Connection(error.to_string()),
        _ => BrokerError::Invalid(error.to_string()),
    }
}

async fn publish_plain(
    connection: &NatsConnection,
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    data: Bytes,
) -> Result<(), BrokerError> {
    let sent = client.publish_with_headers(subject.to_owned(), headers, data).await;
    sent.map_err(|error| not_sent(&error))?;
    let lost = |error: async_nats::Error| BrokerError::Connection(error.to_string());
    match is_inbox(subject) {
        // Each reply has a subject of its own, so `await_refusal_window` would wait for its full time at each.
        true => client.flush().await.map_err(|error| lost(error.into())),
        false => connection.await_refusal_window(client, subject).await.map_err(lost),
    }
}

async fn store(
    connection: &NatsConnection,
    subject: &str,
    headers: HeaderMap,
    data: Bytes,
) -> Result<(), BrokerError> {
    let context = connection.jetstream().await?;
    let not_stored = |error: jetstream::context::PublishError| match error.kind() {
        jetstream::context::PublishErrorKind::TimedOut => BrokerError::TimedOut,
        _ => BrokerError::NotStored(error.to_string()),
    };
    let sent = context.publish_with_headers(subject.to_owned(), headers, data).await;
    sent.map_err(not_stored)?.await.map(drop).map_err(not_stored)
}

/// Receives up to `max` replies until `deadline`, at least one.
async fn receive_replies(
    mut replies: Subscriber,
    max: usize,
    deadline: Instant,
) -> Result<Vec<GuestMessage>, BrokerError> {
    let (mut received, mut bytes) = (Vec::new(), 0);
    while received.len() < max && bytes <= MESSAGE_BYTES_MAX {
        let Ok(Some(reply)) = timeout_at(deadline, replies.next()).await else { break };
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(BrokerError::NoResponder);
        }
        bytes += reply.payload.len();
        received.push(message_of(&reply));
    }
    match received.is_empty() {
        true => Err(BrokerError::TimedOut),
        false => Ok(received),
    }
}

fn check_size(message: &GuestMessage) -> Result<(), BrokerError> {
    match message.data.len() {
        size if size > MESSAGE_BYTES_MAX => Err(BrokerError::Invalid(format!(
            "a message must have at most {MESSAGE_BYTES_MAX} bytes, not {size}"
        ))),
        _ => Ok(()),
    }
}

fn headers_of(message: &GuestMessage) -> Result<HeaderMap, BrokerError> {
    let mut headers = HeaderMap::new();
    let content_type = message.content_type.iter().map(|it| (CONTENT_TYPE, it.as_str()));
    let metadata = message.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in content_type.chain(metadata) {
        let lower = key.to_ascii_lowercase();
        if lower.starts_with(RESERVED) && lower != MESSAGE_ID {
            return Err(BrokerError::Invalid(format!(
                "a key of metadata must not begin with \"Nats-\" as {key:?} does, except Nats-Msg-Id"
            )));
        }
        let name = key.parse::<HeaderName>().ok().filter(|_| !key.is_empty());
        let name = name.ok_or_else(|| {
            BrokerError::Invalid(format!(
                "a key of metadata must consist of visible ASCII characters other than \":\", not {key:?}"
            ))
        })?;
        let value = value
            .parse::<HeaderValue>()
            .map_err(|_| BrokerError::Invalid(format!("the metadata {key:?} must be one line")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// A message that was received.
#[must_use]
pub fn message_of(message: &Message) -> GuestMessage {
    let (mut content_type, mut metadata) = (None, Vec::new());
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        for value in values {
            let name: &str = name.as_ref();
            match name.eq_ignore_ascii_case(CONTENT_TYPE) && content_type.is_none() {
                true => content_type = Some(value.to_string()),
                false => metadata.push((name.to_owned(), value.to_string())),
            }
        }
    }
    metadata.sort();
    GuestMessage {
        subject: Some(message.subject.to_string()),
        reply_to: message.reply.as_ref().map(ToString::to_string),
        content_type,
        metadata,
        data: Bytes::clone(&message.payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(metadata: &[(&str, &str)]) -> GuestMessage {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        GuestMessage {
            metadata: metadata.iter().map(owned).collect(),
            content_type: Some("text/plain".to_owned()),
            ..GuestMessage::default()
        }
    }

    #[test]
    fn metadata_becomes_headers_and_none_that_the_server_interprets() {
        let headers = headers_of(&with(&[("a", "1"), ("a", "2"), ("Nats-Msg-Id", "x")])).unwrap();
        assert_eq!(headers.get_all("a").count(), 2);
        assert_eq!(headers.get(CONTENT_TYPE).map(HeaderValue::as_str), Some("text/plain"));
        for (key, value) in [
            ("Nats-Rollup", "all"),
            ("nats-expected-stream", "x"),
            ("a b:", "x"),
            ("", "x"),
            ("a", "b\r\nPUB x 0\r\n"),
        ] {
            assert!(headers_of(&with(&[(key, value)])).is_err(), "{key:?} {value:?}");
        }
    }
}
