//! The routes that plugins request, and the owner of a route that several request.

use crate::{
    base::name::{PluginName, SocketName},
    config::{Diagnostic, Position},
    plugin::{
        directories::{VerifyResult, name_of},
        inspection::Inspection,
        manifest::Manifest,
        serve::{Serve, WebSocketUse, own_route, own_socket},
        verify::Verified,
    },
};
use std::{collections::BTreeMap, fmt};

/// A place that one plugin serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Requests over HTTP.
    Http(HttpRoute),
    /// All that comes on the sockets of this name, as streams or datagrams.
    Socket(SocketName),
}

/// A place that one plugin serves over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpRoute {
    /// The sockets on which it counts; none: all that speak HTTP.
    pub socket: Option<SocketName>,
    /// The host in lower case and without a port; none: any.
    pub host: Option<String>,
    /// A path prefix that ends where a segment ends.
    pub prefix: String,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(route) => {
                if let Some(socket) = &route.socket {
                    write!(f, "{socket}:")?;
                }
                write!(f, "{}{}", route.host.as_deref().unwrap_or_default(), route.prefix)
            }
            Self::Socket(socket) => write!(f, "{socket}:"),
        }
    }
}

/// The way in which requests on a route are passed to its plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteUse {
    /// The number of segments to remove from the beginning of the path.
    pub strip: usize,
    /// The handling of requests for a WebSocket.
    pub websocket: WebSocketUse,
}

/// A route, and how its requests are passed on.
pub type RouteRequest = (Route, RouteUse);

/// The routes that a plugin with this name and manifest asks for. `inspection` says whether it can serve any; as long
/// as that is not known it may.
#[must_use]
pub fn route_requests(
    name: &PluginName,
    manifest: &Manifest,
    inspection: Option<&Inspection>,
) -> Vec<RouteRequest> {
    if inspection.is_some_and(|inspection| !inspection.serves()) {
        return Vec::new();
    }
    let own = || own_route(name);
    if manifest.serve.is_empty() && inspection.is_some_and(Inspection::is_middleware) {
        // It stands before others, and is reached by itself only if its manifest says so.
        return Vec::new();
    }
    // A WebSocket would bypass middleware.
    let has_middleware = !manifest.middleware.links.is_empty();
    let serves = inspection.is_some_and(|inspection| inspection.websockets.is_some());
    let websocket = match serves && !has_middleware {
        true => WebSocketUse::Serve,
        false => WebSocketUse::Refuse,
    };
    if manifest.serve.is_empty() {
        let is_unreached = |it: &Inspection| !it.serves_routes() && !it.serves_sockets();
        if inspection.is_some_and(is_unreached) {
            // Messages come to it by its subscriptions.
            return Vec::new();
        }
        if inspection.is_some_and(|inspection| !inspection.serves_routes()) {
            let whole = |socket| (Route::Socket(socket), RouteUse::default());
            return own_socket(name).map(whole).into_iter().collect();
        }
        let route = HttpRoute { socket: None, host: None, prefix: own() };
        return vec![(Route::Http(route), RouteUse { strip: 1, websocket })];
    }
    let route_request = |serve: &Serve| {
        if let Some(socket) = serve.whole_socket() {
            return (Route::Socket(socket.clone()), RouteUse::default());
        }
        let prefix = serve.route.clone().unwrap_or_else(own);
        let segments = prefix.split('/').filter(|segment| !segment.is_empty()).count();
        let (socket, host) = (serve.socket.clone(), serve.host.clone());
        let route = Route::Http(HttpRoute { socket, host, prefix });
        let strip = if serve.strip_prefix { segments } else { 0 };
        (route, RouteUse { strip, websocket: serve.websocket.unwrap_or(websocket) })
    };
    manifest.serve.iter().map(route_request).collect()
}

