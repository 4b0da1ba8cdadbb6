//! Which plugin serves which request: the one value that both flows share. The supervisor publishes it, every request
//! reads it, and neither waits for the other.

use crate::{
    base::{
        figures::PluginFigures,
        name::{PluginName, SocketName},
    },
    pool::instances::Pool,
    route::owners::{Route, RouteUse},
};
use arc_swap::ArcSwap;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::Ipv6Addr,
    sync::Arc,
};
use tokio::sync::watch;

/// The plugin that serves a route.
pub struct RouteEntry {
    /// The plugin.
    pub plugin: PluginName,
    /// Its instances; none while none of its generations serves.
    pub pool: Option<Arc<Pool>>,
    /// Where those of its requests that have no instance are counted.
    pub figures: Arc<PluginFigures>,
    /// The way in which requests are passed to it.
    pub used: RouteUse,
}

/// All routes.
#[derive(Clone, Default)]
pub struct RouteTable {
    /// Number of segments of the longest route.
    deepest: usize,
    any_socket: Paths,
    sockets: HashMap<SocketName, Paths>,
    /// Plugins that answer HTTP requests, for calls of other plugins.
    plugins: HashMap<PluginName, Arc<RouteEntry>>,
    /// Plugins that are middleware, for the plugins behind them.
    middleware: HashMap<PluginName, Arc<RouteEntry>>,
    /// Plugins that receive messages.
    subscribers: HashMap<PluginName, Arc<RouteEntry>>,
    /// Sockets that a plugin serves as a whole.
    whole_sockets: HashMap<SocketName, Arc<RouteEntry>>,
}

/// The routes of some sockets.
#[derive(Clone, Default)]
struct Paths {
    any_host: HashMap<String, Arc<RouteEntry>>,
    hosts: HashMap<String, HashMap<String, Arc<RouteEntry>>>,
}

/// Why a path is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path has segments \".\" or \"..\"")]
pub struct DotSegments;

impl RouteTable {
    /// A table with these routes.
    #[must_use]
    pub fn new(entries: BTreeMap<Route, RouteEntry>) -> Self {
        let mut table = Self::default();
        for (route, entry) in entries {
            let entry = Arc::new(entry);
            let route = match route {
                Route::Http(route) => route,
                Route::Socket(socket) => {
                    table.whole_sockets.insert(socket, entry);
                    continue;
                }
            };
            let paths = match route.socket {
                None => &mut table.any_socket,
                Some(socket) => table.sockets.entry(socket).or_default(),
            };
            let paths = match route.host {
                None => &mut paths.any_host,
                Some(host) => paths.hosts.entry(host).or_default(),
            };
            table.deepest = table.deepest.max(route.prefix.matches('/').count());
            paths.insert(route.prefix, entry);
        }
        table
    }

    /// Finds the plugin that serves `path` of `host` on a socket. Routes of the socket precede those of any socket, those
    /// of the host precede those of any host, and of these the longest wins that leads to the path by whole segments.
    ///
    /// `path` is as the client wrote it; `host` as well, with its port if it has one.
    ///
    /// # Errors
    /// When the path has dot segments, in whatever way they are written: the daemon and the plugin could disagree about
    /// where they lead.
    pub fn route(
        &self,
        socket: &SocketName,
        host: Option<&str>,
        path: &str,
    ) -> Result<Option<&Arc<RouteEntry>>, DotSegments> {
        let decoded = decode(path)?;
        // No route is longer, so that a path of thousands of segments costs no more than a short one.
        let decoded = first_segments(&decoded, self.deepest);
        if !self.sockets.is_empty()
            && let Some(paths) = self.sockets.get(socket)
            && let Some(found) = paths.find(host, decoded)
        {
            return Ok(Some(found));
        }
        Ok(self.any_socket.find(host, decoded))
    }

    /// The same table, with the plugins that other plugins may call.
    #[must_use]
    pub fn with_plugins(self, plugins: impl Iterator<Item = RouteEntry>) -> Self {
        let plugins = plugins.map(|entry| (entry.plugin.clone(), Arc::new(entry)));
        Self { plugins: plugins.collect(), ..self }
    }

    /// The same table, with the plugins that are middleware.
    #[must_use]
    pub fn with_middleware(self, plugins: impl Iterator<Item = RouteEntry>) -> Self {
        let plugins = plugins.map(|entry| (entry.plugin.clone(), Arc::new(entry)));
        Self { middleware: plugins.collect(), ..self }
    }

    /// The same table, with the plugins that receive messages.
    #[must_use]
    pub fn with_subscribers(self, plugins: impl Iterator<Item = RouteEntry>) -> Self {
        let plugins = plugins.map(|entry| (entry.plugin.clone(), Arc::new(entry)));
        Self { subscribers: plugins.collect(), ..self }
    }

