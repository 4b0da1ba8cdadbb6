//! One subscription of a plugin: it is established, and again after each outage, until it is ended.

use crate::{
    base::{figures::PluginFigures, name::PluginName},
    journal::messages::SUBSCRIPTION_FAILED,
    listen::{
        lost_messages::{Loss, LostMessages},
        message_delivery::{Undelivered, deliver, pool_of},
        message_room::MessageRoom,
        repeated_warning::RepeatedWarning,
        waiting_messages::WaitingMessages,
    },
    plugin::subscribe::Subscribe,
    pool::instances::{Pool, PoolSource},
    remote::{
        availability::pause,
        nats::{ANSWER, NatsConnection},
        refusals::subscription_refusal,
    },
    route::table::TableReader,
    runtime::executors::Executors,
    world::{
        broker::{MESSAGE_BYTES_MAX, message_of},
        guest_message::GuestMessage,
    },
};
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

/// Time in which the messages on their way must arrive when a subscription ends.
const DRAIN: Duration = Duration::from_secs(2);
/// Time in which an error that the server sent is passed on. It is longer than the limit of the same name for messages:
/// a subscription waits for it only once.
const REPORTED_WITHIN: Duration = Duration::from_millis(50);

/// The identity of a subscription: another value is another subscription.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SubscriptionKey {
    pub(super) plugin: PluginName,
    pub(super) subscribe: Subscribe,
}

/// A subscription. Its task has a reference, and the follower another one.
pub(super) struct Subscription {
    pub(super) key: SubscriptionKey,
    pub(super) reader: TableReader,
    pub(super) connection: Arc<NatsConnection>,
    pub(super) executors: Executors,
    pub(super) figures: Arc<PluginFigures>,
    /// The pool that served last. It handles the messages that have arrived when its plugin is stopped. A subscription
    /// to a stream has none, since a stream delivers its messages again.
    pub(super) last: Mutex<Option<PoolSource>>,
    /// Room for messages.
    pub(super) room: MessageRoom,
    /// Tracks the messages in progress. Shared by all subscriptions.
    pub(super) tracker: TaskTracker,
    /// Cancelled when no more messages are wanted.
    pub(super) ending: CancellationToken,
    /// Cancelled when the stop of the daemon does not wait any longer.
    pub(super) abandoned: CancellationToken,
    /// Shared by all subscriptions: locked while one of them makes or changes its consumer.
    pub(super) consumers: Arc<tokio::sync::Mutex<()>>,
    /// The warnings about single messages.
    pub(super) too_large: RepeatedWarning,
    pub(super) given_up: RepeatedWarning,
    /// The messages without a stream that are lost.
    pub(super) lost: Arc<LostMessages>,
    /// Why it is not established.
    pub(super) failure: Mutex<Option<String>>,
}

impl Subscription {
    /// Receives messages until the subscription is ended.
    pub(super) async fn run(self: Arc<Self>) {
        match &self.key.subscribe.stream {
            Some(stream) => self.run_stream(stream).await,
            None => self.run_plain().await,
        }
        self.lost.report();
    }

