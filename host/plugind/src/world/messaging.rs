//! `wasi:messaging`: messages that a plugin sends, to the subjects that it was granted.

use crate::{
    base::{
        figures::PluginFigures,
        subject::{SubjectPattern, is_inbox},
    },
    world::{
        bindings::messaging::wasi::messaging::{
            producer,
            request_reply::{self, HostRequestOptions},
            types::{self, Error, HostClient, HostMessage},
        },
        broker::{Broker, BrokerError, SendDelivery},
        guest_message::GuestMessage,
        messaging_client::{MessagingClient, MessagingOptions},
    },
};
use std::time::Duration;
use wasmtime::component::{HasData, Resource, ResourceTable};

/// The names by which a plugin opens a client whose messages are delivered to those that listen.
const PLAIN: [&str; 2] = ["", "default"];
/// The name by which it opens one whose messages a stream has stored when they are sent.
const STREAM: &str = "jetstream";
/// The most replies to a request.
const REPLIES_MAX: u32 = 1000;
/// The time for replies, unless a request says otherwise.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// The rights of the instances of a generation to send messages.
#[derive(Default)]
pub struct Shared {
    publish: Vec<SubjectPattern>,
    broker: Broker,
}

impl Shared {
    pub(super) fn new(publish: &[SubjectPattern], broker: &Broker) -> Self {
        Self { publish: publish.to_vec(), broker: broker.clone() }
    }

    /// Whether a message may be sent to this subject.
    fn check(&self, subject: &str) -> Result<(), Error> {
        let parsed = subject.parse::<SubjectPattern>();
        let parsed = parsed.map_err(|error| Error::Other(error.to_string()))?;
        if !parsed.is_single() {
            let message = format!(
                "a message cannot be sent to a subject with wildcards, such as {subject:?}"
            );
            return Err(Error::Other(message));
        }
        match self.publish.iter().any(|pattern| pattern.matches(subject)) {
            true => Ok(()),
            false => Err(Error::PermissionDenied(format!(
                "messages to {subject:?} are not granted; write publish = [{subject:?}] below [grants] in the manifest"
            ))),
        }
    }
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// One instance's use of messages.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
    pub(super) figures: &'a PluginFigures,
    pub(super) table: &'a mut ResourceTable,
    /// Bytes by which its messages have grown.
    pub(super) grown: &'a mut usize,
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::TimedOut => Self::Timeout,
            BrokerError::Connection(_) => Self::Connection(error.to_string()),
            BrokerError::Refused(text) => Self::PermissionDenied(text),
            BrokerError::NotStored(_) | BrokerError::Invalid(_) | BrokerError::NoResponder => {
                Self::Other(error.to_string())
            }
        }
    }
}

type MessagingResult<T> = wasmtime::Result<Result<T, Error>>;

impl Guest<'_> {
    fn change(
        &mut self,
        message: &Resource<GuestMessage>,
        change: impl FnOnce(&mut GuestMessage),
    ) -> wasmtime::Result<()> {
        let message = self.table.get_mut(message)?;
        let before = message.bytes();
        change(message);
        *self.grown = self.grown.saturating_add(message.bytes().saturating_sub(before));
        Ok(())
    }
}

async fn publish(
    shared: &Shared,
    figures: &PluginFigures,
    delivery: SendDelivery,
    subject: String,
    message: GuestMessage,
) -> Result<(), Error> {
    shared.broker.publish(delivery, subject, &message).await?;
    figures.messages.published.add(1);
    Ok(())
}

impl types::Host for Guest<'_> {}

impl HostClient for Guest<'_> {
    fn connect(&mut self, name: String) -> MessagingResult<Resource<MessagingClient>> {
        let delivery = match name.as_str() {
            STREAM => SendDelivery::Stored,
            name if PLAIN.contains(&name) => SendDelivery::Plain,
            name => {
                let message = format!(
                    "the name of a client must be \"default\" or \"{STREAM}\", not {name:?}"
                );
                return Ok(Err(Error::Other(message)));
            }
        };
        Ok(Ok(self.table.push(MessagingClient(delivery))?))
    }

    fn disconnect(&mut self, _: Resource<MessagingClient>) -> MessagingResult<()> {
        // The connection is the daemon's.
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<MessagingClient>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}

