//! What was found in the directories, held against what there is: by content, not by names or times of files.

use crate::{
    base::name::PluginName,
    config::{Diagnostic, Position},
    plugin::{directories::name_of, serve::Serve, verify::Verified},
    route::{
        owners::{RouteConflict, RouteOwners, RouteRequest, conflict_message, requests_of},
        sockets::SocketPlan,
    },
    supervisor::{
        lifecycle::LifecycleState,
        plugin::{Content, ManagedPlugin, PluginProblem},
        prepare::VerifyResult,
        reload::ReloadOptions,
        summary::FailedStage,
    },
};
use std::collections::BTreeMap;

/// What is to be done about one plugin that was found.
pub enum Change {
    /// It is what there is.
    Same,
    /// It is being made into what there will be.
    InProgress,
    /// It is on its way for a reason of its own, such as a failure or a restart, and continues.
    Recovering,
    /// It was tried, and a client that asked for that got the reason.
    KnownToFail(PluginProblem),
    /// It is new, or something else than what there is.
    Changed {
        /// What was found.
        verified: Box<Verified>,
        /// The routes it asks for, and gets.
        route_requests: Vec<RouteRequest>,
    },
    /// It cannot be used.
    Bad(PluginProblem),
}

/// What was found, to tell whether the same is found again: what a plugin is made of, or why that cannot be used.
pub type FoundContents = BTreeMap<PluginName, Result<Content, String>>;

/// Notes what was found.
#[must_use]
pub fn found(outcome: &[VerifyResult]) -> FoundContents {
    let content = |outcome: &VerifyResult| match outcome {
        Ok(verified) => Ok((*verified.digest(), verified.manifest().clone())),
        Err(rejected) => Err(rejected.lines().join("; ")),
    };
    outcome.iter().map(|outcome| (name_of(outcome).clone(), content(outcome))).collect()
}

/// Judges what was found, in the order of names. Without a plan nothing is known of the sockets that there are.
#[must_use]
pub fn compare(
    found: Vec<VerifyResult>,
    plugins: &BTreeMap<PluginName, ManagedPlugin>,
    plan: Option<&SocketPlan>,
    options: ReloadOptions,
) -> Vec<(PluginName, Change)> {
    let mut owners = current_owners(&found, plugins);
    let mut claimed = owners.claim_all(&found);
    let change = |outcome: VerifyResult| {
        let name = name_of(&outcome).clone();
        let route_requests = requests_of(&outcome);
        let claimed = claimed.remove(&name).unwrap_or(Ok(()));
        let claimed = claimed.map_err(|taken| conflicts(&outcome, &taken));
        let claimed = claimed.and_then(|()| sockets_are_there(&outcome, plan));
        let change = match (outcome, claimed) {
            (Err(rejected), _) => Change::Bad(PluginProblem {
                result: "configuration",
                content: None,
                generation: None,
                reported: false,
                stage: FailedStage::Verify,
                error: rejected.lines().join("; "),
                configuration: rejected.is_configuration(),
                required: rejected.required,
                route_requests,
            }),
            (Ok(verified), Err(error)) => Change::Bad(PluginProblem {
                result: "configuration",
                content: None,
                generation: None,
                reported: false,
                stage: FailedStage::Route,
                error,
                configuration: true,
                required: verified.manifest().required,
                route_requests,
            }),
            (Ok(verified), Ok(())) => match plugins.get(&name) {
                // First, since what there is may be on its way once more: it was asked to be restarted.
                Some(managed)
                    if options.all_or_nothing
                        && !managed.is_at_hold_point()
                        && managed.is_preparing(verified.digest(), verified.manifest()) =>
                {
                    Change::Recovering
                }
                // What waits for its next try has it now, if somebody asks for that.
                Some(managed)
                    if managed.is_preparing(verified.digest(), verified.manifest())
                        && !(options.again && managed.is_waiting()) =>
                {
                    Change::InProgress
                }
                Some(managed) if is_unchanged(&verified, managed) => Change::Same,
                Some(ManagedPlugin { problem: Some(problem), .. })
                    if !options.again && problem.is_of(verified.digest(), verified.manifest()) =>
                {
                    Change::KnownToFail(problem.clone())
                }
                _ => Change::Changed { verified: Box::new(verified), route_requests },
            },
        };
        (name, change)
    };
    found.into_iter().map(change).collect()
}

/// The plugin that serves a route keeps it, unless its new version does not want it any more.
fn current_owners(
    found: &[VerifyResult],
    plugins: &BTreeMap<PluginName, ManagedPlugin>,
) -> RouteOwners {
    let mut owners = RouteOwners::default();
    for outcome in found {
        let name = name_of(outcome);
        if let Some(serving) = plugins.get(name).and_then(ManagedPlugin::serving) {
            let has = serving.route_requests();
            // What cannot be used does not take the place of what serves.
            let wants = if outcome.is_ok() { requests_of(outcome) } else { has.clone() };
            owners.keep(name, &has, &wants);
        }
    }
    owners
}

/// The routes that others have, with the places that ask for them.
fn conflicts(outcome: &VerifyResult, taken: &[RouteConflict]) -> String {
    outcome.as_ref().map(|verified| conflict_message(verified, taken)).unwrap_or_default()
}

/// Whether the sockets that it names speak HTTP. That one called `http` may be added later is usual.
fn sockets_are_there(outcome: &VerifyResult, plan: Option<&SocketPlan>) -> Result<(), String> {
    let (Ok(verified), Some(plan)) = (outcome, plan) else { return Ok(()) };
    let complaint = |serve: &Serve| {
        let socket = serve.socket.as_ref()?;
        if socket.as_str() == "http" || plan.is_http(socket) {
            return None;
        }
        let place = serve.socket_origin.0.clone();
        let place = place.unwrap_or_else(|| Position::whole(verified.path()));
        let message = format!(
            "serve.socket: no socket \"{socket}\" speaks HTTP; write a .socket unit with FileDescriptorName={socket} \
             and Service=plugind.service, and [sockets.{socket}] with protocol = \"http\" in plugind.toml"
        );
        Some(Diagnostic::at(place, message).to_string())
    };
    let complaints: Vec<_> = verified.manifest().serve.iter().filter_map(complaint).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}

fn is_unchanged(verified: &Verified, managed: &ManagedPlugin) -> bool {
    managed.generations.current().is_some_and(|current| {
        // What failed is tried again when somebody asks.
        current.is_made_from(verified.digest(), verified.manifest())
            && current.lifecycle.state() != LifecycleState::Failed
    })
}
