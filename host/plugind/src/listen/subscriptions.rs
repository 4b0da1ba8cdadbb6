//! The subscriptions of all plugins: they follow the table, and outlast the generations that ask for the same ones.

use crate::{
    listen::{
        lost_messages::LostMessages,
        message_room::MessageRoom,
        repeated_warning::RepeatedWarning,
        subscription::{Subscription, SubscriptionKey},
    },
    pool::instances::Pool,
    remote::nats::NatsConnection,
    route::table::TableReader,
    runtime::executors::Executors,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// Interval of the checks whether subscriptions are established.
const LOOK: Duration = Duration::from_millis(5);
/// Time that new subscriptions have before those that they replace are ended.
const OVERLAP_MAX: Duration = Duration::from_secs(5);
/// Time that subscriptions have to log the messages that still wait.
const ABANDON_MAX: Duration = Duration::from_secs(1);
/// Default of `limits.messages-in-flight`, unless the instances of the plugin can take fewer.
const IN_FLIGHT_MAX: usize = 64;

/// All subscriptions.
pub struct Subscriptions {
    closing: CancellationToken,
    abandoned: CancellationToken,
    /// Tracks the tasks of the subscriptions.
    receiving: TaskTracker,
    /// Tracks the messages in progress.
    handling: TaskTracker,
    running: Arc<Mutex<Vec<RunningSubscription>>>,
    connection: Option<Arc<NatsConnection>>,
    executors: Executors,
}

/// A subscription, and the token that ends it.
#[derive(Clone)]
struct RunningSubscription {
    subscription: Arc<Subscription>,
    ending: CancellationToken,
}

impl Subscriptions {
    /// Follows the table from now on. Without a connection, no plugin that subscribes can be linked.
    #[must_use]
    pub fn start(
        reader: TableReader,
        changes: watch::Receiver<()>,
        connection: Option<Arc<NatsConnection>>,
        executors: Executors,
    ) -> Self {
        let (receiving, handling) = (TaskTracker::new(), TaskTracker::new());
        let (closing, abandoned) = (CancellationToken::new(), CancellationToken::new());
        let running = Arc::<Mutex<Vec<RunningSubscription>>>::default();
        if let Some(connection) = connection.clone() {
            let follower = SubscriptionFollower {
                reader,
                connection,
                executors: executors.clone(),
                receiving: receiving.clone(),
                handling: handling.clone(),
                closing: closing.clone(),
                abandoned: abandoned.clone(),
                running: running.clone(),
                consumers: Arc::default(),
            };
            follower.reconcile();
            tokio::spawn(follower.run(changes));
        }
        Self { closing, abandoned, receiving, handling, running, connection, executors }
    }

    /// Waits until all subscriptions are established, at most for `max`.
    pub async fn established(&self, max: Duration) {
        let deadline = Instant::now() + max;
        while Instant::now() < deadline && !all_established(&lock(&self.running)) {
            sleep(LOOK).await;
        }
    }

    /// Ends all subscriptions: no more messages are wanted.
    pub fn close(&self) {
        self.closing.cancel();
        // Each one keeps its pool until its messages were handled.
        lock(&self.running).clear();
        self.receiving.close();
        self.handling.close();
    }

    /// Waits until every message that has arrived was given to its plugin, at most for `max`.
    pub async fn received(&self, max: Duration) {
        timeout(max, self.receiving.wait()).await.ok();
        self.executors.turn().await;
    }

    /// Waits until all messages were handled and acknowledged.
    pub async fn drained(&self) {
        let Some(connection) = &self.connection else { return };
        // Messages that wait for room are not tracked yet.
        self.receiving.wait().await;
        self.handling.wait().await;
        if let Ok(client) = connection.client().await {
            client.flush().await.ok();
        }
    }

    /// Logs the number of messages in progress, for which the stop of the daemon does not wait any longer, and of those
    /// that still wait for their plugin.
    pub async fn abandon(&self) {
        self.abandoned.cancel();
        timeout(ABANDON_MAX, self.receiving.wait()).await.ok();
        let messages = self.handling.len();
        if messages > 0 {
            warn!(messages, "messages in progress at the stop");
        }
    }
}

/// The task that starts and ends subscriptions.
struct SubscriptionFollower {
    reader: TableReader,
    connection: Arc<NatsConnection>,
    executors: Executors,
    receiving: TaskTracker,
    handling: TaskTracker,
    closing: CancellationToken,
    abandoned: CancellationToken,
    running: Arc<Mutex<Vec<RunningSubscription>>>,
    consumers: Arc<tokio::sync::Mutex<()>>,
}

impl SubscriptionFollower {
    async fn run(self, mut changes: watch::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
            }
            self.reconcile();
        }
    }

    /// Starts the subscriptions that are asked for, and ends those that are not any more.
    fn reconcile(&self) {
        let pools: Vec<_> =
            self.reader.table().subscribers().filter_map(|it| it.pool.clone()).collect();
        let wanted: Vec<_> = pools.iter().flat_map(wanted_of).collect();
        let mut running = lock(&self.running);
        if self.closing.is_cancelled() {
            return;
        }
        let is_wanted =
            |it: &RunningSubscription| wanted.iter().any(|new| new.key == it.subscription.key);
        let (kept, obsolete): (Vec<_>, Vec<_>) = running.drain(..).partition(is_wanted);
        *running = kept;
        let mut started = Vec::new();
        for new in wanted {
            match running.iter().find(|it| it.subscription.key == new.key) {
                Some(RunningSubscription { subscription, .. }) => {
                    // The generation that serves may be a new one.
                    subscription.show();
                    subscription.served_by(new.pool);
                    subscription.room.resize(new.in_flight);
                }
                None => {
                    let new = self.start(new);
                    started.push(new.clone());
                    running.push(new);
                }
            }
        }
        drop(running);
        end_after(obsolete, started);
    }

    fn start(&self, wanted: WantedSubscription<'_>) -> RunningSubscription {
        let WantedSubscription { key, in_flight, pool } = wanted;
        let ending = self.closing.child_token();
        let why = format!(
            "the subscription to {:?} is not established yet",
            key.subscribe.subject.as_str()
        );
        let lost = LostMessages::new(key.plugin.clone(), key.subscribe.subject.clone());
        let subscription = Arc::new(Subscription {
            last: Mutex::default(),
            room: MessageRoom::new(in_flight),
            key,
            reader: self.reader.clone(),
            connection: self.connection.clone(),
            executors: self.executors.clone(),
            figures: pool.figures().clone(),
            tracker: self.handling.clone(),
            ending: ending.clone(),
            abandoned: self.abandoned.clone(),
            consumers: self.consumers.clone(),
            too_large: RepeatedWarning::default(),
            given_up: RepeatedWarning::default(),
            lost,
            failure: Mutex::new(Some(why)),
        });
        subscription.served_by(pool);
        self.receiving.spawn(subscription.clone().run());
        RunningSubscription { subscription, ending }
    }
}