    /// The plugins that receive messages.
    pub fn subscribers(&self) -> impl Iterator<Item = &Arc<RouteEntry>> {
        self.subscribers.values()
    }

    /// A plugin that receives messages.
    #[must_use]
    pub fn subscriber(&self, name: &PluginName) -> Option<&Arc<RouteEntry>> {
        self.subscribers.get(name)
    }

    /// The instances of a plugin that is middleware, if one of its generations serves.
    #[must_use]
    pub fn middleware(&self, name: &PluginName) -> Option<&Arc<Pool>> {
        self.middleware.get(name)?.pool.as_ref()
    }

    /// The plugin that answers a call of another plugin for `path`.
    ///
    /// # Errors
    /// When the path has dot segments.
    pub fn plugin(
        &self,
        name: &PluginName,
        path: &str,
    ) -> Result<Option<&Arc<RouteEntry>>, DotSegments> {
        decode(path)?;
        Ok(self.plugins.get(name))
    }

    /// The plugin that serves everything that comes on a socket.
    #[must_use]
    pub fn whole_socket(&self, socket: &SocketName) -> Option<&Arc<RouteEntry>> {
        self.whole_sockets.get(socket)
    }
}

impl Paths {
    fn find(&self, host: Option<&str>, path: &str) -> Option<&Arc<RouteEntry>> {
        if !self.hosts.is_empty()
            && let Some(host) = host
            && let Some(paths) = self.hosts.get(plain_host(host).as_ref())
            && let Some(found) = longest(paths, path)
        {
            return Some(found);
        }
        longest(&self.any_host, path)
    }
}

/// The first `max` segments of the path.
fn first_segments(path: &str, max: usize) -> &str {
    let end = path.match_indices('/').nth(max).map(|(slash, _)| slash.max(1));
    &path[..end.unwrap_or(path.len())]
}

/// Tries the path, then the path without its last segment, and so on to `/`.
fn longest<'a>(
    paths: &'a HashMap<String, Arc<RouteEntry>>,
    path: &str,
) -> Option<&'a Arc<RouteEntry>> {
    let mut end = path.len();
    loop {
        if let Some(entry) = paths.get(&path[..end]) {
            return Some(entry);
        }
        match path[..end].rfind('/')? {
            0 if end > 1 => end = 1,
            0 => return None,
            slash => end = slash,
        }
    }
}

/// The path in the form in which routes are written: what needed no encoding is decoded (RFC 3986, 6.2.2.2).
fn decode(path: &str) -> Result<Cow<'_, str>, DotSegments> {
    // Nearly every path is plain, and costs no more than this look.
    let path =
        if path.contains('%') { Cow::Owned(decode_unreserved(path)) } else { Cow::Borrowed(path) };
    if path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(DotSegments);
    }
    Ok(path)
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(percent) = rest.find('%') {
        decoded.push_str(&rest[..percent]);
        let byte = rest
            .get(percent + 1..percent + 3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = &rest[percent + 3..];
            }
            _ => {
                decoded.push('%');
                rest = &rest[percent + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

/// The host without its port and in lower case; an IPv6 address as RFC 5952 writes it.
fn plain_host(host: &str) -> Cow<'_, str> {
    // It has colons of its own.
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Cow::Owned(format!("[{address}]")),
            Err(_) => Cow::Borrowed(host),
        };
    }
    let end = host.find(':').unwrap_or(host.len());
    let host = host[..end].trim_end_matches('.');
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// The supervisor's end, which publishes.
pub struct TablePublisher {
    slot: Arc<ArcSwap<RouteTable>>,
    changes: watch::Sender<()>,
}
/// The requests' end. Cheap to clone.
#[derive(Clone)]
pub struct TableReader(Arc<ArcSwap<RouteTable>>);

/// The two ends of an empty table.
#[must_use]
pub fn channel() -> (TablePublisher, TableReader) {
    let slot = Arc::new(ArcSwap::default());
    let publisher = TablePublisher { slot: slot.clone(), changes: watch::Sender::new(()) };
    (publisher, TableReader(slot))
}

impl TablePublisher {
    /// Replaces the table as a whole. Readers of the old one keep it.
    pub fn publish(&self, table: RouteTable) {
        self.slot.store(Arc::new(table));
        self.changes.send_replace(());
    }

    /// Returns a receiver that is notified of each table that is published.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

impl TableReader {
    /// The table of this moment.
    #[must_use]
    pub fn table(&self) -> arc_swap::Guard<Arc<RouteTable>> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests;
