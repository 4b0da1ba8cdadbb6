//! The one task that owns every plugin's state. Each turn: wait for news, decide, set work going.
//!
//! It never awaits a guest, so a guest that hangs does not hang its keeper; and nothing that serves a request waits
//! for it.

pub mod restart;
pub mod lifecycle;
pub mod rollout;
pub mod summary;
pub mod prepare;
pub mod generation;
pub mod reload;
pub mod plugin;
pub mod compare;
pub mod phase;
pub mod handle;
mod all_or_nothing;
mod reloading;
mod state_transfer;
mod transitions;

use crate::{
    base::name::PluginName,
    route::table::{RouteEntry, RouteTable, TablePublisher},
    supervisor::{
        compare::FoundContents,
        handle::{Message, RestartError, SupervisorHandle},
        lifecycle::Event,
        plugin::ManagedPlugin,
        prepare::Deps,
        reload::{ReloadOptions, ReloadState},
        summary::{Failed, Summary},
    },
    systemd::watchdog::Watchdog,
    world,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem::replace,
    sync::Arc,
    thread::available_parallelism,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use wasmtime::component::Linker;

/// Starts the supervisor, which at once begins to read the directories, and pets the watchdog as long as it lives.
///
/// # Errors
/// When the host's own interfaces do not fit together, which would be a mistake of ours.
pub fn start(
    means: Deps,
    publisher: TablePublisher,
    watchdog: Option<Watchdog>,
) -> wasmtime::Result<SupervisorHandle> {
    let linker = Arc::new(world::linker(&means.engine)?);
    let (inbox, messages) = mpsc::unbounded_channel();
    let (sender, summary) = watch::channel(Summary::default());
    let cores = available_parallelism().map_or(1, usize::from);
    let supervisor = Supervisor {
        means,
        linker,
        publisher,
        inbox: inbox.clone(),
        summary: sender,
        cores: Arc::new(Semaphore::new(cores)),
        plugins: BTreeMap::new(),
        scanned: false,
        begun: false,
        settled: false,
        unreadable: None,
        ignored: Vec::new(),
        tickets: 0,
        generations: 0,
        reload: None,
        queued: Vec::new(),
        draining: Vec::new(),
        refused: None,
        found: FoundContents::default(),
        vanished: Vec::new(),
        newcomers: BTreeSet::new(),
        reloads_begun: 0,
        reloads_over: 0,
        read_again: false,
        restarts: Vec::new(),
        stopping: None,
    };
    tokio::spawn(supervisor.run(messages, watchdog));
    let keeper = SupervisorHandle::new(inbox, summary);
    keeper.rescan();
    Ok(keeper)
}

struct Supervisor {
    means: Deps,
    linker: Arc<Linker<world::HostState>>,
    publisher: TablePublisher,
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Sender<Summary>,
    /// As many plugins are compiled and linked at a time as there are cores.
    cores: Arc<Semaphore>,
    plugins: BTreeMap<PluginName, ManagedPlugin>,
    scanned: bool,
    /// The directories were to be read at least once.
    begun: bool,
    /// The daemon's start is over: every required plugin was ready, or failed.
    settled: bool,
    unreadable: Option<String>,
    /// Files in the directories that are ignored, each with the reason.
    ignored: Vec<String>,
    /// The number of the last preparation.
    tickets: u64,
    /// The number of the last generation.
    generations: u64,
    /// The reading of the directories that is under way, for whoever watches it.
    reload: Option<watch::Sender<ReloadState>>,
    /// Reloads that begin when this one is over, since they are of another kind.
    queued: Vec<Queued>,
    /// Reloads that are over, but for what drains.
    draining: Vec<watch::Sender<ReloadState>>,
    /// What was found when all or nothing was asked for, and it was nothing; and what failed.
    refused: Option<(FoundContents, Vec<Failed>)>,
    /// What was found last.
    found: FoundContents,
    /// Plugins that are to go when all others can be changed.
    vanished: Vec<PluginName>,
    /// Plugins that are there only if all others can be changed.
    newcomers: BTreeSet<PluginName>,
    /// How often the directories were to be read anew, after the start, and up to which of these that is over.
    reloads_begun: u64,
    reloads_over: u64,
    /// The directories are to be read once more when they have been read.
    read_again: bool,
    /// Who waits for plugins to be restarted.
    restarts: Vec<(PluginName, oneshot::Sender<Result<u64, RestartError>>)>,
    stopping: Option<oneshot::Sender<()>>,
}

/// Where whoever asked for a reload is told of the one that comes of it.
type Reply = oneshot::Sender<watch::Receiver<ReloadState>>;

/// A reload that was asked for while one of another kind is under way.
struct Queued {
    terms: ReloadOptions,
    replies: Vec<Reply>,
    /// How often it was asked for.
    times: u64,
}

impl Supervisor {
    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        mut watchdog: Option<Watchdog>,
    ) {
        let mut beat = watchdog.as_ref().map(beat);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = tick(&mut beat) => {
                    watchdog.as_mut().map(Watchdog::pet);
                    continue;
                }
            };
            let Some(message) = message else { return };
            self.handle(message);
            self.settle_bundle();
            self.start_queued();
            self.note_steps();
            self.finish_reload();
            self.sum_up();
            if self.plugins.is_empty()
                && let Some(done) = self.stopping.take()
            {
                // Whoever waited may have given up.
                done.send(()).ok();
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            // What is on its way is not worth anything any more; whoever waits for an answer hears that it is over.
            Message::Reload { .. }
            | Message::Restart { .. }
            | Message::Read(_)
            | Message::Prepared { .. }
                if self.stopping.is_some() => {}
            Message::Reload { terms, reply } => self.ask_for_reload(terms, reply),
            Message::Restart { name, reply } => self.restart(name, reply),
            // Whoever asked may have gone away.
            Message::List(reply) => drop(reply.send(self.list())),
            Message::Describe { name, reply } => drop(reply.send(self.describe(&name))),
            Message::Read(Ok(findings)) => self.take_stock(findings),
            Message::Read(Err(error)) => self.keep_last_good_set(&error),
            Message::Prepared { name, ticket, outcome, legacy } => {
                self.prepared(&name, ticket, *outcome, legacy);
            }
            Message::Worker { name, generation, news } => self.worker_news(&name, generation, news),
            Message::Due { name, generation } => self.event(&name, generation, Event::Due),
            Message::TimedOut { name, generation } => {
                self.event(&name, generation, Event::TimedOut)
            }
            Message::HandoverDue { name, number } => self.handover_due(&name, number),
            Message::Stop(done) => self.stop(done),
        }
    }

    fn list(&self) -> Vec<crate::api::Plugin> {
        self.plugins.iter().map(|(name, kept)| kept.report(name)).collect()
    }

    fn describe(&self, name: &PluginName) -> Option<crate::api::Description> {
        self.plugins.get(name).map(|kept| kept.describe(name))
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.reload = None;
        self.queued.clear();
        self.draining.clear();
        self.restarts.clear();
        for name in self.plugins.keys().cloned().collect::<Vec<_>>() {
            self.bid_farewell(&name);
        }
    }

    fn publish(&self) {
        let mut kept: Vec<_> = self
            .plugins
            .iter()
            .filter(|(name, kept)| !kept.removed && !self.newcomers.contains(*name))
            .collect();
        // Where two ask for one route, whoever serves it goes before whoever would like to.
        kept.sort_by_key(|(_, kept)| kept.serving().is_none());
        let mut entries = BTreeMap::new();
        for (name, kept) in kept {
            let (routes, pool) = kept.routes();
            for (route, strip) in routes {
                let entry = || RouteEntry { plugin: name.clone(), pool: pool.clone(), strip };
                entries.entry(route).or_insert_with(entry);
            }
        }
        self.publisher.publish(RouteTable::new(entries));
    }

    fn sum_up(&mut self) {
        let mut summary = Summary {
            scanned: self.scanned,
            unreadable: self.unreadable.clone(),
            ignored: self.ignored.clone(),
            reloads_begun: self.reloads_begun,
            reloads_over: self.reloads_over,
            ..Summary::default()
        };
        for (name, kept) in self.plugins.iter().filter(|(_, kept)| !kept.removed) {
            kept.sum_up(name, &mut summary);
        }
        let refused = self.refused.iter().flat_map(|(_, failed)| failed);
        let strangers = refused.filter(|failed| !self.plugins.contains_key(&failed.plugin));
        summary.failed.extend(strangers.cloned());
        self.settled |= summary.is_settled();
        self.summary.send_if_modified(|last| {
            let before = replace(last, summary);
            before != *last
        });
    }
}

fn beat(watchdog: &Watchdog) -> Interval {
    let mut beat = interval(watchdog.every());
    // One beat that comes late does not make the next ones come early.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

async fn tick(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => drop(beat.tick().await),
        None => std::future::pending().await,
    }
}
