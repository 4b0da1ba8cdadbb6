//! The one task that owns every plugin's state. Each turn: take the messages that there are, decide, execute.
//!
//! It never awaits a guest, so a guest that hangs does not hang it; and nothing that serves a request waits for it.

pub mod restart;
pub mod lifecycle;
pub mod rollout;
pub mod summary;
pub mod published_plan;
pub mod prepare;
pub mod generation;
pub mod reload;
pub mod reloads;
pub mod operated;
pub mod plugin;
pub mod problem;
pub mod report;
pub mod compare;
pub mod board;
pub mod degraded;
pub mod follow_degraded;
pub mod phase;
pub mod handle;
pub mod held;
mod all_or_nothing;
mod change_requests;
pub mod clean_outcome;
mod cleaning;
mod describing;
mod execute;
mod falling_back;
mod own_task;
mod own_thread;
mod pin_outcome;
mod pins;
mod preparations;
mod reloading;
mod restarting;
mod rolling_back;
mod running;
mod single;
pub mod versions;

use crate::{
    base::name::PluginName,
    config::settings::Protocol,
    plugin::{directories::VerifiedBefore, release::ReleaseDigests},
    pool::worker_event::WorkerEvent,
    route::table::TablePublisher,
    supervisor::{
        board::Board,
        change_requests::ChangeRequests,
        clean_outcome::CleaningInProgress,
        degraded::MiddlewareUsers,
        handle::{Message, SupervisorHandle},
        own_thread::OwnThreads,
        pin_outcome::PinInProgress,
        plugin::{Action, ManagedPlugin, PluginEvent, Prepared},
        prepare::Deps,
        problem::StopError,
        reloads::{ReloadNotice, Reloads},
        running::RunningGeneration,
        summary::{Summary, SummaryEntry, Tally},
    },
    systemd::watchdog::Watchdog,
    world::link::Linked,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::{replace, take},
    path::PathBuf,
    sync::Arc,
    thread::available_parallelism,
};
use tokio::{
    sync::{Mutex, Semaphore, mpsc, oneshot, watch},
    time::{Interval, MissedTickBehavior, interval},
};

/// The most messages that are taken in one turn: their results are published together.
const TURN_MAX: usize = 256;

/// Starts the supervisor, which begins to read the directories at once, and resets the watchdog while it runs. The
/// receiver gets an event when a reload begins, and when none is in progress any more.
pub fn start(
    deps: Deps,
    publisher: TablePublisher,
    watchdog: Option<Watchdog>,
) -> (SupervisorHandle, mpsc::UnboundedReceiver<ReloadNotice>) {
    let (inbox, messages) = mpsc::unbounded_channel();
    let (reload_events, events) = mpsc::unbounded_channel();
    let supervisor = Supervisor::new(deps, publisher, inbox.clone(), reload_events);
    let (summary, board) = (supervisor.summary.subscribe(), supervisor.board.clone());
    tokio::spawn(supervisor.run(messages, watchdog));
    let handle = SupervisorHandle::new(inbox, summary, board);
    handle.rescan();
    (handle, events)
}

