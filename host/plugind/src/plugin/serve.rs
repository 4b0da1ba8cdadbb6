//! `[[serve]]` of a manifest: where a plugin is found by its clients.

use crate::{
    base::name::{PluginName, SocketName},
    config::{Origin, Table},
};
use std::{collections::BTreeSet, net::Ipv6Addr};

/// `[[serve]]`: a place where a plugin is found by its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// A path prefix that ends where a segment ends; none: `/NAME`.
    pub route: Option<String>,
    /// Where that was written.
    pub origin: Origin,
    /// The sockets on which it counts; none: all that speak HTTP.
    pub socket: Option<SocketName>,
    /// Where that was written.
    pub socket_origin: Origin,
    /// The host in lower case and without a port; none: any.
    pub host: Option<String>,
    /// Whether the plugin sees the path without its route.
    pub strip_prefix: bool,
    /// The handling of requests for a WebSocket; none: the default for the component.
    pub websocket: Option<WebSocketUse>,
    /// Where that was written.
    pub websocket_origin: Origin,
}

/// The handling of requests for a WebSocket on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebSocketUse {
    /// The plugin's handler of WebSockets has them.
    Serve,
    /// They are refused.
    #[default]
    Refuse,
    /// They are passed on as if the client had not asked for a WebSocket.
    Ignore,
}

impl WebSocketUse {
    /// Each of them, with its word in a manifest.
    const WORDS: [(&'static str, Self); 3] =
        [("serve", Self::Serve), ("refuse", Self::Refuse), ("ignore", Self::Ignore)];

    /// Its word in a manifest.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, this)| *this == self).map_or("refuse", |(word, _)| word)
    }
}

/// Whether a socket is asked for as a whole. The plugin's own route counts on one whose name says that it is for HTTP.
fn is_whole(socket: &SocketName, route: Option<&str>) -> bool {
    route.is_none() && socket.as_str() != "http"
}

/// Returns the default route of a plugin.
#[must_use]
pub fn own_route(name: &PluginName) -> String {
    format!("/{name}")
}

/// Returns the default socket of a plugin that serves sockets: the one with its name.
#[must_use]
pub fn own_socket(name: &PluginName) -> Option<SocketName> {
    name.as_str().parse().ok()
}

/// Socket, host and route of what was read so far.
pub(super) type RoutesRead = BTreeSet<(Option<SocketName>, Option<String>, Option<String>)>;

impl Serve {
    /// The socket, if it is to be served as a whole: its connections, or its datagrams.
    #[must_use]
    pub fn whole_socket(&self) -> Option<&SocketName> {
        self.socket.as_ref().filter(|socket| is_whole(socket, self.route.as_deref()))
    }

