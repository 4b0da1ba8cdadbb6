//! The comparison of the directories with the plugins in memory: by content, not by names or times of files.

use crate::{
    base::name::PluginName,
    config::{Diagnostic, Position},
    plugin::{
        call_cycles::{call_cycles, cycle_message},
        directories::{VerifyResult, name_of},
        grants::credential_file,
        middleware_links::middleware_mistakes,
        release::Release,
        serve::Serve,
        verify::Verified,
    },
    route::{
        owners::{Route, RouteConflict, RouteOwners, RouteRequest, conflict_message, requests_of},
        sockets::SocketPlan,
    },
    supervisor::{plugin::ManagedPlugin, problem::PluginProblem, reload::ReloadOptions},
};
use std::{collections::BTreeMap, sync::Arc};

/// The action for one plugin that was found.
pub enum Change {
    /// It is the current version.
    Same,
    /// It is being prepared already.
    InProgress,
    /// It is in progress for another reason, such as a failure or a restart, and continues.
    Recovering,
    /// It was tried, and a client that asked for that got the reason.
    KnownToFail(Box<PluginProblem>),
    /// It is new, or differs from the current version.
    Changed {
        /// The version that was found.
        verified: Verified,
        /// The routes it asks for, and gets.
        requests: Vec<RouteRequest>,
    },
    /// It cannot be used.
    Bad(Box<PluginProblem>),
    /// A credential that it uses was withdrawn, so that the version that serves must not continue.
    Withdrawn(Box<PluginProblem>),
    /// It is stopped, so that nothing of it is used.
    Stopped,
    /// It is the version that an operator rolled back from.
    RolledBack,
}

/// The contents that were found, to recognise the same again: those of a plugin, or the reason that it cannot be used.
pub type FoundContents = BTreeMap<PluginName, Result<Content, String>>;

/// A version, which equals others by what it is made of.
#[derive(Clone, Debug)]
pub struct Content(Arc<Release>);

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

/// Notes what was found.
#[must_use]
pub fn found(outcome: &[VerifyResult]) -> FoundContents {
    let content = |outcome: &VerifyResult| match outcome {
        Ok(verified) => Ok(Content(verified.release().clone())),
        Err(rejected) => Err(rejected.lines().join("; ")),
    };
    outcome.iter().map(|outcome| (name_of(outcome).clone(), content(outcome))).collect()
}

/// Compares the scanned plugins with the running ones, in the order of names. Without a plan, sockets are unknown.
#[must_use]
pub fn compare(
    found: Vec<VerifyResult>,
    plugins: &BTreeMap<PluginName, ManagedPlugin>,
    plan: Option<&SocketPlan>,
    options: ReloadOptions,
) -> Vec<(PluginName, Change)> {
    let mut owners = current_owners(&found, plugins);
    let mut claimed = owners.claim_all(&found);
    let cycles = call_cycles(&found);
    let middleware = middleware_mistakes(&found);
    let change = |outcome: VerifyResult| {
        let name = name_of(&outcome).clone();
        let route_requests = requests_of(&outcome);
        let claimed = claimed.remove(&name).unwrap_or(Ok(()));
        let claimed = claimed.map_err(|taken| conflicts(&outcome, &taken));
        let claimed = claimed.and_then(|()| sockets_are_there(&outcome, plan));
        if plugins.get(&name).is_some_and(ManagedPlugin::is_stopped) {
            return (name, Change::Stopped);
        }
        let change = match (outcome, claimed) {
            (Err(rejected), _) => {
                let problem = PluginProblem::of_rejected(&rejected, route_requests);
                unusable(plugins.get(&name), problem, options)
            }
            (Ok(verified), Ok(())) if middleware.contains_key(&name) => {
                let error = middleware[&name].join("; ");
                let problem = PluginProblem::of_calls(verified.release(), error, route_requests);
                unusable(plugins.get(&name), problem, options)
            }
            (Ok(verified), Ok(())) if cycles.contains_key(&name) => {
                let error = cycle_message(&verified, &cycles[&name]);
                let problem = PluginProblem::of_calls(verified.release(), error, route_requests);
                unusable(plugins.get(&name), problem, options)
            }
            (Ok(verified), Err(error)) => {
                let problem = PluginProblem::of_routes(verified.release(), error, route_requests);
                unusable(plugins.get(&name), problem, options)
            }
            (Ok(verified), Ok(())) => {
                let plugin = plugins.get(&name);
                match withdrawn(plugin, &verified, &route_requests) {
                    Some(problem) => Change::Withdrawn(Box::new(problem)),
                    None => change(plugin, verified, route_requests, options),
                }
            }
        };
        (name, change)
    };
    found.into_iter().map(change).collect()
}

/// The plugin that serves a route keeps it, unless its new version does not want it any more. One that is stopped keeps
/// its routes as well.
fn current_owners(
    found: &[VerifyResult],
    plugins: &BTreeMap<PluginName, ManagedPlugin>,
) -> RouteOwners {
    let mut owners = RouteOwners::default();
    for outcome in found {
        let name = name_of(outcome);
        let plugin = plugins.get(name);
        if let Some(has) = plugin.and_then(ManagedPlugin::held_routes) {
            let is_rolled_back = plugin.is_some_and(ManagedPlugin::is_rolled_back);
            // A version that cannot be used does not replace the one that serves.
            let wants = if outcome.is_ok() && !is_rolled_back {
                requests_of(outcome)
            } else {
                has.to_vec()
            };
            owners.keep(name, has, &wants);
        }
    }
    owners
}

