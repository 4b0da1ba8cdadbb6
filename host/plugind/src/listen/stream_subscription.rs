//! A subscription to messages that a stream keeps until they have been handled.

use crate::{
    base::{name::PluginName, subject::SubjectPattern},
    journal::messages::MESSAGE_GIVEN_UP,
    listen::{message_delivery::pause_after, subscription::Subscription},
    plugin::subscribe::StreamSubscription,
    remote::availability::pause,
    world::{broker::message_of, guest_message::GuestMessage},
};
use async_nats::jetstream::{
    self, AckKind, Message,
    consumer::{self, AckPolicy, PullConsumer, pull::Config},
    context::ConsumerInfoErrorKind,
};
use futures::StreamExt;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{debug, warn};

/// Time after which a request for messages that found none is repeated. Until then, a subscription that ends may
/// receive some, which it gives back.
const REQUEST: Duration = Duration::from_secs(1);
/// The most messages of a request: fewer than may wait for the reader of a subscription, so that none is dropped.
const BATCH_MAX: usize = 512;
/// The attempts to make a consumer that others make at the same time.
const CREATE_TRIES: usize = 5;

impl Subscription {
    /// Receives messages of a stream until the subscription is ended.
    pub(super) async fn run_stream(self: &Arc<Self>, stream: &StreamSubscription) {
        let mut attempt = 0;
        while self.client().await.is_some() {
            let Ok(context) = self.connection.jetstream().await else { continue };
            match self.consumer(context, stream).await {
                Ok(consumer) => {
                    self.note_established();
                    attempt = 0;
                    self.receive_batches(&consumer, stream).await;
                }
                Err(error) => self.refused(&error),
            }
            attempt += 1;
            tokio::select! {
                () = self.ending.cancelled() => return,
                () = sleep(pause(attempt)) => (),
            }
        }
    }

    /// The consumer of the subscription, which is made if there is none, or changed if it differs. Its subject is changed
    /// only for the plugin that has set it: others with the same queue would receive the wrong messages.
    async fn consumer(
        &self,
        context: &jetstream::Context,
        stream: &StreamSubscription,
    ) -> Result<PullConsumer, String> {
        let (name, subscribe) = (&stream.name, &self.key.subscribe);
        let subject = &subscribe.subject;
        let found = context.get_stream(name.as_str()).await.map_err(|error| {
            format!(
                "stream {name}: {error}; if it does not exist, create it: `nats stream add {name} --subjects \
                 \"{subject}\"`"
            )
        })?;
        // Of two that make it at the same time, the server takes the settings of the last one.
        let _one_at_a_time = self.consumers.lock().await;
        for _ in 0..CREATE_TRIES {
            if let Some(consumer) = self.consumer_of(&found, stream).await? {
                return Ok(consumer);
            }
        }
        Err(format!(
            "consumer {} of {name} is changed by others at the same time",
            self.consumer_name()
        ))
    }

    fn consumer_name(&self) -> &str {
        self.key.subscribe.consumer(&self.key.plugin)
    }