struct Supervisor {
    deps: Deps,
    /// The published state of the plugins, for readers that do not wait for the supervisor.
    board: Board,
    publisher: TablePublisher,
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Sender<Summary>,
    reload_events: mpsc::UnboundedSender<ReloadNotice>,
    /// As many plugins are loaded from the cache and linked at a time as there are cores.
    linking: Arc<Semaphore>,
    /// The threads that load and link plugins.
    threads: OwnThreads,
    /// As many plugins are compiled at a time as there are cores. A plugin whose code is cached does not wait for one
    /// that is compiled.
    compiling: Arc<Semaphore>,
    /// Results of the last reading of the directories.
    verified: Arc<Mutex<VerifiedBefore>>,
    plugins: BTreeMap<PluginName, ManagedPlugin>,
    /// The versions that operators pinned.
    pins: BTreeMap<PluginName, ReleaseDigests>,
    /// Plugins whose pin is being written or removed.
    pins_in_progress: BTreeMap<PluginName, PinInProgress>,
    /// The plugin whose files are being removed. It does not start meanwhile.
    cleaning: Option<CleaningInProgress>,
    /// The instances of every generation that has some, by its number.
    running: HashMap<u64, RunningGeneration>,
    /// Results of the preparations of this turn, by their tickets.
    prepared: HashMap<u64, Arc<Linked>>,
    /// Plugins whose preparation waits for its turn.
    queued: BTreeSet<PluginName>,
    /// The actions that were decided and are not done yet.
    actions: Vec<(PluginName, Vec<Action>)>,
    /// Plugins to which something happened since the last summary.
    touched: BTreeSet<PluginName>,
    tally: Tally,
    middleware_users: MiddlewareUsers,
    /// The daemon's start has ended: every required plugin was ready, or failed.
    settled: bool,
    /// The daemon's start has ended well, so that clients are served.
    has_served: bool,
    /// Files in the directories that are ignored, each with the reason.
    ignored: Vec<String>,
    /// The directory for plugins of the administrator, if it does not exist.
    missing_directory: Option<PathBuf>,
    /// The number of the last preparation, or removal of files.
    tickets: u64,
    /// The number of the last generation.
    generations: u64,
    reloads: Reloads,
    /// Clients that wait for changes of single plugins.
    requests: ChangeRequests,
    /// Clients that wait until plugins have stopped.
    stops: Vec<(PluginName, oneshot::Sender<Result<(), StopError>>)>,
    stopping: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    fn new(
        deps: Deps,
        publisher: TablePublisher,
        inbox: mpsc::UnboundedSender<Message>,
        reload_events: mpsc::UnboundedSender<ReloadNotice>,
    ) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let board = Board::new(deps.commons.figures.clone());
        let verified = VerifiedBefore::new(deps.places.state.clone(), deps.component_limits);
        let pins = deps.versions.pins().clone();
        Self {
            deps,
            board,
            publisher,
            inbox,
            summary: watch::Sender::new(Summary::default()),
            reload_events,
            linking: Arc::new(Semaphore::new(cores)),
            threads: OwnThreads::default(),
            compiling: Arc::new(Semaphore::new(cores)),
            verified: Arc::new(Mutex::new(verified)),
            plugins: BTreeMap::new(),
            pins,
            pins_in_progress: BTreeMap::new(),
            cleaning: None,
            running: HashMap::new(),
            prepared: HashMap::new(),
            queued: BTreeSet::new(),
            actions: Vec::new(),
            touched: BTreeSet::new(),
            tally: Tally::default(),
            middleware_users: MiddlewareUsers::default(),
            settled: false,
            has_served: false,
            ignored: Vec::new(),
            missing_directory: None,
            tickets: 0,
            generations: 0,
            reloads: Reloads::default(),
            requests: ChangeRequests::default(),
            stops: Vec::new(),
            stopping: None,
        }
    }

    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        mut watchdog: Option<Watchdog>,
    ) {
        let mut beat = watchdog.as_ref().map(beat);
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                count = messages.recv_many(&mut taken, TURN_MAX) => if count == 0 { return },
                () = tick(&mut beat) => {
                    watchdog.as_mut().map(Watchdog::notify);
                    continue;
                }
            }
            for message in taken.drain(..) {
                self.handle(message);
            }
            self.finish_turn();
            if self.plugins.is_empty()
                && let Some(done) = self.stopping.take()
            {
                // The one that waited may have given up.
                done.send(()).ok();
                return;
            }
        }
    }

    /// Does what the messages of a turn led to, and publishes the result.
    fn finish_turn(&mut self) {
        self.execute();
        self.settle_all_or_nothing();
        self.start_queued();
        self.note_steps();
        self.finish_reload();
        self.answer_stops();
        self.sum_up();
        for event in self.reloads.take_events() {
            // The daemon is about to end if nobody receives it.
            self.reload_events.send(event).ok();
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Plugin { name, event } => return self.decide(&name, event),
            Message::Worker { name, generation, event } => {
                return self.worker_event(&name, generation, event);
            }
            Message::HandoverDue { name, generation, ticket } => {
                let save_begun = self.has_begun_to_save(generation);
                return self.decide(&name, PluginEvent::HandoverDue { ticket, save_begun });
            }
            // Everything else may depend on what was decided.
            _ => self.execute(),
        }
        match message {
            // The outcome is not needed any more; a client that waits for an answer learns that the daemon ends.
            Message::Reload { .. }
            | Message::Restart { .. }
            | Message::Relinked { .. }
            | Message::Rollback { .. }
            | Message::Previous { .. }
            | Message::Pin { .. }
            | Message::Unpin { .. }
            | Message::PinWritten(_)
            | Message::Clean { .. }
            | Message::StartPlugin { .. }
            | Message::ReloadPlugin { .. }
            | Message::StopPlugin { .. }
            | Message::Read(_)
            | Message::ReadOne { .. }
            | Message::Prepared { .. }
            | Message::LastGood { .. }
                if self.stopping.is_some() => {}
            Message::Reload { options, reply } => self.request_reload(options, reply),
            Message::Restart { name, reply } => self.restart(name, reply),
            Message::Rollback { name, reply } => self.rollback(name, reply),
            Message::Previous { name, nth, serving, outcome } => {
                self.roll_back(&name, nth, serving, outcome);
            }
            Message::Pin { name, reply } => self.pin(name, reply),
            Message::Unpin { name, reply } => self.unpin(name, reply),
            Message::PinWritten(written) => self.pin_written(written),
            Message::Clean { name, parts, reply } => self.clean(name, parts, reply),
            Message::Cleaned(outcome) => self.cleaned(outcome),
            Message::CleaningDue { nth } => self.cleaning_due(nth),
            Message::Relinked { name, nth, outcome } => self.relinked(&name, nth, outcome),
            Message::StartPlugin { name, reply } => self.start_plugin(name, reply),
            Message::ReloadPlugin { name, reply } => self.reload_plugin(name, reply),
            Message::StopPlugin { name, reply } => self.stop_plugin(name, reply),
            Message::ReadOne { name, nth, starts, outcome } => {
                self.apply_one(&name, nth, starts, outcome);
            }
            // The client may have disconnected.
            Message::List(reply) => drop(reply.send(self.list())),
            Message::Describe { name, reply } => drop(reply.send(self.describe(&name))),
            Message::Read(Ok((report, plan))) => self.apply(report, plan),
            Message::Read(Err(error)) => self.keep_last_good_set(&error),
            Message::Prepared { name, ticket, outcome, saved } => {
                let outcome = outcome.map(|linked| {
                    self.prepared.insert(ticket, linked);
                    self.generations += 1;
                    Prepared { generation: self.generations, after_start: self.settled, saved }
                });
                self.decide(&name, PluginEvent::Prepared { ticket, outcome });
            }
            Message::LastGood { name, outcome } => self.fall_back(&name, outcome),
            Message::LongestStop(reply) => {
                let longest = self.plugins.values().map(ManagedPlugin::longest_stop).max();
                reply.send(longest.unwrap_or_default()).ok();
            }
            Message::Stop(done) => self.stop(done),
            Message::Plugin { .. } | Message::Worker { .. } | Message::HandoverDue { .. } => (),
        }
    }

    fn worker_event(&mut self, name: &PluginName, generation: u64, event: WorkerEvent) {
        if let WorkerEvent::Saved { save, .. } = event
            && !self.is_last_save(generation, save)
        {
            return;
        }
        if matches!(event, WorkerEvent::Gone) {
            self.report_dropped(generation);
        }
        if matches!(event, WorkerEvent::Degraded) {
            self.touched.insert(name.clone());
        }
        let others = self.has_workers(generation);
        self.decide(name, PluginEvent::Worker { generation, event, others });
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.reloads.stop();
        self.requests.clear();
        self.stops.clear();
        self.pins_in_progress.clear();
        for name in self.plugins.keys().cloned().collect::<Vec<_>>() {
            self.decide(&name, PluginEvent::Shutdown);
        }
    }

    fn sum_up(&mut self) {
        let mut touched = take(&mut self.touched);
        let has_changed = !touched.is_empty();
        let users = touched.iter().flat_map(|name| self.middleware_users.of(name));
        touched.extend(users.cloned().collect::<Vec<_>>());
        for name in touched {
            let plugin = self.plugins.get(&name);
            let degraded = plugin.and_then(|plugin| self.degraded_reason(plugin));
            self.board.set(&name, plugin, degraded.clone());
            let serving = plugin.and_then(ManagedPlugin::serving);
            let links = serving.map(|it| &*it.release.manifest.middleware.links);
            self.middleware_users.set(&name, links.unwrap_or_default());
            let standing = plugin.filter(|plugin| !plugin.removed);
            let standing = standing.map(|it| SummaryEntry { degraded, ..it.standing() });
            self.tally.set(name, standing);
        }
        if has_changed {
            self.board.notify();
        }
        let mut summary = self.tally.summary();
        summary.ignored.clone_from(&self.ignored);
        summary.missing_directory.clone_from(&self.missing_directory);
        summary.unkept_code = self.deps.compiler.unkept_code().reason();
        self.reloads.sum_up(|name| self.plugins.contains_key(name), &mut summary);
        if summary.is_settled() && !replace(&mut self.settled, true) {
            // The daemon serves from now on.
            self.publish();
            self.has_served =
                summary.unreadable.is_none() && summary.required_failed().next().is_none();
            if self.has_served {
                self.keep_versions();
            }
        }
        // The sockets are those of the routes that are published.
        let plan = self.deps.plan.borrow();
        summary.unused_sockets.extend(plan.unused.iter().cloned());
        summary.missing_sockets.extend(plan.missing.iter().map(ToString::to_string));
        summary.missing_sockets.extend(plan.lacks_http.then(|| Protocol::Http.to_string()));
        drop(plan);
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

#[cfg(test)]
mod tests;
