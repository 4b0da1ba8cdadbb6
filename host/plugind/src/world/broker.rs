//! The server of messages, as plugins use it: each message is translated here.

use crate::{
    remote::{availability::Unreachable, nats::NatsConnection},
    world::received_message::ReceivedMessage,
};
use async_nats::{
    Client, HeaderMap, HeaderName, HeaderValue, Message, StatusCode, client::PublishErrorKind,
};
use bytes::Bytes;
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// The header that has the format of the data.
const CONTENT_TYPE: &str = "Content-Type";
/// The beginning of the headers that the server interprets.
const RESERVED: &str = "nats-";
/// The one of them that a plugin may send: a stream stores a message with the same value once.
const MESSAGE_ID: &str = "nats-msg-id";
/// The largest message that is sent or taken: as much as a plugin may pass in one call.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Time in which a stream must have stored a message.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// The server of messages, if there is one. Clones are the same.
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
    /// There was no reply in time.
    #[error("there was no reply in time")]
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

    async fn client(&self) -> Result<&Client, BrokerError> {
        Ok(self.connection_or_error()?.client().await?)
    }

    /// Sends a message.
    pub(super) async fn publish(
        &self,
        delivery: SendDelivery,
        subject: String,
        message: &ReceivedMessage,
    ) -> Result<(), BrokerError> {
        let headers = headers_of(message)?;
        check_size(message)?;
        match delivery {
            SendDelivery::Plain => {
                let client = self.client().await?;
                let sent = client.publish_with_headers(subject, headers, message.data.clone());
                sent.await.map_err(|error| match error.kind() {
                    PublishErrorKind::Send => BrokerError::Connection(error.to_string()),
                    _ => BrokerError::Invalid(error.to_string()),
                })?;
                let flushed = timeout_at(Instant::now() + STORED_WITHIN, client.flush()).await;
                let flushed = flushed.map_err(|_| BrokerError::TimedOut)?;
                flushed.map_err(|error| BrokerError::Connection(error.to_string()))
            }
            SendDelivery::Stored => {
                let context = self.connection_or_error()?.jetstream().await?;
                let not_stored =
                    |error: &dyn std::error::Error| BrokerError::NotStored(error.to_string());
                let stored = async {
                    let sent =
                        context.publish_with_headers(subject, headers, message.data.clone()).await;
                    let stored = sent.map_err(|error| not_stored(&error))?.await;
                    stored.map(drop).map_err(|error| not_stored(&error))
                };
                let stored = timeout_at(Instant::now() + STORED_WITHIN, stored).await;
                stored.map_err(|_| BrokerError::TimedOut)?
            }
        }
    }

    /// Sends a message and waits for up to `max` replies, at most for `timeout`.
    pub(super) async fn request(
        &self,
        subject: String,
        message: &ReceivedMessage,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedMessage>, BrokerError> {
        let headers = headers_of(message)?;
        check_size(message)?;
        let client = self.client().await?;
        let lost = |error: &dyn std::error::Error| BrokerError::Connection(error.to_string());
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.map_err(|error| lost(&error))?;
        client
            .publish_with_reply_and_headers(subject, inbox, headers, message.data.clone())
            .await
            .map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let (deadline, mut received, mut bytes) = (Instant::now() + timeout, Vec::new(), 0);
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
}

fn check_size(message: &ReceivedMessage) -> Result<(), BrokerError> {
    match message.data.len() {
        size if size > MESSAGE_BYTES_MAX => Err(BrokerError::Invalid(format!(
            "a message must have at most {MESSAGE_BYTES_MAX} bytes, not {size}"
        ))),
        _ => Ok(()),
    }
}

fn headers_of(message: &ReceivedMessage) -> Result<HeaderMap, BrokerError> {
    let mut headers = HeaderMap::new();
    let content_type = message.content_type.iter().map(|it| (CONTENT_TYPE, it.as_str()));
    let metadata = message.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in content_type.chain(metadata) {
        let lower = key.to_ascii_lowercase();
        if lower.starts_with(RESERVED) && lower != MESSAGE_ID {
            return Err(BrokerError::Invalid(format!(
                "a key of metadata must not begin with \"Nats-\", except Nats-Msg-Id, not {key:?}"
            )));
        }
        let name = key.parse::<HeaderName>().ok().filter(|_| !key.is_empty());
        let name = name.ok_or_else(|| {
            BrokerError::Invalid(format!(
                "a key of metadata must have letters, digits and other ASCII signs but \":\", not {key:?}"
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
pub fn message_of(message: &Message) -> ReceivedMessage {
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
    ReceivedMessage {
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

    fn with(metadata: &[(&str, &str)]) -> ReceivedMessage {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ReceivedMessage {
            metadata: metadata.iter().map(owned).collect(),
            content_type: Some("text/plain".to_owned()),
            ..ReceivedMessage::default()
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
