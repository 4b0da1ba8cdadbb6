//! A subscription to messages that a stream keeps until they were handled.

use crate::{
    journal::messages::MESSAGE_GIVEN_UP,
    listen::{message_delivery::pause_after, subscription::Subscription},
    plugin::subscribe::StreamSubscription,
    remote::availability::pause,
    world::broker::{MESSAGE_BYTES_MAX, message_of},
};
use async_nats::jetstream::{
    self, AckKind, Message,
    consumer::{AckPolicy, PullConsumer, pull::Config},
};
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tracing::{debug, warn};

/// Time after which a request for messages that found none is repeated. Until then, a subscription that ends may
/// receive some, which it gives back.
const REQUEST: Duration = Duration::from_secs(1);

impl Subscription {
    /// Receives messages of a stream until the subscription is ended.
    pub(super) async fn run_stream(self: &Arc<Self>, stream: &StreamSubscription) {
        let mut attempt = 0;
        while self.client().await.is_some() {
            let Ok(context) = self.connection.jetstream().await else { continue };
            match self.consumer(context, stream).await {
                Ok(consumer) => {
                    self.established();
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

    /// The consumer of the subscription, which is made if there is none, or changed if it differs.
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
        let config = Config {
            durable_name: Some(subscribe.consumer(&self.key.plugin).to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: stream.ack_wait,
            max_deliver: stream.max_deliver.map_or(-1, i64::from),
            filter_subject: subject.as_str().to_owned(),
            ..Config::default()
        };
        found.create_consumer(config).await.map_err(|error| format!("consumer of {name}: {error}"))
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
                    (Some(Ok(message)), Some(permit)) => self.handle_kept(message, permit, stream),
                    (Some(Err(error)), _) => return self.refused(&error.to_string()),
                    (Some(Ok(_)), None) | (None, _) => break,
                }
            }
        }
    }

    /// Room for as many messages as possible, at least one; none, if the subscription is ended.
    async fn permits(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            permit = self.room.clone().acquire_owned() => permit.ok()?,
        };
        let mut permits = vec![first];
        while let Ok(permit) = self.room.clone().try_acquire_owned() {
            permits.push(permit);
        }
        Some(permits)
    }

    fn handle_kept(
        self: &Arc<Self>,
        message: Message,
        permit: OwnedSemaphorePermit,
        stream: &StreamSubscription,
    ) {
        let is_excluded = self.key.subscribe.subject.excludes(&message.subject);
        let (this, max) = (self.clone(), stream.max_deliver.map(i64::from));
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

    /// Has the plugin handle a message, and returns what the stream is to do with it.
    async fn handle_delivery(&self, message: &Message, max: Option<i64>) -> AckKind {
        let info = message.info().map(|info| (info.delivered, info.stream_sequence));
        let (deliveries, sequence) = info.unwrap_or((1, 0));
        if deliveries > 1 {
            self.figures.messages.redelivered.add(1);
        }
        // Its reply subject is that of the acknowledgement, which is not the guest's.
        let received = message_of(&message.message);
        let (is_too_large, subject) =
            (received.data.len() > MESSAGE_BYTES_MAX, received.subject.clone());
        if self
            .deliver(crate::world::received_message::ReceivedMessage { reply_to: None, ..received })
            .await
        {
            return AckKind::Ack;
        }
        if is_too_large || max.is_some_and(|max| deliveries >= max) {
            let plugin = &self.key.plugin;
            warn!(message_id = MESSAGE_GIVEN_UP, %plugin, subject, sequence, deliveries, "message given up");
            return AckKind::Term;
        }
        AckKind::Nak(Some(pause_after(deliveries)))
    }
}