impl HostMessage for Guest<'_> {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<GuestMessage>> {
        *self.grown = self.grown.saturating_add(data.len());
        Ok(self.table.push(GuestMessage { data: data.into(), ..GuestMessage::default() })?)
    }

    fn topic(&mut self, message: Resource<GuestMessage>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.subject.clone())
    }

    fn content_type(
        &mut self,
        message: Resource<GuestMessage>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.content_type.clone())
    }

    fn set_content_type(
        &mut self,
        message: Resource<GuestMessage>,
        content_type: String,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| message.content_type = Some(content_type))
    }

    fn data(&mut self, message: Resource<GuestMessage>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&message)?.data.to_vec())
    }

    fn set_data(&mut self, message: Resource<GuestMessage>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.change(&message, |message| message.data = data.into())
    }

    fn metadata(
        &mut self,
        message: Resource<GuestMessage>,
    ) -> wasmtime::Result<Option<Vec<(String, String)>>> {
        let metadata = self.table.get(&message)?.metadata.clone();
        Ok(Some(metadata).filter(|metadata| !metadata.is_empty()))
    }

    fn add_metadata(
        &mut self,
        message: Resource<GuestMessage>,
        key: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| {
            message.metadata.retain(|(known, _)| *known != key);
            message.metadata.push((key, value));
        })
    }

    fn set_metadata(
        &mut self,
        message: Resource<GuestMessage>,
        metadata: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| message.metadata = metadata)
    }

    fn remove_metadata(
        &mut self,
        message: Resource<GuestMessage>,
        key: String,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| message.metadata.retain(|(known, _)| *known != key))
    }

    fn drop(&mut self, message: Resource<GuestMessage>) -> wasmtime::Result<()> {
        self.table.delete(message)?;
        Ok(())
    }
}

impl producer::Host for Guest<'_> {
    async fn send(
        &mut self,
        client: Resource<MessagingClient>,
        topic: String,
        message: Resource<GuestMessage>,
    ) -> MessagingResult<()> {
        let MessagingClient(delivery) = *self.table.get(&client)?;
        // The guest passes an owned handle, so the message is gone from its table, even if it is not sent.
        let message = self.table.delete(message)?;
        if let Err(error) = self.shared.check(&topic) {
            return Ok(Err(error));
        }
        Ok(publish(self.shared, self.figures, delivery, topic, message).await)
    }
}

impl HostRequestOptions for Guest<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<MessagingOptions>> {
        Ok(self.table.push(MessagingOptions::default())?)
    }

    fn set_timeout_ms(
        &mut self,
        options: Resource<MessagingOptions>,
        timeout_ms: u32,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.timeout = Some(Duration::from_millis(timeout_ms.into()));
        Ok(())
    }

    fn set_expected_replies(
        &mut self,
        options: Resource<MessagingOptions>,
        expected_replies: u32,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.replies = Some(expected_replies);
        Ok(())
    }

    fn drop(&mut self, options: Resource<MessagingOptions>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl request_reply::Host for Guest<'_> {
    async fn request(
        &mut self,
        client: Resource<MessagingClient>,
        topic: String,
        message: Resource<GuestMessage>,
        options: Option<Resource<MessagingOptions>>,
    ) -> MessagingResult<Vec<Resource<GuestMessage>>> {
        self.table.get(&client)?;
        let message = self.table.get(&message)?.clone();
        // The guest passes an owned handle of the options.
        let options = options.map(|options| self.table.delete(options)).transpose()?;
        let MessagingOptions { timeout, replies } = options.unwrap_or_default();
        if let Err(error) = self.shared.check(&topic) {
            return Ok(Err(error));
        }
        let timeout = timeout.unwrap_or(REPLY_TIMEOUT);
        let max = replies.unwrap_or(1).clamp(1, REPLIES_MAX);
        let max = usize::try_from(max).unwrap_or(1);
        let replies = self.shared.broker.request(topic, &message, max, timeout).await;
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return Ok(Err(error.into())),
        };
        self.figures.messages.published.add(1);
        let mut given = Vec::with_capacity(replies.len());
        for reply in replies {
            *self.grown = self.grown.saturating_add(reply.bytes());
            given.push(self.table.push(reply)?);
        }
        Ok(Ok(given))
    }

    async fn reply(
        &mut self,
        reply_to: Resource<GuestMessage>,
        message: Resource<GuestMessage>,
    ) -> MessagingResult<()> {
        let subject = self.table.get(&reply_to)?.reply_to.clone();
        let message = self.table.delete(message)?;
        // A reply may be unwanted, and is not an error then.
        let Some(subject) = subject else { return Ok(Ok(())) };
        // The sender of the request chose this subject. Only an inbox needs no grant: otherwise a sender could have the
        // plugin send to subjects that the sender itself may not use.
        if !is_inbox(&subject)
            && let Err(error) = self.shared.check(&subject)
        {
            return Ok(Err(error));
        }
        Ok(publish(self.shared, self.figures, SendDelivery::Plain, subject, message).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_a_granted_subject_and_no_other() {
        let publish = ["orders.>".parse().unwrap(), "audit".parse().unwrap()];
        let shared = Shared::new(&publish, &Broker::default());
        for subject in ["orders.new", "orders.new.eu", "audit"] {
            assert!(shared.check(subject).is_ok(), "{subject}");
        }
        for subject in ["orders", "audit.x", "invoices"] {
            let refused = shared.check(subject).unwrap_err();
            let Error::PermissionDenied(text) = refused else { panic!("{refused:?}") };
            assert!(text.contains(&format!("write publish = [\"{subject}\"]")), "{text}");
        }
        for subject in ["", "orders.*", "orders.>", "a b", "orders.new\r\nPUB x 0\r\n"] {
            assert!(matches!(shared.check(subject), Err(Error::Other(_))), "{subject:?}");
        }
    }
}
