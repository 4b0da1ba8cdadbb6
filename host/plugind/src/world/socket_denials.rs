//! Sockets that a plugin may not open or use: the first refusal for each protocol is logged for each version of a
//! plugin, since the guest gets an error code only.

use crate::base::name::PluginName;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tracing::warn;

const SERVE_CONNECTIONS: &str = "export connection-handler of plugind:plugin to serve connections, because only the daemon listens";
const SERVE_OR_CONNECT: &str = "export connection-handler of plugind:plugin to serve connections; to connect, write \
    tcp-connect = [\"HOST:PORT\"] below [grants] in its manifest";
const SERVE_DATAGRAMS: &str = "export datagram-handler of plugind:plugin to serve datagrams, because only the daemon opens UDP sockets";

/// The refusals of one version of a plugin.
pub(super) struct SocketDenials {
    plugin: PluginName,
    is_tcp_logged: AtomicBool,
    is_udp_logged: AtomicBool,
}

impl SocketDenials {
    /// Nothing was refused yet.
    pub(super) fn new(plugin: PluginName) -> Self {
        Self {
            plugin,
            is_tcp_logged: AtomicBool::new(false),
            is_udp_logged: AtomicBool::new(false),
        }
    }

    /// A TCP socket was refused by this interface, to a plugin that may connect to nothing.
    pub(super) fn tcp(&self, interface: &str) {
        self.log(&self.is_tcp_logged, interface, SERVE_OR_CONNECT);
    }

    /// A plugin that may connect must not bind a TCP socket, and not listen.
    pub(super) fn listening(&self) {
        self.log(&self.is_tcp_logged, "wasi:sockets", SERVE_CONNECTIONS);
    }

    /// A UDP socket was refused by this interface.
    pub(super) fn udp(&self, interface: &str) {
        self.log(&self.is_udp_logged, interface, SERVE_DATAGRAMS);
    }

    fn log(&self, is_logged: &AtomicBool, interface: &str, remedy: &str) {
        if !is_logged.swap(true, Relaxed) {
            warn!(plugin = %self.plugin, interface, remedy, "use of socket denied");
        }
    }
}
