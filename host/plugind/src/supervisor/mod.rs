//! The one task that owns every plugin's state. Each turn: wait for a message, decide, set work going.
//!
//! It never awaits a guest, so a guest that hangs does not hang it; and nothing that serves a request waits for it.

pub mod restart;
pub mod lifecycle;
pub mod rollout;
pub mod summary;
pub mod prepare;
pub mod generation;
pub mod reload;
pub mod reloads;
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
        handle::{Message, RestartError, SupervisorHandle},
        lifecycle::Event,
        plugin::ManagedPlugin,
        prepare::Deps,
        reloads::Reloads,
        summary::Summary,
    },
    systemd::watchdog::Watchdog,
    world,
};
use std::{collections::BTreeMap, mem::replace, sync::Arc, thread::available_parallelism};
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
    deps: Deps,
    publisher: TablePublisher,
    watchdog: Option<Watchdog>,
) -> wasmtime::Result<SupervisorHandle> {
    let linker = Arc::new(world::linker(&deps.engine)?);
    let (inbox, messages) = mpsc::unbounded_channel();
    let (sender, summary) = watch::channel(Summary::default());
    let cores = available_parallelism().map_or(1, usize::from);
    let supervisor = Supervisor {
        deps,
        linker,
        publisher,
        inbox: inbox.clone(),
        summary: sender,
        cores: Arc::new(Semaphore::new(cores)),
        plugins: BTreeMap::new(),
        settled: false,
        ignored: Vec::new(),
        tickets: 0,
        generations: 0,
        reloads: Reloads::default(),
        restarts: Vec::new(),
        stopping: None,
    };
    tokio::spawn(supervisor.run(messages, watchdog));
    let handle = SupervisorHandle::new(inbox, summary);
    handle.rescan();
    Ok(handle)
}

struct Supervisor {
    deps: Deps,
    linker: Arc<Linker<world::HostState>>,
    publisher: TablePublisher,
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Sender<Summary>,
    /// As many plugins are compiled and linked at a time as there are cores.
    cores: Arc<Semaphore>,
    plugins: BTreeMap<PluginName, ManagedPlugin>,
    /// The daemon's start has ended: every required plugin was ready, or failed.
    settled: bool,
    /// Files in the directories that are ignored, each with the reason.
    ignored: Vec<String>,
    /// The number of the last preparation.
    tickets: u64,
    /// The number of the last generation.
    generations: u64,
    reloads: Reloads,
    /// Clients that wait until plugins are restarted.
    restarts: Vec<(PluginName, oneshot::Sender<Result<u64, RestartError>>)>,
    stopping: Option<oneshot::Sender<()>>,
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
                    watchdog.as_mut().map(Watchdog::notify);
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
                // The one that waited may have given up.
                done.send(()).ok();
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            // The outcome is not needed any more; a client that waits for an answer learns that the daemon ends.
            Message::Reload { .. }
            | Message::Restart { .. }
            | Message::Read(_)
            | Message::Prepared { .. }
                if self.stopping.is_some() => {}
            Message::Reload { options, reply } => self.request_reload(options, reply),
            Message::Restart { name, reply } => self.restart(name, reply),
            // The client may have gone away.
            Message::List(reply) => drop(reply.send(self.list())),
            Message::Describe { name, reply } => drop(reply.send(self.describe(&name))),
            Message::Read(Ok((report, plan))) => self.apply(report, plan),
            Message::Read(Err(error)) => self.keep_last_good_set(&error),
            Message::Prepared { name, ticket, outcome, saved_state } => {
                self.prepared(&name, ticket, *outcome, saved_state);
            }
            Message::Worker { name, generation, event } => {
                self.worker_event(&name, generation, event)
            }
            Message::Due { name, generation } => self.event(&name, generation, Event::Due),
            Message::TimedOut { name, generation } => {
                self.event(&name, generation, Event::TimedOut)
            }
            Message::HandoverDue { name, number } => self.handover_due(&name, number),
            Message::Stop(done) => self.stop(done),
        }
    }

    fn list(&self) -> Vec<crate::api::Plugin> {
        self.plugins.iter().map(|(name, managed)| managed.report(name)).collect()
    }

    fn describe(&self, name: &PluginName) -> Option<crate::api::Description> {
        self.plugins.get(name).map(|managed| managed.describe(name))
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.reloads.stop();
        self.restarts.clear();
        for name in self.plugins.keys().cloned().collect::<Vec<_>>() {
            self.save_and_stop(&name);
        }
    }

    fn publish(&self) {
        let mut managed: Vec<_> = self
            .plugins
            .iter()
            .filter(|(name, managed)| !managed.removed && !self.reloads.is_held_back(name))
            .collect();
        // Where two ask for one route, the one that serves it comes first.
        managed.sort_by_key(|(_, managed)| managed.serving().is_none());
        let mut entries = BTreeMap::new();
        for (name, managed) in managed {
            let (routes, pool) = managed.routes();
            for (route, strip) in routes {
                let entry = || RouteEntry { plugin: name.clone(), pool: pool.clone(), strip };
                entries.entry(route).or_insert_with(entry);
            }
        }
        self.publisher.publish(RouteTable::new(entries));
    }

    fn sum_up(&mut self) {
        let mut summary = Summary { ignored: self.ignored.clone(), ..Summary::default() };
        {
            let plan = self.deps.plan.borrow();
            summary.unused_sockets.extend(plan.unused.iter().cloned());
            summary.missing_sockets.extend(plan.missing.iter().map(ToString::to_string));
        }
        for (name, managed) in self.plugins.iter().filter(|(_, managed)| !managed.removed) {
            managed.sum_up(name, &mut summary);
        }
        self.reloads.sum_up(|name| self.plugins.contains_key(name), &mut summary);
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
