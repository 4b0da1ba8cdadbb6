//! Operations on a single plugin: stopping it, starting it, and taking over its files and no others.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName, text::cut},
    plugin::directories::ScanReport,
    route::{owners::RouteRequest, sockets::SocketPlan},
    supervisor::{
        Supervisor,
        change_requests::ChangeReply,
        compare::{Change, compare},
        handle::Message,
        plugin::{ERROR_MAX, ManagedPlugin, PluginEvent},
        prepare::DirectoriesError,
        problem::{RestartError, StopError},
        reload::ReloadOptions,
        report::Condition,
        rollout::HoldPoint,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::mem::{replace, take};
use tokio::sync::oneshot;

impl Supervisor {
    /// Stops a plugin; the reply follows when its instances have ended.
    pub(super) fn stop_plugin(
        &mut self,
        name: PluginName,
        reply: oneshot::Sender<Result<(), StopError>>,
    ) {
        // What was asked for before must not start it later.
        self.requests.cancel(&name, RestartError::Stopped);
        if self.plugins.get(&name).is_none_or(|plugin| plugin.removed) {
            // The client may have disconnected.
            return drop(reply.send(Err(StopError::NoSuchPlugin)));
        }
        self.decide(&name, PluginEvent::Stop);
        self.stops.push((name, reply));
    }

    /// Answers those who wait for plugins that have stopped.
    pub(super) fn answer_stops(&mut self) {
        for (name, reply) in take(&mut self.stops) {
            let plugin = self.plugins.get(&name);
            let outcome = match plugin.map(ManagedPlugin::condition) {
                None | Some(Condition::Stopped) => Ok(()),
                Some(Condition::Stopping) => {
                    self.stops.push((name, reply));
                    continue;
                }
                Some(_) => Err(StopError::StartedMeanwhile),
            };
            // The client may have disconnected.
            reply.send(outcome).ok();
        }
    }

    /// Starts a plugin that does not serve; the reply follows when it serves, or cannot.
    pub(super) fn start_plugin(&mut self, name: PluginName, reply: ChangeReply) {
        let plugin = self.plugins.get(&name);
        let serving = plugin.and_then(ManagedPlugin::serving).map(|serving| serving.number);
        match (plugin.map(ManagedPlugin::condition), serving) {
            (Some(Condition::Running | Condition::Updating(_)), Some(number)) => {
                // The client may have disconnected.
                drop(reply.send(Ok(number)));
            }
            (Some(Condition::Updating(_) | Condition::Recovering), _) => {
                self.restart(name, reply);
            }
            (Some(Condition::Starting(_)), _) => self.requests.join(&name, reply),
            _ => self.read_one(&name, true, reply),
        }
    }

    /// Takes over the files of a plugin; the reply follows when it serves, or cannot.
    pub(super) fn reload_plugin(&mut self, name: PluginName, reply: ChangeReply) {
        let plugin = self.plugins.get(&name);
        if plugin.is_some_and(ManagedPlugin::is_stopped) {
            // The client may have disconnected.
            return drop(reply.send(Err(RestartError::Stopped)));
        }
        // One that takes over only with others belongs to them; its outcome is that of their reload.
        match plugin.is_some_and(ManagedPlugin::is_at_hold_point) {
            true => self.requests.join(&name, reply),
            false => self.read_one(&name, false, reply),
        }
    }

    /// Reads the directories for one plugin. `starts` says whether it is to run, although it does not start by itself or
    /// has ended.
    fn read_one(&mut self, name: &PluginName, starts: bool, reply: ChangeReply) {
        let nth = self.requests.add(name, reply);
        let name = name.clone();
        let changed = name.clone();
        self.read_and(Some(&changed), move |outcome| Message::ReadOne {
            name: name.clone(),
            nth,
            starts,
            outcome,
        });
    }

    /// Starts the change of one plugin. All others stay as they are, whatever was found of them.
    pub(super) fn apply_one(
        &mut self,
        name: &PluginName,
        nth: u64,
        starts: bool,
        outcome: Result<(ScanReport, SocketPlan), DirectoriesError>,
    ) {
        if !self.requests.is_waiting(nth) {
            // It was stopped or removed meanwhile.
            return;
        }
        if self.plugins.get(name).is_some_and(ManagedPlugin::is_at_hold_point) {
            // It belongs to an all-or-nothing reload now.
            return self.requests.begin(nth);
        }
        let mut report = match outcome {
            Ok((report, _)) => report,
            Err(error) => {
                let error = cut(&ErrorChain(&error).to_string(), ERROR_MAX).into_owned();
                return self.requests.answer(nth, &Err(RestartError::Unreadable(error)));
            }
        };
        self.hold_pinned(&mut report);
        if !starts && report.held.contains(name) {
            return self.requests.answer(nth, &Err(RestartError::Pinned));
        }
        let mut held = Vec::new();
        if let Some(plugin) = self.plugins.get_mut(name) {
            held = plugin.clear_stopped();
            plugin.end_rollback();
        }
        let condition = self.plugins.get(name).map(ManagedPlugin::condition);
        let has_ended = matches!(condition, Some(Condition::Exited | Condition::OnDemand));
        let options = ReloadOptions { again: true, all_or_nothing: false };
        let plan = self.deps.plan.borrow().clone();
        let changes = compare(report.plugins, &self.plugins, Some(&plan), options);
        match changes.into_iter().find(|(found, _)| found == name) {
            Some((_, Change::Same)) if starts && has_ended => self.restart_now(name, nth),
            Some((_, change)) => self.apply_single(name, nth, change, held, starts),
            // The removal answers this request, too.
            None if self.plugins.get(name).is_some_and(|plugin| !plugin.removed) => {
                self.decide(name, PluginEvent::Remove(StopReason::Removed));
            }
            None => self.requests.answer(nth, &Err(RestartError::NoSuchPlugin)),
        }
        self.execute();
        self.publish();
        let (has_http, whole) = self.socket_routes();
        self.deps.plan.update(|plan| {
            let before = replace(plan, plan.clone().with_routes(has_http, whole));
            before != *plan
        });
    }

    /// Starts this change. `held` are the routes that the plugin had when it was stopped.
    fn apply_single(
        &mut self,
        name: &PluginName,
        nth: u64,
        change: Change,
        held: Vec<RouteRequest>,
        starts: bool,
    ) {
        let new = || ManagedPlugin::new(name.clone());
        self.plugins.entry(name.clone()).or_insert_with(new).removed = false;
        self.requests.begin(nth);
        match change {
            Change::Same => {
                let current = self.plugins.get(name).and_then(|it| it.generations.current());
                if let Some(number) = current.map(|current| current.number) {
                    self.requests.answer(nth, &Ok(number));
                }
                self.decide(name, PluginEvent::Unchanged);
            }
            // Callers get the outcome of the change that is in progress.
            Change::InProgress | Change::Recovering | Change::Stopped | Change::RolledBack => (),
            Change::Changed { verified, requests }
                if !starts && self.is_to_rest(name, &verified) =>
            {
                self.decide(name, PluginEvent::Rest { requests });
                self.requests.answer(nth, &Err(RestartError::Stopped));
            }
            Change::Changed { verified, requests } => {
                if let Some(plugin) = self.plugins.get_mut(name).filter(|_| starts) {
                    plugin.start_now();
                }
                let ticket = self.queue_ticket(name);
                let hold_point = HoldPoint::Open;
                self.decide(name, PluginEvent::Found { ticket, verified, requests, hold_point });
            }
            Change::Withdrawn(problem) => self.decide(name, PluginEvent::Withdraw(problem)),
            Change::KnownToFail(mut problem) | Change::Bad(mut problem) => {
                // A manifest that cannot be read names none.
                if problem.requests.is_empty() {
                    problem.requests = held;
                }
                self.decide(name, PluginEvent::Unusable(problem));
            }
        }
    }
}
