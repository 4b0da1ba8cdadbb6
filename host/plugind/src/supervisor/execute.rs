//! Executes the actions of plugins. Nothing here decides, and nothing waits: each result arrives as a message.

use crate::{
    api::{self, FailedStage},
    base::{name::PluginName, text::cut},
    journal::messages,
    plugin::{inspection::Inspection, unused_exports::unused_exports},
    pool::{FailureCounts, instances::Pool},
    route::{
        owners::{Route, RouteUse},
        sockets::SocketPlan,
        table::{RouteEntry, RouteTable},
    },
    supervisor::{
        Supervisor,
        handle::Message,
        plugin::{Action, ERROR_MAX, Fact, ManagedPlugin, PluginEvent, Source},
        problem::{PluginProblem, RestartError},
        report::InstanceFacts,
        running::RunningGeneration,
        summary::Failed,
    },
    world::link::Linked,
};
use plugind_artifact::hex::hex;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{replace, take},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// Time after its instances' own deadline at which a generation is ended from outside.
const GRACE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Has a plugin decide; [`Supervisor::execute`] does what it decided.
    pub(super) fn decide(&mut self, name: &PluginName, event: PluginEvent) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            let actions = plugin.handle(event, Instant::now());
            self.actions.push((name.clone(), actions));
        }
    }

    /// Does what was decided since the last time. The routes are published before anything else is done: what
    /// drains must not be found any more, and what is reported ready must be found.
    pub(super) fn execute(&mut self) {
        if self.actions.is_empty() {
            return;
        }
        let decided = take(&mut self.actions);
        if decided.iter().flat_map(|(_, actions)| actions).any(|it| matches!(it, Action::Publish)) {
            self.publish();
        }
        for (name, actions) in decided {
            for action in actions {
                self.act(&name, action);
            }
            if self.plugins.get(&name).is_some_and(ManagedPlugin::is_gone) {
                self.plugins.remove(&name);
            }
            self.touched.insert(name);
        }
        // Versions that were prepared and not used are not wanted any more.
        self.prepared.clear();
    }

    fn act(&mut self, name: &PluginName, action: Action) {
        match action {
            // That was the first thing done.
            Action::Publish => (),
            Action::ReadLastGood => self.read_last_good(name),
            Action::Create { generation, source, inherited } => {
                if let Some(linked) = self.source(source) {
                    let pool = self.create(name, generation, linked);
                    pool.set_initial_state(inherited);
                }
            }
            Action::StartWorker(number) => self.with(number, |it| it.pool.start_worker()),
            Action::TryInstance(number) => self.with(number, |it| it.pool.try_instance()),
            Action::Hold(number) => self.with(number, |it| it.pool.hold()),
            Action::Release(number) => self.with(number, |it| it.pool.release()),
            Action::Drain(number, reason) => {
                self.with(number, |it| it.pool.shut_down(reason));
                let wait_max = self.running.get(&number).map(|it| it.pool.wait_max() + GRACE);
                let event = PluginEvent::TimedOut { generation: number };
                self.send_after(name, wait_max.unwrap_or(GRACE), event);
            }
            Action::Kill(number) => self.with(number, |it| it.pool.kill()),
            Action::WakeAt(number, moment) => {
                let time = moment.saturating_duration_since(Instant::now());
                self.send_after(name, time, PluginEvent::Due { generation: number });
            }
            Action::Save { generation, ticket, timeout } => {
                self.with(generation, |it| it.save = it.pool.save());
                let (inbox, name) = (self.inbox.clone(), name.clone());
                send_later(inbox, timeout, Message::HandoverDue { name, generation, ticket });
            }
            Action::Resume(number) => self.with(number, |it| it.pool.resume()),
            Action::Restore(number, state) => self.with(number, |it| it.pool.restore(state)),
            Action::Inherit(number, state) => {
                self.with(number, |it| it.pool.set_initial_state(state));
            }
            Action::Keep(Some(state)) => self.deps.store.put(name, state),
            Action::Keep(None) => self.deps.store.remove(name),
            Action::Report(fact) => self.report(name, fact),
        }
    }

    fn with(&mut self, number: u64, act: impl FnOnce(&mut RunningGeneration)) {
        if let Some(running) = self.running.get_mut(&number) {
            act(running);
        }
    }

    fn source(&mut self, source: Source) -> Option<Arc<Linked>> {
        match source {
            Source::Preparation(ticket) => self.prepared.remove(&ticket),
            Source::Generation(number) => {
                self.running.get(&number).map(|it| it.pool.linked().clone())
            }
        }
    }

    fn create(&mut self, name: &PluginName, number: u64, linked: Arc<Linked>) -> Arc<Pool> {
        let (inbox, sender) = (self.inbox.clone(), name.clone());
        let report = move |event| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, event }).ok();
        };
        let pool = Pool::new(linked, number, &self.deps.commons, report);
        self.board.add_pool(name, &pool);
        let (save, since, created) = (0, None, Instant::now());
        self.running.insert(number, RunningGeneration { pool: pool.clone(), save, since, created });
        pool
    }

    fn send_after(&self, name: &PluginName, time: Duration, event: PluginEvent) {
        send_later(self.inbox.clone(), time, Message::Plugin { name: name.clone(), event });
    }

    /// Reports the log entries that the rate limit dropped for a generation whose last instance has ended.
    pub(super) fn report_dropped(&self, number: u64) {
        if let Some(running) = self.running.get(&number) {
            running.pool.report_rest();
        }
    }

    /// Whether other workers of a generation take work.
    pub(super) fn has_workers(&self, number: u64) -> bool {
        self.running.get(&number).is_some_and(|it| it.pool.workers() > 0)
    }

    /// Whether this is the save that was ordered last.
    pub(super) fn is_last_save(&self, number: u64, save: u64) -> bool {
        self.running.get(&number).is_some_and(|it| it.save == save)
    }

    /// Whether the guest of this generation was asked to save.
    pub(super) fn has_begun_to_save(&self, number: u64) -> bool {
        self.running.get(&number).is_some_and(|it| it.pool.has_begun_to_save())
    }

    /// Returns the facts about a generation's instances.
    pub(super) fn facts(&self, number: u64) -> Option<InstanceFacts> {
        let RunningGeneration { pool, since, .. } = self.running.get(&number)?;
        let notify = &pool.shared().notify;
        let status = Some(notify.status());
        let (workers, requests) = (pool.workers(), Some(requests(pool)));
        Some(InstanceFacts { workers, status, degraded: None, since: *since, requests })
    }

    fn report(&mut self, name: &PluginName, fact: Fact) {
        match fact {
            Fact::WorkerEnded { generation, worker, result, error, post_mortem } => {
                self.deps.commons.figures.of(name).failed(result);
                warn!(
                    message_id = messages::INSTANCE_FAILED,
                    plugin = %name,
                    generation,
                    worker,
                    result,
                    error,
                    backtrace = post_mortem.backtrace,
                    core_dump = post_mortem.core_dump.as_deref().map(|it| display(it.display())),
                    request_id = post_mortem.request.map(|request| display(request.request_id())),
                    trace_id = post_mortem.request.map(|request| display(request.trace_id())),
                    "instance failed"
                );
            }
            Fact::Ready { generation, previous } => self.ready(name, generation, previous),
            Fact::FellBack(problem) => warn!(
                message_id = messages::PREVIOUS_VERSION,
                plugin = %name,
                stage = %problem.stage,
                error = %problem.error,
                remedy = problem.failed(name).remedy(),
                "previous version serves"
            ),
            Fact::Returned { generation } => info!(
                message_id = messages::PROGRAM_FINISHED,
                plugin = %name,
                generation,
                result = "success",
                "background program finished"
            ),
            Fact::Idle { generation } => info!(
                message_id = messages::PLUGIN_IDLE,
                plugin = %name,
                generation,
                "plugin idle"
            ),
            Fact::StartedOnDemand { generation } => info!(
                message_id = messages::PLUGIN_STARTED_ON_DEMAND,
                plugin = %name,
                generation,
                "plugin started on demand"
            ),
            Fact::FailedFollowed(problem) => self.note_failure(name, &problem),
            Fact::Failed(problem) => {
                self.note_failure(name, &problem);
                let failed = problem.failed(name);
                self.reloads.note(|reload| reload.failed(failed.clone()));
                self.requests.conclude(name, &Err(RestartError::Failed(failed)));
            }
            Fact::Retried(failed) => {
                self.reloads.note(|reload| reload.failed(failed.clone()));
                self.requests.conclude(name, &Err(RestartError::Failed(failed)));
            }
            Fact::Stopped => {
                info!(message_id = messages::PLUGIN_STOPPED, plugin = %name, "plugin stopped");
                self.reloads.note(|reload| reload.failed(stopped_meanwhile(name)));
            }
            Fact::Removed { serving } => {
                info!(message_id = messages::PLUGIN_REMOVED, plugin = %name, "plugin removed");
                self.deps.versions.remove(name);
                self.forget_pin(name);
                self.requests.cancel(name, RestartError::NoSuchPlugin);
                self.reloads.note(|reload| {
                    reload.removed(name);
                    if let Some(serving) = serving {
                        reload.drains(name, serving);
                    }
                });
            }
            Fact::Gone { generation } => {
                self.running.remove(&generation);
                self.reloads.drained(name, generation);
            }
            Fact::NotSaved { result, error } => {
                warn!(plugin = %name, result, error, "cannot save state");
            }
            Fact::NotRestarted(why) => {
                self.reloads.note_if(|reload| {
                    let is_awaited = reload.awaits(name);
                    if is_awaited {
                        let (plugin, stage) = (name.clone(), FailedStage::Start);
                        reload.failed(Failed::of_change(plugin, stage, why.to_string()));
                    }
                    is_awaited
                });
                self.requests.conclude(name, &Err(why));
            }
        }
    }

    fn note_failure(&mut self, name: &PluginName, problem: &PluginProblem) {
        log_failure(name, problem);
        let problem_now = self.plugins.get_mut(name).and_then(|it| it.problem.as_mut());
        if let Some(problem) = problem_now {
            problem.since.get_or_insert_with(SystemTime::now);
        }
    }

    fn ready(&mut self, name: &PluginName, generation: u64, previous: Option<u64>) {
        let figures = self.deps.commons.figures.of(name);
        self.with(generation, |it| {
            figures.started_in(it.created.elapsed());
            it.since = Some(SystemTime::now());
        });
        let Some(plugin) = self.plugins.get(name) else { return };
        let routes: Vec<_> = plugin.routes().0.iter().map(|(it, _)| it.to_string()).collect();
        let route = if routes.is_empty() { "-".to_owned() } else { routes.join(" ") };
        let release = self.running.get(&generation).map(|it| it.pool.linked().release.clone());
        let digests = release.as_ref().map(|release| release.digests());
        let unused_export = release.as_ref().and_then(|it| names_of_unused_exports(&it.inspection));
        info!(
            message_id = messages::PLUGIN_READY,
            plugin = %name,
            generation,
            route,
            version = release.as_ref().and_then(|release| release.inspection.version.as_deref()),
            unused_export,
            component_digest = digests.map(|digests| hex(&digests.component)),
            configuration_digest = digests.map(|digests| hex(&digests.configuration)),
            "plugin ready"
        );
        if let Some(release) = release.filter(|_| self.has_served) {
            self.deps.versions.keep(release);
        }
        self.reloads.note(|reload| {
            if reload.awaits(name)
                && let Some(previous) = previous
            {
                reload.drains(name, previous);
            }
            reload.taken_over(name);
        });
        self.requests.conclude(name, &Ok(generation));
    }

    /// Publishes who serves what. Until the daemon's start has ended nobody reads that.
    pub(super) fn publish(&mut self) {
        if !self.settled {
            return;
        }
        let held_back = |name: &PluginName| self.reloads.is_held_back(name);
        let mut plugins: Vec<_> = self
            .plugins
            .values()
            .filter(|plugin| !plugin.removed && !held_back(&plugin.name))
            .collect();
        // Where two ask for one route, the one that serves it, or had it when it was stopped, comes first.
        plugins.sort_by_key(|plugin| (plugin.serving().is_none(), !plugin.is_stopped()));
        let mut entries = BTreeMap::new();
        let (mut callable, mut middleware, mut subscribers) = (Vec::new(), Vec::new(), Vec::new());
        for plugin in plugins {
            let (name, (routes, serving)) = (&plugin.name, plugin.routes());
            let running = serving.and_then(|serving| self.running.get(&serving));
            let entry = |used| RouteEntry {
                plugin: name.clone(),
                pool: running.map(|it| it.pool.clone()),
                figures: self.deps.commons.figures.of(name),
                used,
            };
            if routes.iter().any(|(route, _)| matches!(route, Route::Http(_))) {
                callable.push(entry(RouteUse::default()));
            }
            let is_middleware =
                |it: &&RunningGeneration| it.pool.linked().release.inspection.is_middleware();
            if running.as_ref().is_some_and(is_middleware) {
                middleware.push(entry(RouteUse::default()));
            }
            let subscribes =
                |it: &&RunningGeneration| !it.pool.linked().release.manifest.subscribe.is_empty();
            if running.as_ref().is_some_and(subscribes) {
                subscribers.push(entry(RouteUse::default()));
            }
            for (route, used) in routes {
                entries.entry(route.clone()).or_insert_with(|| entry(*used));
            }
        }
        let served =
            entries.iter().filter_map(|(route, entry): (&Route, &RouteEntry)| match route {
                Route::Socket(socket) if entry.pool.is_some() => Some(socket.clone()),
                Route::Socket(_) | Route::Http(_) => None,
            });
        let served: BTreeSet<_> = served.collect();
        let table = RouteTable::new(entries).with_plugins(callable.into_iter());
        let table = table.with_middleware(middleware.into_iter());
        let table = table.with_subscribers(subscribers.into_iter());
        self.publisher.publish(table);
        // The sockets of plugins that are stopped with the daemon are not unused.
        let routes = self.stopping.is_none().then(|| self.socket_routes());
        self.deps.plan.update(|plan| {
            let mut new = SocketPlan { served, ..plan.clone() };
            if let Some((has_http, whole)) = routes {
                new = new.with_routes(has_http, whole);
            }
            let before = replace(plan, new);
            before != *plan
        });
    }
}

