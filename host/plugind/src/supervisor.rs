//! The one task that owns every plugin's state. Each turn: wait for news, decide, set work going.
//!
//! It never awaits a guest, so a guest that hangs does not hang its keeper; and nothing that serves a request waits
//! for it.

use crate::{
    chain::Chain,
    crew::{Failure, News},
    generation::Generation,
    journal::Journal,
    lifecycle::{Effect, Event, State, Trial},
    link::{Linked, link},
    name::PluginName,
    plugin::{
        cache::Cache,
        compile::{Compiler, compile},
        manifest::Manifest,
        scan::{ScanError, SearchPath, Stray, scan},
        verify::{Rejected, Verified, VerifyError, verify},
    },
    summary::{Failed, Stage, Summary},
    table::{Entry, Publisher, Route, Table},
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{error, info, warn};
use wasmtime::{Engine, component::Linker};

/// How much later than its instances' own deadline a generation is ended from outside.
const GRACE: Duration = Duration::from_secs(1);

/// What the keeper needs to make plugins from files.
#[derive(Clone)]
pub struct Means {
    /// Where plugins are looked for.
    pub search_path: SearchPath,
    /// What runs them.
    pub engine: Engine,
    /// Where compiled code is.
    pub cache: Cache,
    /// What makes it.
    pub compiler: Compiler,
    /// Where plugins speak.
    pub journal: Journal,
}

/// The way to the supervisor.
pub struct Keeper {
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Receiver<Summary>,
}

impl Keeper {
    /// Starts the supervisor, which at once begins to read the directories.
    ///
    /// # Errors
    /// When the host's own interfaces do not fit together, which would be a mistake of ours.
    pub fn start(means: Means, publisher: Publisher) -> wasmtime::Result<Self> {
        let linker = Arc::new(world::linker(&means.engine)?);
        let (inbox, messages) = mpsc::unbounded_channel();
        let (sender, summary) = watch::channel(Summary::default());
        let supervisor = Supervisor {
            means,
            linker,
            publisher,
            inbox: inbox.clone(),
            summary: sender,
            at_work: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            plugins: BTreeMap::new(),
            known: Known::default(),
            numbers: 0,
            reload: None,
            again: false,
            stopping: None,
        };
        tokio::spawn(supervisor.run(messages));
        let keeper = Self { inbox, summary };
        keeper.rescan();
        Ok(keeper)
    }

    /// Has the directories read anew, and what changed in them taken over.
    pub fn rescan(&self) {
        self.send(Message::Rescan);
    }

    /// How all plugins are, now and from now on.
    #[must_use]
    pub fn summary(&self) -> watch::Receiver<Summary> {
        self.summary.clone()
    }

    /// Stops every plugin, and waits until they are gone.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.send(Message::Stop(done));
        // An error means that the supervisor is gone, and everything with it.
        stopped.await.ok();
    }

    fn send(&self, message: Message) {
        // It is gone only when the daemon is on its way out, and then nobody needs it.
        self.inbox.send(message).ok();
    }
}

enum Message {
    Rescan,
    Judged(Result<(Vec<Result<Verified, Rejected>>, Vec<Stray>), ScanError>),
    Prepared { name: PluginName, ticket: u64, outcome: Box<Result<Linked, (Stage, String)>> },
    Worker { name: PluginName, generation: u64, news: News },
    Due { name: PluginName, generation: u64 },
    TimedOut { name: PluginName, generation: u64 },
    Stop(oneshot::Sender<()>),
}

/// One plugin and all of its generations.
#[derive(Default)]
struct Plugin {
    /// The one that serves, or did until it failed.
    current: Option<Generation>,
    /// The one that is to take its place.
    candidate: Option<Generation>,
    /// Those that finish what they have in hand.
    leaving: Vec<Generation>,
    /// The number of the preparation that is under way.
    preparing: Option<(u64, Manifest)>,
    /// Why the newest version does not serve.
    problem: Option<(Stage, String, bool, Option<Manifest>)>,
    removed: bool,
}

/// What was learnt of the directories.
#[derive(Default)]
struct Known {
    scanned: bool,
    unreadable: Option<String>,
}

/// One reading of the directories and what comes of it.
#[derive(Default)]
struct Reload {
    pending: BTreeSet<PluginName>,
    changed: usize,
    failed: usize,
    removed: usize,
    unchanged: usize,
}