    /// Whether it is established.
    pub(super) fn is_established(&self) -> bool {
        self.failure().is_none()
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that it is established, and logs that.
    pub(super) fn note_established(&self) {
        let before =
            std::mem::take(&mut *self.failure.lock().unwrap_or_else(PoisonError::into_inner));
        if before.is_some() {
            let SubscriptionKey { plugin, subscribe } = &self.key;
            let stream = subscribe.stream.as_ref().map(|stream| stream.name.as_str());
            let queue = subscribe.queue.as_ref().map(|queue| queue.as_str());
            info!(%plugin, subject = %subscribe.subject, queue, stream, "subscribed");
            self.show();
        }
    }

    /// Notes that it is not established, because of `why`. Logs nothing, since the connection logs an outage.
    pub(super) fn interrupted(&self, why: &str) {
        let subject = self.key.subscribe.subject.as_str();
        let why = format!("the subscription to {subject:?} is not established: {why}");
        let why = Some(why);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *failure != why;
        *failure = why;
        drop(failure);
        if is_new {
            self.show();
        }
    }

    /// Notes that the server refuses it, and logs that, unless it did before.
    pub(super) fn refused(&self, error: &str) {
        let before = self.failure();
        self.interrupted(error);
        if before != self.failure() {
            let SubscriptionKey { plugin, subscribe } = &self.key;
            let subject = &subscribe.subject;
            warn!(message_id = SUBSCRIPTION_FAILED, %plugin, %subject, error, "cannot subscribe");
        }
    }

    /// Notes the pool that serves from now on.
    pub(super) fn served_by(&self, pool: &Arc<Pool>) {
        if self.key.subscribe.stream.is_none() {
            let source = pool.source();
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
        }
    }

    fn last_pool(&self) -> Option<Arc<Pool>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|source| source.pool().clone())
    }

    /// Reports its state to the generation that serves.
    pub(super) fn show(&self) {
        let Some(pool) = pool_of(&self.reader, &self.key.plugin) else { return };
        let all = &pool.linked().release.manifest.subscribe;
        let Some(nth) = all.iter().position(|it| *it == self.key.subscribe) else { return };
        if pool.shared().subscriptions.set(nth, self.failure()) {
            pool.report_degraded();
        }
    }

    /// The client of the server; none, if the subscription is ended before the server can be reached.
    pub(super) async fn client(&self) -> Option<Client> {
        loop {
            let changed = self.connection.availability().changed();
            match self.connection.client().await {
                Ok(client) => return Some(client.clone()),
                Err(error) => self.interrupted(&error.to_string()),
            }
            tokio::select! {
                () = changed => (),
                () = self.ending.cancelled() => return None,
            }
        }
    }

    async fn run_plain(self: &Arc<Self>) {
        let (mut waiting, mut attempt) = (WaitingMessages::new(self.lost.clone()), 0);
        while let Some(client) = self.handling(&mut waiting, self.client()).await {
            let mut errors = self.connection.errors();
            match self.handling(&mut waiting, self.subscribe(&client, &mut errors)).await {
                Ok(subscriber) => {
                    self.note_established();
                    attempt = 0;
                    self.receive(subscriber, errors, &mut waiting).await;
                }
                Err(error) => self.refused(&error),
            }
            attempt += 1;
            let paused = timeout(pause(attempt), self.ending.cancelled());
            if self.handling(&mut waiting, paused).await.is_ok() {
                break;
            }
        }
        tokio::select! {
            () = self.handle_all(&mut waiting) => (),
            () = self.abandoned.cancelled() => (),
        }
    }

    /// Does this work, and handles waiting messages meanwhile.
    async fn handling<T>(
        self: &Arc<Self>,
        waiting: &mut WaitingMessages<Message>,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            done = work => done,
            never = async { self.handle_all(waiting).await; pending().await } => never,
        }
    }

    /// Handles waiting messages, each when there is room for it.
    async fn handle_all(self: &Arc<Self>, waiting: &mut WaitingMessages<Message>) {
        while !waiting.is_empty() {
            // It is never closed.
            let Ok(permit) = self.room.semaphore().clone().acquire_owned().await else { return };
            self.handle(waiting.pop(), permit);
        }
    }

    /// Subscribes, and waits until the server has had the opportunity to refuse it.
    async fn subscribe(
        &self,
        client: &Client,
        errors: &mut broadcast::Receiver<Arc<str>>,
    ) -> Result<Subscriber, String> {
        let Subscribe { subject, queue, .. } = &self.key.subscribe;
        let subject = subject.as_str().to_owned();
        let subscriber = match queue {
            Some(queue) => client.queue_subscribe(subject, queue.as_str().to_owned()).await,
            None => client.subscribe(subject).await,
        };
        let subscriber = subscriber.map_err(|error| error.to_string())?;
        match timeout(ANSWER, self.connection.round_trip(client)).await {
            Ok(answered) => answered.map_err(|error| error.to_string())?,
            Err(_) => return Err("the server does not answer in time".to_owned()),
        }
        // Another task passes the error on.
        match timeout(REPORTED_WITHIN, self.refusal(errors)).await {
            Ok(error) => Err(error.to_string()),
            Err(_) => Ok(subscriber),
        }
    }

    /// Waits until the server refuses the subscription, and returns the error.
    async fn refusal(&self, errors: &mut broadcast::Receiver<Arc<str>>) -> Arc<str> {
        subscription_refusal(errors, self.key.subscribe.subject.as_str()).await
    }

    /// Receives messages until the subscription has ended, with those that were on their way. Some may still wait then.
    async fn receive(
        self: &Arc<Self>,
        mut subscriber: Subscriber,
        mut errors: broadcast::Receiver<Arc<str>>,
        waiting: &mut WaitingMessages<Message>,
    ) {
        let mut is_draining = false;
        loop {
            if self.ending.is_cancelled() && !is_draining {
                is_draining = true;
                // A closed connection has nothing on its way.
                subscriber.drain().await.ok();
            }
            let room = self.room.semaphore().clone();
            tokio::select! {
                biased;
                () = self.ending.cancelled(), if !is_draining => (),
                Ok(permit) = room.acquire_owned(), if !waiting.is_empty() => {
                    self.handle(waiting.pop(), permit);
                }
                error = self.refusal(&mut errors) => {
                    self.refused(&error);
                    break;
                }
                () = self.outage_changed() => (),
                // It is read whether there is room or not: otherwise it would wait in the client, whatever its size.
                received = next(&mut subscriber, is_draining) => match received {
                    Some(message) => self.keep(message, waiting),
                    None => break,
                },
            }
        }
    }

    /// Keeps a message until there is room for it, or drops it.
    fn keep(&self, message: Message, waiting: &mut WaitingMessages<Message>) {
        if self.key.subscribe.subject.excludes(&message.subject) {
            return;
        }
        let bytes = message.length.saturating_add(size_of::<Message>());
        // Waiting messages are bounded here, so they are charged to the memory of the plugin even beyond its limit.
        let pool = self.last_pool();
        let charge = || Some(pool?.shared().memory.charge_always(bytes));
        if !waiting.push(message, bytes, charge) {
            self.figures.messages.dropped.add(1);
            self.lost.note(Loss::NoRoom);
        }
    }

    /// Notes whether the server can be reached, and why not. Returns when that may have changed.
    async fn outage_changed(&self) {
        let availability = self.connection.availability();
        let changed = availability.changed();
        match availability.failure() {
            Some(error) => {
                self.interrupted(&error.to_string());
                changed.await;
            }
            None if self.is_established() => drop(availability.until_unreachable().await),
            // The client has subscribed again by itself.
            None => self.note_established(),
        }
    }

    fn handle(self: &Arc<Self>, message: Option<Message>, permit: OwnedSemaphorePermit) {
        let Some(message) = message else { return };
        let (this, message) = (self.clone(), message_of(&message));
        self.spawn(async move {
            // Without a stream, it is lost. `deliver` and the pool log all other causes.
            if let Err(Undelivered::NotServed) = this.deliver(message).await {
                this.lost.note(Loss::NotServed);
            }
            drop(permit);
        });
    }

    /// Has a task of a core do the work on a message.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let place = self.executors.place_connection();
        let handle = place.handle().clone();
        let work = async move {
            work.await;
            drop(place);
        };
        self.tracker.spawn_on(work, &handle);
    }

    /// Has the plugin handle a message.
    pub(super) async fn deliver(&self, message: GuestMessage) -> Result<(), Undelivered> {
        let (plugin, figures) = (&self.key.plugin, &self.figures.messages);
        let in_flight = figures.begin();
        let subject = message.subject.clone();
        let delivered = deliver(&self.reader, plugin, || self.last_pool(), message).await;
        match &delivered {
            Ok(()) => (),
            Err(Undelivered::TooLarge(size)) => {
                if let Some(skipped) = self.too_large.note(Instant::now()) {
                    let max = MESSAGE_BYTES_MAX;
                    warn!(%plugin, subject, size, max, skipped, "message too large");
                }
            }
            // The pool logs the causes within a rate.
            Err(error) => debug!(%plugin, %error, "message not handled"),
        }
        let count = if delivered.is_ok() { &figures.delivered } else { &figures.failed };
        count.add(1);
        drop(in_flight);
        delivered
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.lost.report();
    }
}

/// The next message; while it drains, one that is on its way, or none.
async fn next(subscriber: &mut Subscriber, is_draining: bool) -> Option<Message> {
    match is_draining {
        true => timeout(DRAIN, subscriber.next()).await.ok().flatten(),
        false => subscriber.next().await,
    }
}