    /// Looks up the consumer once, and creates or changes it. None if another daemon has created it meanwhile: then it
    /// must be looked up again.
    async fn consumer_of(
        &self,
        found: &jetstream::stream::Stream,
        stream: &StreamSubscription,
    ) -> Result<Option<PullConsumer>, String> {
        let (name, consumer) = (&stream.name, self.consumer_name());
        let failed =
            |error: &dyn std::error::Error| format!("consumer {consumer} of {name}: {error}");
        match found.consumer_info(consumer).await {
            Ok(existing) => {
                let (plugin, subject) = (&self.key.plugin, &self.key.subscribe.subject);
                let description = description_for(plugin, subject, &existing.config);
                let description = description.map_err(|error| {
                    format!(
                        "consumer {consumer} of {name} {error}; write another queue below [[subscribe]], or remove the consumer: \
                         `nats consumer rm {name} {consumer}`"
                    )
                })?;
                let config = self.consumer_config(stream, description);
                found.create_consumer(config).await.map(Some).map_err(|error| failed(&error))
            }
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
                let config = self.consumer_config(stream, description_of(&self.key.plugin));
                match found.create_consumer(config).await {
                    Ok(made) => Ok(Some(made)),
                    // It is there although it was not a moment ago.
                    Err(_) if found.consumer_info(consumer).await.is_ok() => Ok(None),
                    Err(error) => Err(failed(&error)),
                }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    fn consumer_config(&self, stream: &StreamSubscription, description: String) -> Config {
        let (consumer, subject) = (self.consumer_name(), &self.key.subscribe.subject);
        Config {
            durable_name: Some(consumer.to_owned()),
            description: Some(description),
            ack_policy: AckPolicy::Explicit,
            ack_wait: stream.ack_wait,
            // The server would count deliveries of which the plugin knows nothing, and drop the message after the last.
            max_deliver: -1,
            filter_subject: subject.as_str().to_owned(),
            ..Config::default()
        }
    }

    /// Receives messages, as many as there is room for, until the subscription is ended or the consumer fails.
    async fn receive_batches(
        self: &Arc<Self>,
        consumer: &PullConsumer,
        stream: &StreamSubscription,
    ) {
        loop {
            let Some(mut permits) = self.permits().await else { return };
            let batch = consumer.batch().max_messages(permits.len()).expires(REQUEST).messages();
            let mut batch = match batch.await {
                Ok(batch) => batch,
                Err(error) => return self.interrupted(&error.to_string()),
            };
            loop {
                let message = tokio::select! {
                    biased;
                    message = batch.next() => message,
                    error = self.connection.availability().until_unreachable() => {
                        return self.interrupted(&error.to_string());
                    }
                };
                match (message, permits.pop()) {
                    (Some(Ok(message)), Some(_)) if self.is_of_another(&message) => {
                        return self.give_back(&message).await;
                    }
                    (Some(Ok(message)), Some(permit)) => self.handle_kept(message, permit, stream),
                    (Some(Err(error)), _) => return self.refused(&error.to_string()),
                    (Some(Ok(_)), None) | (None, _) => break,
                }
            }
        }
    }

    /// Whether a message has a subject that was not subscribed to: another daemon has changed the consumer.
    fn is_of_another(&self, message: &Message) -> bool {
        let (own, subject) = (&self.key.subscribe.subject, &message.subject);
        !own.matches(subject) && !own.excludes(subject)
    }

    /// Gives a message back, and looks at the consumer again.
    async fn give_back(&self, message: &Message) {
        if let Err(error) = message.ack_with(AckKind::Nak(None)).await {
            // The stream delivers it again.
            debug!(plugin = %self.key.plugin, %error, "message not acknowledged");
        }
        let consumer = self.consumer_name();
        self.refused(&format!("the subject of consumer {consumer} has changed"));
    }

    /// Room for as many messages as possible, at least one; none, if the subscription is ended.
    async fn permits(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            permit = self.room.semaphore().clone().acquire_owned() => permit.ok()?,
        };
        Some(with_further(first, self.room.semaphore()))
    }

    fn handle_kept(
        self: &Arc<Self>,
        message: Message,
        permit: OwnedSemaphorePermit,
        stream: &StreamSubscription,
    ) {
        let is_excluded = self.key.subscribe.subject.excludes(&message.subject);
        let (this, max) = (self.clone(), stream.max_deliver);
        self.spawn(async move {
            let answer = match (is_excluded, this.ending.is_cancelled()) {
                (true, _) => AckKind::Term,
                // Another member of the group gets a message that arrives when this one ends.
                (false, true) => AckKind::Nak(None),
                (false, false) => this.handle_delivery(&message, max).await,
            };
            if let Err(error) = message.ack_with(answer).await {
                // The stream delivers it again.
                debug!(plugin = %this.key.plugin, %error, "message not acknowledged");
            }
            drop(permit);
        });
    }

    /// Has the plugin handle a message, and returns the acknowledgement for the stream.
    async fn handle_delivery(&self, message: &Message, max: Option<u32>) -> AckKind {
        let info = message.info().map(|info| (info.delivered, info.stream_sequence));
        let (deliveries, sequence) = info.unwrap_or((1, 0));
        if deliveries > 1 {
            self.figures.messages.redelivered.add(1);
        }
        // Its reply subject is that of the acknowledgement, which is not the guest's.
        let received = GuestMessage { reply_to: None, ..message_of(&message.message) };
        let subject = received.subject.clone();
        match self.deliver(received).await {
            Ok(()) => AckKind::Ack,
            Err(why) if why.is_final(deliveries, max) => {
                if let Some(skipped) = self.given_up.note(Instant::now()) {
                    warn!(
                        message_id = MESSAGE_GIVEN_UP,
                        plugin = %self.key.plugin,
                        subject,
                        sequence,
                        deliveries,
                        skipped,
                        "message given up"
                    );
                }
                AckKind::Term
            }
            Err(_) => AckKind::Nak(Some(pause_after(deliveries))),
        }
    }
}

/// A permit, and those that are available, as many as a request may have.
fn with_further(first: OwnedSemaphorePermit, room: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let further = std::iter::from_fn(|| room.clone().try_acquire_owned().ok());
    std::iter::once(first).chain(further.take(BATCH_MAX - 1)).collect()
}

/// The description of a consumer whose subject this plugin has set.
fn description_of(plugin: &PluginName) -> String {
    format!("messages of the plugin {plugin}")
}

/// The description that an existing consumer has with this subject: it names the plugin that has set the subject.
fn description_for(
    plugin: &PluginName,
    subject: &SubjectPattern,
    existing: &consumer::Config,
) -> Result<String, String> {
    let own = description_of(plugin);
    let description = existing.description.clone().filter(|it| !it.is_empty());
    // Empty, if it has none or more than one.
    let existing_subject = &existing.filter_subject;
    if existing_subject == subject.as_str() {
        return Ok(description.unwrap_or(own));
    }
    match description {
        Some(description) if description == own => Ok(own),
        description => Err(format!(
            "must have the subject \"{subject}\", not {existing_subject:?} (its description: {:?})",
            description.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(subject: &str, description: &str) -> consumer::Config {
        consumer::Config {
            filter_subject: subject.to_owned(),
            description: Some(description.to_owned()),
            ..consumer::Config::default()
        }
    }

    #[tokio::test]
    async fn a_request_has_no_more_messages_than_may_wait() {
        for (room, requested) in [(1, 1), (3, 3), (BATCH_MAX + 1, BATCH_MAX)] {
            let room = Arc::new(Semaphore::new(room));
            let first = room.clone().acquire_owned().await.unwrap();
            assert_eq!(with_further(first, &room).len(), requested);
        }
    }

    #[test]
    fn only_the_plugin_that_set_the_subject_of_a_consumer_changes_it() {
        let (plugin, other) = ("one".parse().unwrap(), "two".parse().unwrap());
        let (subject, own) = ("orders.*".parse().unwrap(), description_of(&plugin));
        for (existing, description) in [
            (consumer("orders.*", &own), Some(&own)),
            (consumer("orders.*", ""), Some(&own)),
            (consumer("orders.*", "by hand"), Some(&"by hand".to_owned())),
            (consumer("orders.*", &description_of(&other)), Some(&description_of(&other))),
            (consumer("invoices", &own), Some(&own)),
            (consumer("invoices", &description_of(&other)), None),
            (consumer("invoices", "by hand"), None),
            (consumer("", ""), None),
        ] {
            let found = description_for(&plugin, &subject, &existing);
            assert_eq!(found.as_ref().ok(), description, "{existing:?}");
        }
    }
}