    /// `own` is the route that counts where none is written, if that is known.
    pub(super) fn read(table: &Table<'_>, own: Option<&str>, places: &mut RoutesRead) -> Self {
        let socket = table.parsed::<SocketName>("socket");
        let route = table.text("route");
        if let Some(route) = &route
            && let Err(rule) = check_route(route)
        {
            table.complain_about("route", format!("serve.route {rule}, not {route:?}"));
        }
        let written = table.text("host");
        let host = written.as_deref().and_then(plain_host);
        if let (Some(written), None) = (&written, &host) {
            let message = format!(
                "serve.host must be a host name or an address without a port, as in \"hello.example\" or \"[::1]\", \
                 not {written:?}"
            );
            table.complain_about("host", message);
        }
        if let Some(socket) = socket.as_ref().filter(|socket| is_whole(socket, route.as_deref()))
            && host.is_some()
        {
            let message = format!(
                "serve.host cannot be used: \"{socket}\" without serve.route is the whole socket; remove it, or write \
                 serve.route to serve HTTP on this socket"
            );
            table.complain_about("host", message);
        }
        let counts = route.as_deref().or(own).map(str::to_owned);
        let websocket = table.choice("websocket", &WebSocketUse::WORDS);
        if let Some(socket) = socket.as_ref().filter(|socket| is_whole(socket, route.as_deref()))
            && websocket.is_some()
        {
            let message = format!(
                "serve.websocket cannot be used: \"{socket}\" without serve.route is the whole socket; remove it, or \
                 write serve.route to serve HTTP on this socket"
            );
            table.complain_about("websocket", message);
        }
        if !places.insert((socket.clone(), host.clone(), counts.clone())) {
            let whole = socket.as_ref().filter(|socket| is_whole(socket, route.as_deref()));
            let twice = match (&route, counts) {
                _ if whole.is_some() => "serve.socket without serve.route occurs".to_owned(),
                (None, Some(own)) => format!("serve.route is {own:?} by default and occurs"),
                (None, None) => "serve.route is left out".to_owned(),
                (Some(route), _) => format!("serve.route {route:?} occurs"),
            };
            let of = if whole.is_some() { "socket" } else { "host" };
            let message = format!("{twice} twice for the same {of}; remove one of them");
            table.complain_about("route", message);
        }
        let strip_prefix = table.boolean("strip-prefix").unwrap_or(true);
        let (origin, socket_origin) = (table.origin("route"), table.origin("socket"));
        let websocket_origin = table.origin("websocket");
        Self {
            route,
            origin,
            socket,
            socket_origin,
            host,
            strip_prefix,
            websocket,
            websocket_origin,
        }
    }
}

/// The host as a client sends it, but in lower case and without a port; none where no client could.
fn plain_host(host: &str) -> Option<String> {
    if let Some(rest) = host.strip_prefix('[') {
        let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_host = !host.is_empty() && !host.ends_with('.') && host.chars().all(plain);
    is_host.then(|| host.to_ascii_lowercase())
}

/// Characters beside letters and digits that a path has unencoded (RFC 3986, 3.3).
const PLAIN: &str = "/-._~!$&'()*+,;=:@";

/// A route is matched against what is left of a request's path after decoding, so it must be in that form itself.
fn check_route(route: &str) -> Result<(), &'static str> {
    if !route.starts_with('/') {
        return Err("must begin with \"/\"");
    }
    if route.len() > 1 && route.ends_with('/') {
        return Err("must not end with \"/\" (\"/hello\" serves \"/hello/\" too)");
    }
    if route.split('/').any(|segment| matches!(segment, "." | "..")) || route.contains("//") {
        return Err("must not have segments that are empty, \".\" or \"..\"");
    }
    if !route.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)) {
        return Err(
            "must have only letters a-z and A-Z, digits and -._~!$&'()*+,;=:@ between \"/\"",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::plugin::manifest::test_text::parse;

    #[test]
    fn a_route_that_no_request_can_have_is_refused_at_its_place() {
        for route in [
            "", "hello", "/a/", "/a/../b", "/a//b", "/a?b", "/a#b", "/%61", "/a b", "/grüße",
            "/a^b{c}", "/a|b",
        ] {
            let mistakes = parse(&format!("[[serve]]\nroute = \"{route}\"\n")).unwrap_err();
            assert!(mistakes[0].starts_with("m.toml:2:9: serve.route must "), "{mistakes:?}");
        }
        for route in ["/", "/A.b-c_d~/1", "/a!$&'()*+,;=:@"] {
            assert!(parse(&format!("[[serve]]\nroute = \"{route}\"\n")).is_ok(), "{route}");
        }
    }

    #[test]
    fn a_route_twice_is_refused_at_its_place_whether_written_or_default() {
        let twice = "occurs twice for the same host; remove one of them";
        let default = format!("serve.route is \"/hello\" by default and {twice}");
        for (text, mistake) in [
            ("[[serve]]\n[[serve]]\n", format!("m.toml:2:1: {default}")),
            (
                "[[serve]]\n[[serve]]\nroute = \"/hello\"\n",
                format!("m.toml:3:9: serve.route \"/hello\" {twice}"),
            ),
            ("[[serve]]\nroute = \"/hello\"\n[[serve]]\n", format!("m.toml:3:1: {default}")),
            ("serve = [{}, {}]\n", format!("m.toml:1:14: {default}")),
        ] {
            assert_eq!(parse(text).unwrap_err(), [mistake]);
        }
        assert!(parse("[[serve]]\n[[serve]]\nhost = \"h\"\n").is_ok(), "of another host");
    }
}