/// The routes that a plugin asks for. A rejected plugin asks for those of its manifest, as far as that is known.
#[must_use]
pub fn requests_of(outcome: &VerifyResult) -> Vec<RouteRequest> {
    let name = name_of(outcome);
    match outcome {
        Ok(verified) => route_requests(name, verified.manifest(), Some(verified.inspection())),
        Err(rejected) => {
            let manifest = rejected.manifest.as_ref();
            manifest.map(|manifest| route_requests(name, manifest, None)).unwrap_or_default()
        }
    }
}

/// The conflicts of a plugin, each with the place where the route is asked for: in the manifest, or else the component,
/// whose name is the default.
#[must_use]
pub fn conflict_message(verified: &Verified, conflicts: &[RouteConflict]) -> String {
    let message = |conflict: &RouteConflict| {
        let serve = verified.manifest().serve.get(conflict.nth);
        let place = serve.and_then(|serve| match conflict.route {
            Route::Http(_) => serve.origin.0.clone(),
            Route::Socket(_) => serve.socket_origin.0.clone(),
        });
        let place = place.unwrap_or_else(|| Position::whole(verified.path()));
        Diagnostic::at(place, conflict.to_string()).to_string()
    };
    conflicts.iter().map(message).collect::<Vec<_>>().join("; ")
}

/// A route that another plugin has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", already_taken(.route, .owner))]
pub struct RouteConflict {
    /// The index of the request, from 0.
    pub nth: usize,
    /// The route.
    pub route: Route,
    /// Its owner.
    pub owner: PluginName,
}

fn already_taken(route: &Route, owner: &PluginName) -> String {
    match route {
        Route::Http(route) => format!(
            "the route {} is already taken by the plugin {owner}; give one of them another route in [[serve]]",
            Route::Http(route.clone())
        ),
        Route::Socket(socket) => format!(
            "the socket {socket} is already served by the plugin {owner}, and a socket has one plugin; give one of them \
             another socket in [[serve]]"
        ),
    }
}

/// Which plugin owns which route. An owner keeps its route. Of several new claims, the first in the order of names gets it.
#[derive(Default)]
pub struct RouteOwners(BTreeMap<Route, PluginName>);

impl RouteOwners {
    /// A plugin owns these routes, and keeps those of them that it still requests.
    pub fn keep(&mut self, name: &PluginName, has: &[RouteRequest], wants: &[RouteRequest]) {
        let still_wanted =
            has.iter().filter(|(route, _)| wants.iter().any(|(wanted, _)| wanted == route));
        self.0.extend(still_wanted.map(|(route, _)| (route.clone(), name.clone())));
    }

    /// Claims the routes of all plugins that were found. A rejected plugin takes no route from one that can be used.
    pub fn claim_all(
        &mut self,
        found: &[VerifyResult],
    ) -> BTreeMap<PluginName, Result<(), Vec<RouteConflict>>> {
        let (usable, rejected): (Vec<_>, Vec<_>) =
            found.iter().partition(|outcome| outcome.is_ok());
        usable
            .into_iter()
            .chain(rejected)
            .map(|outcome| {
                (name_of(outcome).clone(), self.claim(name_of(outcome), &requests_of(outcome)))
            })
            .collect()
    }