/// A subscription that a generation asks for.
struct WantedSubscription<'a> {
    key: SubscriptionKey,
    /// The most messages at a time.
    in_flight: usize,
    pool: &'a Arc<Pool>,
}

/// The subscriptions of a plugin, which share the messages that it may have at a time.
fn wanted_of(pool: &Arc<Pool>) -> impl Iterator<Item = WantedSubscription<'_>> {
    let manifest = &pool.linked().release.manifest;
    let by_default = pool.capacity().min(IN_FLIGHT_MAX);
    let written = manifest.limits.messages_in_flight;
    let max = written.map_or(by_default, |max| usize::try_from(max).unwrap_or(IN_FLIGHT_MAX));
    let in_flight = (max / manifest.subscribe.len().max(1)).max(1);
    let wanted = move |subscribe: &_| {
        let key =
            SubscriptionKey { plugin: pool.name().clone(), subscribe: Clone::clone(subscribe) };
        WantedSubscription { key, in_flight, pool }
    };
    manifest.subscribe.iter().map(wanted)
}

/// Ends subscriptions when those that were started in their place are established, so that no message falls between
/// them.
fn end_after(obsolete: Vec<RunningSubscription>, started: Vec<RunningSubscription>) {
    if obsolete.is_empty() {
        return;
    }
    tokio::spawn(async move {
        for old in obsolete {
            let plugin = &old.subscription.key.plugin;
            let replaces = |it: &&RunningSubscription| it.subscription.key.plugin == *plugin;
            let successors: Vec<_> = started.iter().filter(replaces).cloned().collect();
            let deadline = Instant::now() + OVERLAP_MAX;
            while Instant::now() < deadline && !all_established(&successors) {
                sleep(LOOK).await;
            }
            old.ending.cancel();
        }
    });
}

fn all_established(subscriptions: &[RunningSubscription]) -> bool {
    subscriptions.iter().all(|it| it.subscription.is_established())
}

fn lock(
    running: &Mutex<Vec<RunningSubscription>>,
) -> std::sync::MutexGuard<'_, Vec<RunningSubscription>> {
    running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