/// The routes that others have, with the places that ask for them.
fn conflicts(outcome: &VerifyResult, taken: &[RouteConflict]) -> String {
    outcome.as_ref().map(|verified| conflict_message(verified, taken)).unwrap_or_default()
}

/// Whether the sockets that it names are there, and can be used for what it asks.
fn sockets_are_there(outcome: &VerifyResult, plan: Option<&SocketPlan>) -> Result<(), String> {
    let (Ok(verified), Some(plan)) = (outcome, plan) else { return Ok(()) };
    let routes = requests_of(outcome);
    let complaint = |(nth, (route, _)): (usize, &RouteRequest)| {
        let serve = verified.manifest().serve.get(nth);
        match route {
            Route::Http(_) => serve.and_then(|serve| speaks_no_http(verified, serve, plan)),
            Route::Socket(socket) => {
                let inspection = verified.inspection();
                let why = plan.why_not_whole(
                    socket,
                    inspection.connections.is_some(),
                    inspection.datagrams,
                )?;
                let place = serve.and_then(|serve| serve.socket_origin.0.clone());
                let place = place.unwrap_or_else(|| Position::whole(verified.path()));
                Some(Diagnostic::at(place, format!("serve.socket: {why}")).to_string())
            }
        }
    };
    let complaints: Vec<_> = routes.iter().enumerate().filter_map(complaint).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}

/// Why the socket of a route does not speak HTTP; none: it does. A missing socket called `http` is no mistake,
/// because it may be added later.
fn speaks_no_http(verified: &Verified, serve: &Serve, plan: &SocketPlan) -> Option<String> {
    let socket = serve.socket.as_ref()?;
    if socket.as_str() == "http" || plan.is_http(socket) {
        return None;
    }
    let place = serve.socket_origin.0.clone();
    let place = place.unwrap_or_else(|| Position::whole(verified.path()));
    let message = format!(
        "serve.socket: no socket \"{socket}\" speaks HTTP; write a .socket unit with FileDescriptorName={socket}, \
             Service=plugind.service and WantedBy=plugind.service, enable it, write [sockets.{socket}] with protocol = \
             \"http\" in plugind.toml, and restart plugind.service"
    );
    Some(Diagnostic::at(place, message).to_string())
}

/// The effect of a version that cannot be used on the existing plugin. A unit without `ReloadSignal=` gets SIGHUP
/// after `ExecReload=`, which must not report again what was reported to the client.
fn unusable(
    plugin: Option<&ManagedPlugin>,
    problem: PluginProblem,
    options: ReloadOptions,
) -> Change {
    let known = plugin.filter(|plugin| !plugin.is_in_progress());
    let known = known.and_then(|plugin| plugin.problem.as_ref()).filter(|known| {
        let is_same = known.stage == problem.stage && known.error == problem.error;
        is_same && known.reported && !options.again
    });
    match known {
        Some(known) => Change::KnownToFail(Box::new(known.clone())),
        None => Change::Bad(Box::new(problem)),
    }
}

/// Why the version that serves must not continue, if a credential was withdrawn from it.
fn withdrawn(
    plugin: Option<&ManagedPlugin>,
    verified: &Verified,
    requests: &[RouteRequest],
) -> Option<PluginProblem> {
    let release = verified.release();
    let serving = &plugin?.serving()?.release;
    let key = release.credentials.withdrawn_since(&serving.credentials)?;
    let file = credential_file(&release.name, key);
    let error = format!(
        "the credential {file} was withdrawn, so the plugin was stopped; provide it again, or remove \"{key}\" from \
         grants.credentials"
    );
    Some(PluginProblem::of_credentials(release, error, requests.to_vec()))
}

/// Returns the change for a plugin whose new version can be used.
fn change(
    plugin: Option<&ManagedPlugin>,
    verified: Verified,
    requests: Vec<RouteRequest>,
    options: ReloadOptions,
) -> Change {
    let release = verified.release();
    match plugin {
        Some(plugin) if plugin.is_rolled_back_from(release) => Change::RolledBack,
        // Before the next arms: this release may serve already, and be in preparation once more for a restart.
        Some(plugin)
            if options.all_or_nothing
                && !plugin.is_at_hold_point()
                && plugin.is_preparing(release) =>
        {
            Change::Recovering
        }
        // If `again` is set, a version that waits for its next try is tried now.
        Some(plugin) if plugin.is_preparing(release) && !(options.again && plugin.is_waiting()) => {
            Change::InProgress
        }
        Some(plugin) if plugin.is_current(release) => Change::Same,
        Some(ManagedPlugin { problem: Some(problem), .. })
            if !options.again && problem.is_of(release) =>
        {
            Change::KnownToFail(Box::new(problem.clone()))
        }
        _ => Change::Changed { verified, requests },
    }
}
