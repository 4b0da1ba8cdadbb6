//! The sockets that plugins serve as a whole. Each gets a free port, so that a plugin needs no set-up.

use plugind::{base::name::SocketName, check::Checked, route::owners::Route};
use std::{
    ffi::OsString,
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

/// A socket of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginSocket {
    /// The name by which the manifest asks for it.
    pub(crate) name: SocketName,
    /// Its transport.
    pub(crate) transport: SocketTransport,
    /// Its address.
    pub(crate) address: SocketAddr,
}

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketTransport {
    Tcp,
    Udp,
}

impl PluginSocket {
    /// Chooses an address for each socket that a plugin asks for.
    pub(crate) fn all(plugins: &[Checked], ip: IpAddr) -> io::Result<Vec<Self>> {
        let mut sockets = Vec::new();
        for plugin in plugins {
            let Some(verified) = &plugin.verified else { continue };
            let inspection = verified.inspection();
            let transports = [
                inspection.connections.map(|_| SocketTransport::Tcp),
                inspection.datagrams.then_some(SocketTransport::Udp),
            ];
            for (route, _) in &plugin.routes {
                let Route::Socket(name) = route else { continue };
                for transport in transports.into_iter().flatten() {
                    let address = transport.free_address(ip)?;
                    sockets.push(Self { name: name.clone(), transport, address });
                }
            }
        }
        Ok(sockets)
    }

    /// The options of the daemon that open it.
    pub(crate) fn options(&self) -> [OsString; 2] {
        let Self { name, transport, address } = self;
        let prefix = match transport {
            SocketTransport::Tcp => "",
            SocketTransport::Udp => "udp:",
        };
        ["--listen".into(), format!("{name}={prefix}{address}").into()]
    }
}

impl fmt::Display for PluginSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            SocketTransport::Tcp => "tcp",
            SocketTransport::Udp => "udp",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl SocketTransport {
    /// An address whose port is free. The daemon opens it again: Linux does not reuse the port at once.
    fn free_address(self, ip: IpAddr) -> io::Result<SocketAddr> {
        let any = SocketAddr::new(ip, 0);
        match self {
            Self::Tcp => TcpListener::bind(any)?.local_addr(),
            Self::Udp => UdpSocket::bind(any)?.local_addr(),
        }
    }
}