/// The failure that a reload reports for a plugin that was stopped while the reload waited for it.
fn stopped_meanwhile(name: &PluginName) -> Failed {
    let error = RestartError::Stopped.to_string();
    Failed { stopped: true, ..Failed::of_change(name.clone(), FailedStage::Start, error) }
}

/// Says that the newest version of a plugin cannot be used.
pub(super) fn log_failure(name: &PluginName, problem: &PluginProblem) {
    let remedy = problem.failed(name).remedy();
    error!(
        message_id = messages::PLUGIN_FAILED,
        plugin = %name,
        generation = problem.generation,
        stage = %problem.stage,
        error = %cut(&problem.error, ERROR_MAX),
        remedy,
        "plugin failed"
    );
}

/// Sends this message after that time.
pub(super) fn send_later(inbox: mpsc::UnboundedSender<Message>, time: Duration, message: Message) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        // There is no receiver only if the daemon is ending.
        inbox.send(message).ok();
    });
}

/// The names of the exports that are not used, if there are any.
fn names_of_unused_exports(inspection: &Inspection) -> Option<String> {
    let names: Vec<_> = unused_exports(inspection).into_iter().map(|export| export.name).collect();
    (!names.is_empty()).then(|| cut(&names.join(" "), ERROR_MAX).into_owned())
}

/// Returns the figures of a pool's requests.
fn requests(pool: &Pool) -> api::PluginRequests {
    let (queued, waited) = pool.waiting();
    let FailureCounts { busy, timed_out, failed } = pool.failures();
    api::PluginRequests {
        queued: queued as u64,
        waited: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        busy: busy.into(),
        timed_out: timed_out.into(),
        failed: failed.into(),
        failures: pool.failed_requests(),
    }
}