    /// Claims routes for a plugin, all or none.
    ///
    /// # Errors
    /// When another plugin has some of them.
    pub fn claim(
        &mut self,
        name: &PluginName,
        route_requests: &[RouteRequest],
    ) -> Result<(), Vec<RouteConflict>> {
        let taken = route_requests.iter().enumerate().filter_map(|(nth, (route, _))| {
            let owner = self.0.get(route).filter(|owner| *owner != name)?;
            Some(RouteConflict { nth, route: route.clone(), owner: owner.clone() })
        });
        let taken: Vec<_> = taken.collect();
        if !taken.is_empty() {
            return Err(taken);
        }
        self.0.extend(route_requests.iter().map(|(route, _)| (route.clone(), name.clone())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Document, plugin::inspection::ConnectionFunctions};
    use std::path::Path;

    fn route_requests_of(name: &str, manifest: &str) -> Vec<RouteRequest> {
        let manifest = Manifest::parse(&Document::new(Path::new("m.toml"), manifest)).unwrap();
        route_requests(&name.parse().unwrap(), &manifest, None)
    }

    #[test]
    fn by_default_a_plugin_requests_the_route_of_its_name() {
        let own = |strip| {
            let route = HttpRoute { socket: None, host: None, prefix: "/hello".to_owned() };
            vec![(Route::Http(route), RouteUse { strip, ..RouteUse::default() })]
        };
        assert_eq!(route_requests_of("hello", ""), own(1));
        assert_eq!(route_requests_of("hello", "[[serve]]\n"), own(1));
        assert_eq!(route_requests_of("hello", "[[serve]]\nstrip-prefix = false\n"), own(0));
    }

    #[test]
    fn the_first_to_claim_a_route_has_it_and_another_host_is_another_route() {
        let mut owners = RouteOwners::default();
        let mut claim = |name: &str, manifest| {
            owners.claim(&name.parse().unwrap(), &route_requests_of(name, manifest))
        };
        assert_eq!(claim("a", "[[serve]]\nroute = \"/x\"\n"), Ok(()));
        let refused =
            claim("b", "[[serve]]\nroute = \"/y\"\n[[serve]]\nroute = \"/x\"\n").unwrap_err();
        assert_eq!(refused.len(), 1);
        let (nth, reported) = (refused[0].nth, refused[0].to_string());
        assert!(nth == 1 && reported.contains("/x is already taken by the plugin a"), "{reported}");
        assert_eq!(claim("c", "[[serve]]\nroute = \"/y\"\n"), Ok(()), "b got neither");
        assert_eq!(claim("d", "[[serve]]\nroute = \"/x\"\nhost = \"h\"\n"), Ok(()));
        let on_a_socket = "[[serve]]\nroute = \"/x\"\nsocket = \"admin\"\n";
        assert_eq!(claim("e", on_a_socket), Ok(()), "on a socket of its own");
        assert!(claim("f", on_a_socket).is_err());
    }

    #[test]
    fn the_owner_of_a_route_keeps_it_whatever_its_name_is() {
        let [a, z] = ["a", "z"].map(|name| name.parse().unwrap());
        let (site, other) =
            (route_requests_of("z", "[[serve]]\nroute = \"/site\"\n"), route_requests_of("z", ""));
        let mut owners = RouteOwners::default();
        owners.keep(&z, &site, &site);
        assert_eq!(owners.claim(&a, &site).unwrap_err()[0].owner, z);
        assert_eq!(owners.claim(&z, &site), Ok(()));

        let mut owners = RouteOwners::default();
        owners.keep(&z, &site, &other);
        assert_eq!(owners.claim(&a, &site), Ok(()), "z does not want it any more");
    }

    #[test]
    fn a_route_serves_websockets_if_its_component_does_unless_its_manifest_says_no() {
        let inspection =
            Inspection { websockets: Some(ConnectionFunctions::Async), ..Inspection::default() };
        let use_of = |inspection, manifest: &str| {
            let manifest = Manifest::parse(&Document::new(Path::new("m.toml"), manifest)).unwrap();
            route_requests(&"chat".parse().unwrap(), &manifest, inspection)[0].1.websocket
        };
        assert_eq!(use_of(Some(&inspection), ""), WebSocketUse::Serve);
        assert_eq!(use_of(None, ""), WebSocketUse::Refuse);
        for (word, websocket) in
            [("refuse", WebSocketUse::Refuse), ("ignore", WebSocketUse::Ignore)]
        {
            let manifest = format!("[[serve]]\nwebsocket = \"{word}\"\n");
            assert_eq!(use_of(Some(&inspection), &manifest), websocket);
            assert_eq!(websocket.word(), word);
        }
    }

    #[test]
    fn a_component_without_a_handler_requests_no_route() {
        let name = "ticker".parse().unwrap();
        assert_eq!(route_requests(&name, &Manifest::default(), Some(&Inspection::default())), []);
    }
}
