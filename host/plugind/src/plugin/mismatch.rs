//! Finds the mistakes of a plugin whose manifest and component are valid, and do not fit each other.

use crate::{
    base::quantity::Bytes,
    config::{Diagnostic, Origin},
    plugin::{
        inspection::Inspection,
        interfaces::{Access, find},
        manifest::Manifest,
        middleware_use,
        serve::{Serve, WebSocketUse},
        verify_error::VerifyError,
    },
};
use std::path::Path;

/// In bytes.
const MIB: u64 = 1 << 20;

/// Returns the mistakes of a plugin of which both files are valid.
pub(super) fn mismatches(
    path: &Path,
    inspection: &Inspection,
    manifest: &Manifest,
) -> Vec<VerifyError> {
    let ungranted = ungranted(inspection, manifest).map(|(import, line)| VerifyError::Ungranted {
        path: path.to_owned(),
        import,
        line,
    });
    ungranted
        .into_iter()
        .chain(unserved(inspection, manifest))
        .chain(unsubscribed(path, inspection, manifest))
        .chain(middleware_use::unusable(inspection, manifest).map(VerifyError::Manifest))
        .chain(short_of_memory(path, inspection, manifest))
        .collect()
}

/// A missing export that the manifest asks for: the file may hold another component, or half of one.
fn unserved(inspection: &Inspection, manifest: &Manifest) -> Option<VerifyError> {
    let mistake = |serve: &Serve| match serve.whole_socket() {
        Some(_) if inspection.serves_sockets() => None,
        Some(socket) => {
            let remedy = match inspection.serves_routes() {
                true => "; write serve.route to serve HTTP on this socket",
                false => "; remove [[serve]], or install a component that has one",
            };
            let message = format!(
                "serve.socket: \"{socket}\" without serve.route is the whole socket, and the component exports neither \
                 connection-handler, blocking-connection-handler nor datagram-handler of plugind:plugin{remedy}"
            );
            Some(Diagnostic::at(serve.socket_origin.0.clone()?, message))
        }
        None if inspection.websockets.is_none() && serve.websocket == Some(WebSocketUse::Serve) => {
            let message = "serve.websocket cannot be \"serve\": the component exports neither \
                 websocket-handler nor blocking-websocket-handler of plugind:plugin; remove it, or install a component \
                 that has one";
            Some(Diagnostic::at(serve.websocket_origin.0.clone()?, message))
        }
        None if inspection.serves_routes() => None,
        None => {
            let remedy = match inspection.serves_sockets() {
                true => "write serve.socket without serve.route to serve a whole socket",
                false => "remove [[serve]], or install a component that has one",
            };
            let message = format!(
                "[[serve]] cannot be used: the component exports no handler of HTTP requests; {remedy}"
            );
            Some(Diagnostic::at(serve.origin.0.clone()?, message))
        }
    };
    let mistakes: Vec<_> = manifest.serve.iter().filter_map(mistake).collect();
    (!mistakes.is_empty()).then_some(VerifyError::Manifest(mistakes))
}

/// Subscriptions without a handler of messages, or a component with nothing else and no subscription.
fn unsubscribed(path: &Path, inspection: &Inspection, manifest: &Manifest) -> Option<VerifyError> {
    let serves_nothing_else = !inspection.serves_routes() && !inspection.serves_sockets();
    if inspection.messages && manifest.subscribe.is_empty() && serves_nothing_else {
        return Some(VerifyError::Unsubscribed { path: path.to_owned() });
    }
    let message = "[[subscribe]] cannot be used: the component does not export wasi:messaging/incoming-handler; remove \
                   it, or install a component that does";
    let origins = manifest.subscribe.iter().filter(|_| !inspection.messages);
    let mistakes = origins.filter_map(|it| Some(Diagnostic::at(it.origin.0.clone()?, message)));
    let mistakes: Vec<_> = mistakes.collect();
    (!mistakes.is_empty()).then_some(VerifyError::Manifest(mistakes))
}

/// Finds limits of the manifest below the initial memory of an instance. No instance could ever be made.
fn short_of_memory(path: &Path, inspection: &Inspection, manifest: &Manifest) -> Vec<VerifyError> {
    let (limits, needed) = (&manifest.limits, inspection.footprint.bytes());
    // Whole MiB are what is usually written there.
    let rounded = Bytes(needed.0.div_ceil(MIB).saturating_mul(MIB));
    let keys = [
        ("memory-max", limits.memory_max, &limits.origins.memory_max),
        ("instance-memory-max", limits.instance_memory_max, &limits.origins.instance_memory_max),
    ];
    let short = keys.into_iter().filter(|(_, max, _)| *max < needed);
    let error = |(key, max, origin): (_, Bytes, &Origin)| match origin.0.clone() {
        Some(place) => {
            let message = format!(
                "limits.{key} must be at least \"{rounded}\", not \"{max}\": each instance of the component begins with \
                 that much"
            );
            VerifyError::Manifest(vec![Diagnostic::at(place, message)])
        }
        None => VerifyError::Memory { path: path.to_owned(), needed: rounded, key, max },
    };
    short.map(error).collect()
}

/// An import that needs a grant that is missing, with the line that would grant it.
///
/// The WASI interfaces of files, sockets and requests are not among them: they are linked for all plugins and refuse at
/// run time, since many toolchains import them whether a component uses them or not.
fn ungranted(inspection: &Inspection, manifest: &Manifest) -> Option<(String, &'static str)> {
    inspection.imports.iter().find_map(|import| {
        let Access::Granted(grants) = find(import)?.access else { return None };
        let granted = grants.iter().any(|grant| manifest.grants.has(*grant));
        let grant = grants.first().filter(|_| !granted)?;
        Some((import.clone(), grant.example()))
    })
}