struct Supervisor {
    means: Means,
    linker: Arc<Linker<world::State>>,
    publisher: Publisher,
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Sender<Summary>,
    /// As many plugins are compiled and linked at a time as there are cores.
    at_work: Arc<Semaphore>,
    plugins: BTreeMap<PluginName, Plugin>,
    known: Known,
    numbers: u64,
    reload: Option<Reload>,
    again: bool,
    stopping: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        while let Some(message) = messages.recv().await {
            self.handle(message);
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
            Message::Rescan if self.stopping.is_some() => (),
            Message::Rescan if self.reload.is_some() => self.again = true,
            Message::Rescan => self.read_directories(),
            Message::Judged(Ok((judged, strays))) => self.compare(judged, &strays),
            Message::Judged(Err(error)) => self.keep_last_good_set(&error),
            Message::Prepared { name, ticket, outcome } => self.prepared(&name, ticket, *outcome),
            Message::Worker { name, generation, news } => self.worker_news(&name, generation, news),
            Message::Due { name, generation } => self.generation_event(&name, generation, Event::Due),
            Message::TimedOut { name, generation } => self.generation_event(&name, generation, Event::TimedOut),
            Message::Stop(done) => self.stop(done),
        }
    }

    fn read_directories(&mut self) {
        self.reload = Some(Reload::default());
        if self.known.scanned {
            info!("reloading");
        }
        let (search_path, inbox) = (self.means.search_path.clone(), self.inbox.clone());
        tokio::task::spawn_blocking(move || {
            let judged = scan(&search_path).map(|(found, strays)| (found.into_iter().map(verify).collect(), strays));
            inbox.send(Message::Judged(judged)).ok();
        });
    }

    fn keep_last_good_set(&mut self, error: &ScanError) {
        let told = Chain(error).to_string();
        error!(stage = %Stage::Scan, error = told, "directories not read, everything stays as it is");
        self.known.unreadable = Some(told);
        self.finish_reload();
    }

    /// Compares what was found with what there is, by content, and sets going what differs.
    fn compare(&mut self, judged: Vec<Result<Verified, Rejected>>, strays: &[Stray]) {
        for stray in strays {
            warn!(stage = %Stage::Scan, error = %stray, "not a plugin");
        }
        self.known = Known { scanned: true, unreadable: None };
        let mut names = BTreeSet::new();
        let mut claims: BTreeMap<Route, PluginName> = BTreeMap::new();
        for judgement in judged {
            let name = match &judgement {
                Ok(verified) => verified.name().clone(),
                Err(rejected) => rejected.name.clone(),
            };
            names.insert(name.clone());
            self.plugins.entry(name.clone()).or_default().removed = false;
            match judgement {
                Err(Rejected { name, manifest, error }) => {
                    let configuration = !matches!(error, VerifyError::Read { .. });
                    self.problem(&name, Stage::Verify, &Chain(&error).to_string(), configuration, manifest);
                }
                Ok(verified) => match claim(&verified, &mut claims) {
                    Err(conflict) => {
                        self.problem(&name, Stage::Route, &conflict, true, Some(verified.manifest().clone()));
                    }
                    Ok(()) => self.take_up(verified),
                },
            }
        }
        let vanished: Vec<_> = self.plugins.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in vanished {
            self.remove(&name, StopReason::Removed);
        }
        self.publish();
        self.finish_reload_if_settled();
    }

    /// Prepares what was found, unless it is what there is already.
    fn take_up(&mut self, verified: Verified) {
        let name = verified.name().clone();
        let Some(plugin) = self.plugins.get_mut(&name) else { return };
        let reload = self.reload.get_or_insert_default();
        let is_it = |generation: &Generation| {
            generation.is_made_from(verified.digest(), verified.manifest()) && generation.life.state() != State::Failed
        };
        if plugin.current.as_ref().is_some_and(is_it) {
            reload.unchanged += 1;
            plugin.problem = None;
            self.dismiss_candidate(&name);
            return;
        }
        reload.pending.insert(name.clone());
        self.numbers += 1;
        let ticket = self.numbers;
        plugin.preparing = Some((ticket, verified.manifest().clone()));
        self.dismiss_candidate(&name);

        let (means, linker) = (self.means.clone(), self.linker.clone());
        let (at_work, inbox) = (self.at_work.clone(), self.inbox.clone());
        tokio::spawn(async move {
            // It is never closed.
            let _permit = at_work.acquire_owned().await;
            let prepare = tokio::task::spawn_blocking(move || prepare(verified, &means, &linker));
            let outcome = prepare.await.unwrap_or_else(|panic| Err((Stage::Compile, format!("the host failed: {panic}"))));
            inbox.send(Message::Prepared { name, ticket, outcome: Box::new(outcome) }).ok();
        });
    }

    fn prepared(&mut self, name: &PluginName, ticket: u64, outcome: Result<Linked, (Stage, String)>) {
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        // Something newer was found meanwhile, or nothing any more.
        let Some((_, manifest)) = plugin.preparing.take_if(|(number, _)| *number == ticket) else { return };
        let linked = match outcome {
            Ok(linked) => linked,
            Err((stage, error)) => {
                self.problem(name, stage, &error, true, Some(manifest));
                self.finish_reload_if_settled();
                return;
            }
        };
        let serves = |generation: &Generation| matches!(generation.life.state(), State::Active | State::Recovering);
        let trial = match (linked.manifest.required, plugin.current.as_ref().is_some_and(serves)) {
            (_, true) => Trial::Candidate,
            (true, false) => Trial::Required,
            (false, false) => Trial::BestEffort,
        };
        self.numbers += 1;
        let (number, inbox, sender) = (self.numbers, self.inbox.clone(), name.clone());
        let tell = move |news| {
            let message = Message::Worker { name: sender.clone(), generation: number, news };
            inbox.send(message).ok();
        };
        let generation = Generation::new(number, linked, trial, self.means.journal.clone(), tell);
        plugin.candidate = Some(generation);
        self.generation_event(name, number, Event::Start);
    }

    fn worker_news(&mut self, name: &PluginName, number: u64, news: News) {
        if let News::Failed { worker, failure, .. } = &news {
            warn!(plugin = %name, generation = number, worker, result = failure.result(), error = %failure, "worker ended");
        }
        let Some(generation) = self.generation(name, number) else { return };
        let event = generation.event(news);
        self.generation_event(name, number, event);
    }

    fn generation(&mut self, name: &PluginName, number: u64) -> Option<&mut Generation> {
        let plugin = self.plugins.get_mut(name)?;
        let all = plugin.current.iter_mut().chain(&mut plugin.candidate).chain(&mut plugin.leaving);
        all.into_iter().find(|generation| generation.number == number)
    }

    /// Lets one generation decide, does what it decided, and draws the conclusions for its plugin.
    fn generation_event(&mut self, name: &PluginName, number: u64, event: Event) {
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

    fn perform(&mut self, name: &PluginName, number: u64, effect: Effect) {
        let inbox = self.inbox.clone();
        let Some(generation) = self.generation(name, number) else { return };
        match effect {
            Effect::StartWorker => generation.pool.start_worker(),
            Effect::Hold => generation.pool.hold(),
            Effect::Dismiss => {
                generation.pool.dismiss(generation.reason);
                let patience = generation.manifest().service.timeout_stop + GRACE;
                remind(inbox, patience, Message::TimedOut { name: name.clone(), generation: number });
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

    /// The candidate is ready: it takes the place of the current generation in one swap.
    fn take_over(&mut self, name: &PluginName, number: u64) {
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        let Some(candidate) = plugin.candidate.take_if(|candidate| candidate.number == number) else { return };
        let routes = routes(name, candidate.manifest());
        let route: Vec<_> = routes.iter().map(|(route, _)| route.to_string()).collect();
        let served = candidate.pool.linked().offers.http.is_some();
        info!(plugin = %name, generation = number, route = if served { route.join(" ") } else { "-".to_owned() }, "plugin ready");
        plugin.problem = None;
        let replaced = plugin.current.replace(candidate);
        self.publish();
        if let Some(replaced) = replaced {
            self.let_go(name, replaced, StopReason::Reload);
        }
        self.settled(name, true);
    }

    fn conclude(&mut self, name: &PluginName, number: u64, state: State) {
        match state {
            State::Failed => self.generation_failed(name, number),
            State::Inactive => {
                // A program that was quick to return was never a candidate for anything else.
                self.take_over(name, number);
                info!(plugin = %name, generation = number, result = "success", "plugin inactive");
            }
            State::Gone => {
                let Some(plugin) = self.plugins.get_mut(name) else { return };
                plugin.leaving.retain(|generation| generation.number != number);
                self.forget_if_gone(name);
            }
            State::Starting | State::Active | State::Recovering | State::Waiting | State::Leaving => (),
        }
    }

    fn generation_failed(&mut self, name: &PluginName, number: u64) {
        let Some(generation) = self.generation(name, number) else { return };
        let mut error = generation.failure.as_ref().map_or_else(|| "it failed".to_owned(), ToString::to_string);
        if generation.life.limit_hit() {
            error = format!("start-limit-hit: it was started too often in too short a time; at last {error}");
        }
        let configuration = matches!(generation.failure, Some(Failure::Configuration(_)));
        let manifest = generation.manifest().clone();
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        let candidate = plugin.candidate.take_if(|candidate| candidate.number == number);
        let stage = if candidate.is_some() { Stage::Start } else { Stage::Run };
        if let Some(candidate) = candidate {
            self.let_go(name, candidate, StopReason::Stop);
        }
        self.problem(name, stage, &error, configuration, Some(manifest));
        self.publish();
        self.finish_reload_if_settled();
    }

    /// The newest version of a plugin cannot be used. What there was goes on.
    fn problem(&mut self, name: &PluginName, stage: Stage, error: &str, configuration: bool, manifest: Option<Manifest>) {
        error!(plugin = %name, %stage, error, "plugin failed");
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        plugin.preparing = None;
        plugin.problem = Some((stage, error.to_owned(), configuration, manifest));
        self.dismiss_candidate(name);
        self.settled(name, false);
    }

    fn dismiss_candidate(&mut self, name: &PluginName) {
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        if let Some(candidate) = plugin.candidate.take() {
            self.let_go(name, candidate, StopReason::Stop);
        }
    }

    fn let_go(&mut self, name: &PluginName, mut generation: Generation, reason: StopReason) {
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        generation.reason = reason;
        let number = generation.number;
        plugin.leaving.push(generation);
        self.generation_event(name, number, Event::Dismiss);
    }

    fn remove(&mut self, name: &PluginName, reason: StopReason) {
        let Some(plugin) = self.plugins.get_mut(name) else { return };
        if !std::mem::replace(&mut plugin.removed, true) && reason == StopReason::Removed {
            info!(plugin = %name, "plugin removed");
            self.reload.get_or_insert_default().removed += 1;
        }
        plugin.preparing = None;
        let all: Vec<_> = plugin.current.take().into_iter().chain(plugin.candidate.take()).collect();
        for generation in all {
            self.let_go(name, generation, reason);
        }
        self.forget_if_gone(name);
    }

    fn forget_if_gone(&mut self, name: &PluginName) {
        let gone = |plugin: &Plugin| plugin.removed && plugin.leaving.is_empty();
        if self.plugins.get(name).is_some_and(gone) {
            self.plugins.remove(name);
        }
    }

    fn settled(&mut self, name: &PluginName, well: bool) {
        let Some(reload) = &mut self.reload else { return };
        let was_pending = reload.pending.remove(name);
        match well {
            true if was_pending => reload.changed += 1,
            true => (),
            false => reload.failed += 1,
        }
        self.finish_reload_if_settled();
    }

    fn finish_reload_if_settled(&mut self) {
        let waits = |name: &PluginName| {
            self.plugins.get(name).is_some_and(|plugin| plugin.preparing.is_some() || plugin.candidate.is_some())
        };
        if self.known.scanned && self.reload.as_ref().is_some_and(|reload| !reload.pending.iter().any(waits)) {
            self.finish_reload();
        }
    }

    fn finish_reload(&mut self) {
        if let Some(Reload { changed, failed, removed, unchanged, .. }) = self.reload.take() {
            info!(changed, failed, removed, unchanged, "reloaded");
        }
        if std::mem::take(&mut self.again) {
            self.read_directories();
        }
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.reload = None;
        let names: Vec<_> = self.plugins.keys().cloned().collect();
        for name in names {
            self.remove(&name, StopReason::Shutdown);
        }
    }

    fn publish(&self) {
        let mut entries = BTreeMap::new();
        for (name, plugin) in self.plugins.iter().filter(|(_, plugin)| !plugin.removed) {
            let serves = |generation: &&Generation| matches!(generation.life.state(), State::Active | State::Recovering);
            let (manifest, pool) = match plugin.current.as_ref().filter(serves) {
                Some(current) => (Some(current.manifest()), Some(current.pool.clone())),
                None => (plugin.manifest(), None),
            };
            for (route, strip_prefix) in manifest.map(|manifest| routes(name, manifest)).unwrap_or_default() {
                let strip = if strip_prefix { route.prefix.split('/').filter(|segment| !segment.is_empty()).count() } else { 0 };
                let entry = Entry { plugin: name.clone(), pool: pool.clone(), strip };
                // The first in the order of names has the route; the other one has been complained about.
                entries.entry(route).or_insert(entry);
            }
        }
        self.publisher.publish(Table::new(entries));
    }

    fn sum_up(&self) {
        let mut summary = Summary {
            scanned: self.known.scanned,
            unreadable: self.known.unreadable.clone(),
            ..Summary::default()
        };
        for (name, plugin) in self.plugins.iter().filter(|(_, plugin)| !plugin.removed) {
            summary.plugins += 1;
            let required = plugin.manifest().is_none_or(|manifest| manifest.required);
            let state = plugin.current.as_ref().map(|current| current.life.state());
            match state {
                Some(State::Active | State::Recovering | State::Inactive) => summary.ready += 1,
                _ if plugin.preparing.is_some() || plugin.candidate.is_some() || state == Some(State::Waiting) => {
                    if required {
                        summary.awaited.push(name.clone());
                    }
                }
                _ => (),
            }
            if let Some((stage, error, configuration, _)) = &plugin.problem {
                summary.failed.push(Failed {
                    plugin: name.clone(),
                    required,
                    stage: *stage,
                    error: error.clone(),
                    configuration: *configuration,
                });
            }
        }
        self.summary.send_if_modified(|last| {
            let changed = *last != summary;
            *last = summary;
            changed
        });
    }
}

impl Plugin {
    /// The newest manifest that is known.
    fn manifest(&self) -> Option<&Manifest> {
        let problem = self.problem.as_ref().and_then(|(_, _, _, manifest)| manifest.as_ref());
        let generations = self.candidate.as_ref().or(self.current.as_ref()).map(Generation::manifest);
        self.preparing.as_ref().map(|(_, manifest)| manifest).or(problem).or(generations)
    }
}

/// The part that takes long, and may.
fn prepare(verified: Verified, means: &Means, linker: &Linker<world::State>) -> Result<Linked, (Stage, String)> {
    let path = verified.path().to_owned();
    let compiled = compile(verified, &means.engine, &means.cache, &means.compiler)
        .map_err(|error| (Stage::Compile, format!("{}: {}", path.display(), Chain(&error))))?;
    link(compiled, linker).map_err(|error| (Stage::Link, format!("{} {}", path.display(), Chain(&error))))
}

fn remind(inbox: mpsc::UnboundedSender<Message>, time: Duration, message: Message) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        inbox.send(message).ok();
    });
}

/// The routes of a plugin with this manifest, and whether it sees paths without them.
fn routes(name: &PluginName, manifest: &Manifest) -> Vec<(Route, bool)> {
    let own = || format!("/{name}");
    if manifest.serve.is_empty() {
        return vec![(Route { host: None, prefix: own() }, false)];
    }
    let route = |serve: &crate::plugin::manifest::Serve| {
        let prefix = serve.route.clone().unwrap_or_else(own);
        (Route { host: serve.host.clone(), prefix }, serve.strip_prefix)
    };
    manifest.serve.iter().map(route).collect()
}

/// Takes the routes of a plugin, unless another one has them.
fn claim(verified: &Verified, claims: &mut BTreeMap<Route, PluginName>) -> Result<(), String> {
    if verified.offers().http.is_none() {
        return Ok(());
    }
    let routes = routes(verified.name(), verified.manifest());
    for (route, _) in &routes {
        if let Some(owner) = claims.get(route) {
            return Err(format!(
                "the route {route} is already taken by the plugin {owner}; give one of them another route in [[serve]]"
            ));
        }
    }
    claims.extend(routes.into_iter().map(|(route, _)| (route, verified.name().clone())));
    Ok(())
}
