//! A start falls back to the versions that served last.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::verify::Verified,
    route::owners::{Route, RouteRequest, route_requests},
    supervisor::{
        Supervisor,
        handle::Message,
        own_task::spawn_and_send,
        own_thread::{on_own_thread, within},
        plugin::{ManagedPlugin, PluginEvent},
    },
};
use std::{mem::replace, time::Duration};
use tracing::warn;

/// Time to read and verify a version that served: far more than that takes, unless its disk does not answer.
pub(super) const LOAD_DEADLINE: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Keeps all versions that serve, and programs that returned ok.
    pub(super) fn keep_versions(&self) {
        let good = self.plugins.values().filter_map(ManagedPlugin::succeeded);
        good.for_each(|good| self.deps.versions.keep(good.release.clone()));
    }

    /// Reads the version of a plugin that served last.
    pub(super) fn read_last_good(&self, name: &PluginName) {
        let version = self.deps.versions.last_version(name);
        let (name, inbox, versions) =
            (name.clone(), self.inbox.clone(), self.deps.versions.clone());
        let plugin = name.clone();
        let reading = async move {
            let work = move || version.map(|version| (version.load(), version));
            let loaded = within(LOAD_DEADLINE, on_own_thread("versions", work)).await;
            let outcome = match loaded {
                Ok(Some((outcome, version))) => outcome.map_err(|error| {
                    if error.is_damage() {
                        // So that it is written again when this version serves.
                        versions.discard(version);
                    }
                    ErrorChain(&error).to_string()
                }),
                Ok(None) => Err("no version of it has served".to_owned()),
                Err(error) => Err(ErrorChain(&error).to_string()),
            };
            Some(Message::LastGood { name, outcome })
        };
        let failed = move |why| Message::LastGood { name: plugin, outcome: Err(why) };
        spawn_and_send(inbox, reading, failed);
    }

    /// The version of a plugin that served last was read, or cannot be.
    pub(super) fn fall_back(&mut self, name: &PluginName, outcome: Result<Verified, String>) {
        let outcome = outcome.and_then(|verified| self.with_free_routes(name, verified));
        let event = match outcome {
            Ok((verified, requests)) => {
                self.tickets += 1;
                self.queued.insert(name.clone());
                PluginEvent::FallBack { ticket: self.tickets, verified, requests }
            }
            Err(error) => {
                warn!(plugin = %name, error, "cannot serve previous version");
                PluginEvent::NoFallback { left_out: self.deps.versions.has_others(name) }
            }
        };
        self.decide(name, event);
        // Its sockets may be others than those of the newest version.
        let (has_http, whole) = self.socket_routes();
        self.deps.plan.update(|plan| {
            let before = replace(plan, plan.clone().with_routes(has_http, whole));
            before != *plan
        });
    }

    /// A version that was kept, with the routes that it asks for, unless another plugin has one of them now.
    pub(super) fn with_free_routes(
        &self,
        name: &PluginName,
        verified: Verified,
    ) -> Result<(Verified, Vec<RouteRequest>), String> {
        let requests = route_requests(name, verified.manifest(), Some(verified.inspection()));
        let mut routes = requests.iter().map(|(route, _)| (route, self.owner_of(name, route)));
        match routes.find_map(|(route, owner)| Some((route, owner?))) {
            Some((route, owner)) => {
                Err(format!("its route {route} now belongs to the plugin {owner}"))
            }
            None => Ok((verified, requests)),
        }
    }

    /// The other plugin that has this route, or asks for it.
    fn owner_of(&self, name: &PluginName, route: &Route) -> Option<&PluginName> {
        let mut others = self.plugins.values().filter(|it| !it.removed && it.name != *name);
        let has = |it: &&ManagedPlugin| {
            it.routes().0.iter().chain(it.wanted()).any(|(other, _)| other == route)
        };
        others.find(has).map(|it| &it.name)
    }
}
