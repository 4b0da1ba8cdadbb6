//! The one task that owns every plugin's state. Each turn: wait for news, decide, set work going.
//!
//! It never awaits a guest, so a guest that hangs does not hang its keeper; and nothing that serves a request waits
//! for it.

use crate::{
    chain::Chain,
    claims::Wish,
    compare::{Verdict, compare},
    crew::News,
    failure::Failure,
    generation::Generation,
    keeper::{Keeper, Message},
    kept::{Kept, Preparing, Problem},
    lifecycle::{Effect, Event, State, Trial},
    link::Linked,
    name::PluginName,
    plugin::{scan::ScanError, verify::Verified},
    prepare::{Findings, Means, PrepareError, prepare, read},
    reload::Reload,
    summary::{Stage, Summary},
    table::{Entry, Publisher, Table},
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{replace, take},
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{error, info, warn};
use wasmtime::component::Linker;

/// How much later than its instances' own deadline a generation is ended from outside.
const GRACE: Duration = Duration::from_secs(1);

/// Starts the supervisor, which at once begins to read the directories.
///
/// # Errors
/// When the host's own interfaces do not fit together, which would be a mistake of ours.
pub fn start(means: Means, publisher: Publisher) -> wasmtime::Result<Keeper> {
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
        at_work: Arc::new(Semaphore::new(cores)),
        plugins: BTreeMap::new(),
        scanned: false,
        started: false,
        unreadable: None,
        tickets: 0,
        generations: 0,
        reload: None,
        again: false,
        stopping: None,
    };
    tokio::spawn(supervisor.run(messages));
    let keeper = Keeper::new(inbox, summary);
    keeper.rescan();
    Ok(keeper)
}

struct Supervisor {
    means: Means,
    linker: Arc<Linker<world::State>>,
    publisher: Publisher,
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Sender<Summary>,
    /// As many plugins are compiled and linked at a time as there are cores.
    at_work: Arc<Semaphore>,
    plugins: BTreeMap<PluginName, Kept>,
    scanned: bool,
    /// What was found at first has been started, or failed to.
    started: bool,
    unreadable: Option<String>,
    /// The number of the last preparation.
    tickets: u64,
    /// The number of the last generation.
    generations: u64,
    reload: Option<Reload>,
    /// The directories are to be read once more when they have been read.
    again: bool,
    stopping: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        while let Some(message) = messages.recv().await {
            self.handle(message);
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
            // What is on its way is not worth anything any more.
            Message::Rescan | Message::Read(_) | Message::Prepared { .. }
                if self.stopping.is_some() => {}
            Message::Rescan => self.rescan(),
            Message::Read(Ok(findings)) => self.take_stock(findings),
            Message::Read(Err(error)) => self.keep_last_good_set(&error),
            Message::Prepared { name, ticket, outcome } => self.prepared(&name, ticket, *outcome),
            Message::Worker { name, generation, news } => self.worker_news(&name, generation, news),
            Message::Due { name, generation } => self.event(&name, generation, Event::Due),
            Message::TimedOut { name, generation } => {
                self.event(&name, generation, Event::TimedOut)
            }
            Message::Stop(done) => self.stop(done),
        }
    }

    fn rescan(&mut self) {
        if self.reload.as_ref().is_some_and(|reload| !reload.is_compared()) {
            // It may have been read already what has changed since.
            self.again = true;
            return;
        }
        self.reload = Some(Reload::default());
        if self.started {
            info!("reloading");
        }
        let (search_path, inbox) = (self.means.search_path.clone(), self.inbox.clone());
        tokio::task::spawn_blocking(move || {
            // Nobody is there to hear it only when the daemon is ending.
            inbox.send(Message::Read(read(&search_path))).ok();
        });
    }

    fn keep_last_good_set(&mut self, error: &ScanError) {
        let told = Chain(error).to_string();
        error!(stage = %Stage::Scan, error = told, "directories not read");
        self.unreadable = Some(told);
        self.compared();
    }

    /// Sets going what was found to differ from what there is.
    fn take_stock(&mut self, findings: Findings) {
        for stray in &findings.strays {
            warn!(stage = %Stage::Scan, error = %stray, "not a plugin");
        }
        (self.scanned, self.unreadable) = (true, None);
        let mut found = BTreeSet::new();
        for (name, verdict) in compare(findings.plugins, &self.plugins) {
            self.plugins.entry(name.clone()).or_default().removed = false;
            let reload = self.reload.get_or_insert_default();
            match verdict {
                Verdict::Same => {
                    reload.unchanged += 1;
                    self.leave_as_it_is(&name);
                }
                Verdict::OnItsWay => reload.await_plugin(&name),
                Verdict::Changed { verified, wishes } => {
                    reload.await_plugin(&name);
                    self.take_up(*verified, wishes);
                }
                Verdict::Bad(problem) => self.problem(&name, problem),
            }
            found.insert(name);
        }
        let vanished = self.plugins.keys().filter(|name| !found.contains(*name)).cloned();
        for name in vanished.collect::<Vec<_>>() {
            self.remove(&name, StopReason::Removed);
        }
        self.publish();
        self.compared();
    }

    fn compared(&mut self) {
        if let Some(reload) = &mut self.reload {
            reload.compared();
        }
        if take(&mut self.again) {
            self.rescan();
        }
    }

    /// Whatever was to follow is not wanted any more.
    fn leave_as_it_is(&mut self, name: &PluginName) {
        if let Some(kept) = self.plugins.get_mut(name) {
            (kept.problem, kept.preparing) = (None, None);
        }
        self.dismiss_candidate(name);
    }

    /// Has a version that was found compiled and linked.
    fn take_up(&mut self, verified: Verified, wishes: Vec<Wish>) {
        let name = verified.name().clone();
        let Some(kept) = self.plugins.get_mut(&name) else { return };
        self.tickets += 1;
        let ticket = self.tickets;
        let (digest, manifest) = (*verified.digest(), verified.manifest().clone());
        kept.preparing = Some(Preparing { ticket, digest, manifest, wishes });
        self.dismiss_candidate(&name);

        let (means, linker) = (self.means.clone(), self.linker.clone());
        let (at_work, inbox) = (self.at_work.clone(), self.inbox.clone());
        tokio::spawn(async move {
            // It is never closed.
            let _permit = at_work.acquire_owned().await;
            let prepared =
                tokio::task::spawn_blocking(move || prepare(verified, &means, &linker)).await;
            let outcome = prepared.unwrap_or_else(|panic| {
                let error = format!("the host failed: {panic}");
                Err(PrepareError { stage: Stage::Link, error, configuration: true })
            });
            inbox.send(Message::Prepared { name, ticket, outcome: Box::new(outcome) }).ok();
        });
    }

    fn prepared(&mut self, name: &PluginName, ticket: u64, outcome: Result<Linked, PrepareError>) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        // Otherwise something newer was found meanwhile, or nothing any more.
        let Some(preparing) = kept.preparing.take_if(|preparing| preparing.ticket == ticket) else {
            return;
        };
        let linked = match outcome {
            Ok(linked) => linked,
            Err(PrepareError { stage, error, configuration }) => {
                let (required, wishes) = (preparing.manifest.required, preparing.wishes);
                self.problem(name, Problem { stage, error, configuration, required, wishes });
                self.publish();
                return;
            }
        };
        let trial = match (linked.manifest.required, kept.serving().is_some()) {
            (_, true) => Trial::Candidate,
            (true, false) => Trial::Required,
            (false, false) => Trial::BestEffort,
        };
        self.generations += 1;
        let (number, inbox, sender) = (self.generations, self.inbox.clone(), name.clone());
        let tell = move |news| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, news }).ok();
        };
        kept.candidate =
            Some(Generation::new(number, linked, trial, self.means.journal.clone(), tell));
        self.event(name, number, Event::Start);
    }

    fn worker_news(&mut self, name: &PluginName, number: u64, news: News) {
        let ended = match &news {
            News::Failed { worker, failure, .. } => {
                Some((worker, failure.result(), failure.to_string()))
            }
            News::Retired { worker } => {
                Some((worker, "timeout", "a request took too long".to_owned()))
            }
            News::Ready { .. } | News::Returned | News::Gone => None,
        };
        if let Some((worker, result, error)) = ended {
            warn!(plugin = %name, generation = number, worker, result, error, "worker ended");
        }
        let Some(generation) = self.generation(name, number) else { return };
        let event = generation.event(news);
        self.event(name, number, event);
    }

    fn generation(&mut self, name: &PluginName, number: u64) -> Option<&mut Generation> {
        self.plugins.get_mut(name)?.generation(number)
    }

    /// Lets one generation decide, does what it decided, and draws the conclusions for its plugin.
    fn event(&mut self, name: &PluginName, number: u64, event: Event) {
        let Some(generation) = self.generation(name, number) else { return };
        let before = generation.life.state();
        let effects = generation.life.handle(event, Instant::now());
        let after = generation.life.state();
        for effect in effects {
            self.perform(name, number, effect);
        }
        if before != after {
            self.conclude(name, number, after);
        }
    }

    /// Sets work going and returns at once; its outcome comes back as news.
    fn perform(&mut self, name: &PluginName, number: u64, effect: Effect) {
        let inbox = self.inbox.clone();
        let Some(generation) = self.generation(name, number) else { return };
        match effect {
            Effect::StartWorker => generation.pool.start_worker(),
            Effect::Hold => generation.pool.hold(),
            Effect::Release => generation.pool.release(),
            Effect::Dismiss => {
                generation.pool.dismiss(generation.reason);
                let patience = generation.pool.patience() + GRACE;
                remind(
                    inbox,
                    patience,
                    Message::TimedOut { name: name.clone(), generation: number },
                );
            }
            Effect::Kill => generation.pool.kill(),
            Effect::WakeAt(moment) => {
                let time = moment.saturating_duration_since(Instant::now());
                remind(inbox, time, Message::Due { name: name.clone(), generation: number });
            }
            Effect::Publish => self.take_over(name, number),
            Effect::Withdraw => self.publish(),
        }
    }

    /// Draws the conclusions of a generation's having come to `state`.
    fn conclude(&mut self, name: &PluginName, number: u64, state: State) {
        match state {
            State::Failed => self.generation_failed(name, number),
            State::Inactive => {
                // A program that was quick to return was never said to be ready.
                self.take_over(name, number);
                info!(plugin = %name, generation = number, result = "success", "plugin inactive");
            }
            State::Waiting => {
                // It is tried again, and nobody waits for that but the daemon's own start.
                let waits = self
                    .generation(name, number)
                    .is_some_and(|generation| generation.manifest().required);
                if let Some(reload) = self.reload.as_mut().filter(|_| !waits) {
                    reload.failed(name);
                }
            }
            State::Gone => {
                let Some(kept) = self.plugins.get_mut(name) else { return };
                kept.leaving.retain(|generation| generation.number != number);
                if kept.is_gone() {
                    self.plugins.remove(name);
                }
            }
            State::Starting | State::Active | State::Recovering | State::Leaving => (),
        }
    }

    /// The candidate is ready: it takes the place of the current generation in one swap.
    fn take_over(&mut self, name: &PluginName, number: u64) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let Some(candidate) = kept.candidate.take_if(|candidate| candidate.number == number) else {
            return;
        };
        let replaced = kept.current.replace(candidate);
        kept.problem = None;
        let routes: Vec<_> = kept.routes().0.iter().map(|(route, _)| route.to_string()).collect();
        let route = if routes.is_empty() { "-".to_owned() } else { routes.join(" ") };
        self.publish();
        info!(plugin = %name, generation = number, route, "plugin ready");
        if let Some(replaced) = replaced {
            self.let_go(name, replaced, StopReason::Reload);
        }
        if let Some(reload) = &mut self.reload {
            reload.taken_over(name);
        }
    }

    fn generation_failed(&mut self, name: &PluginName, number: u64) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let Some(generation) = kept.generation(number) else { return };
        let mut error =
            generation.failure.as_ref().map_or_else(|| "it failed".to_owned(), ToString::to_string);
        if generation.life.limit_hit() {
            error = format!(
                "start-limit-hit: it was started too often in too short a time; at last {error}"
            );
        }
        let configuration = matches!(generation.failure, Some(Failure::Configuration(_)));
        let (required, wishes) = (generation.manifest().required, generation.wishes());
        let stage = match &kept.candidate {
            Some(candidate) if candidate.number == number => Stage::Start,
            _ => Stage::Run,
        };
        self.problem(name, Problem { stage, error, configuration, required, wishes });
        self.publish();
    }

    /// The newest version of a plugin cannot be used. What there was goes on.
    fn problem(&mut self, name: &PluginName, problem: Problem) {
        error!(plugin = %name, stage = %problem.stage, error = problem.error, "plugin failed");
        let Some(kept) = self.plugins.get_mut(name) else { return };
        (kept.preparing, kept.problem) = (None, Some(problem));
        self.dismiss_candidate(name);
        if let Some(reload) = &mut self.reload {
            reload.failed(name);
        }
    }

    fn dismiss_candidate(&mut self, name: &PluginName) {
        let candidate = self.plugins.get_mut(name).and_then(|kept| kept.candidate.take());
        if let Some(candidate) = candidate {
            self.let_go(name, candidate, StopReason::Stop);
        }
    }

    fn let_go(&mut self, name: &PluginName, mut generation: Generation, reason: StopReason) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let number = generation.number;
        generation.reason = reason;
        kept.leaving.push(generation);
        self.event(name, number, Event::Dismiss);
    }

    fn remove(&mut self, name: &PluginName, reason: StopReason) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let was_there = !replace(&mut kept.removed, true);
        kept.preparing = None;
        let all: Vec<_> = kept.current.take().into_iter().chain(kept.candidate.take()).collect();
        for generation in all {
            self.let_go(name, generation, reason);
        }
        if was_there && reason == StopReason::Removed {
            info!(plugin = %name, "plugin removed");
            if let Some(reload) = &mut self.reload {
                reload.removed += 1;
            }
        }
        if self.plugins.get(name).is_some_and(Kept::is_gone) {
            self.plugins.remove(name);
        }
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.reload = None;
        for name in self.plugins.keys().cloned().collect::<Vec<_>>() {
            self.remove(&name, StopReason::Shutdown);
        }
    }

    fn finish_reload(&mut self) {
        if let Some(reload) = self.reload.take_if(|reload| reload.is_over()) {
            let Reload { changed, failed, removed, unchanged, .. } = reload;
            // The first reading is the start, which has a word of its own for its end.
            if replace(&mut self.started, true) && self.unreadable.is_none() {
                info!(changed, failed, removed, unchanged, "reloaded");
            }
        }
    }

    fn publish(&self) {
        let mut kept: Vec<_> = self.plugins.iter().filter(|(_, kept)| !kept.removed).collect();
        // Where two ask for one route, whoever serves it goes before whoever would like to.
        kept.sort_by_key(|(_, kept)| kept.serving().is_none());
        let mut entries = BTreeMap::new();
        for (name, kept) in kept {
            let (routes, pool) = kept.routes();
            for (route, strip) in routes {
                let entry = || Entry { plugin: name.clone(), pool: pool.clone(), strip };
                entries.entry(route).or_insert_with(entry);
            }
        }
        self.publisher.publish(Table::new(entries));
    }

    fn sum_up(&self) {
        let (scanned, unreadable) = (self.scanned, self.unreadable.clone());
        let mut summary = Summary { scanned, unreadable, ..Summary::default() };
        for (name, kept) in self.plugins.iter().filter(|(_, kept)| !kept.removed) {
            kept.sum_up(name, &mut summary);
        }
        self.summary.send_if_modified(|last| {
            let before = replace(last, summary);
            before != *last
        });
    }
}

fn remind(inbox: mpsc::UnboundedSender<Message>, time: Duration, message: Message) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        inbox.send(message).ok();
    });
}
