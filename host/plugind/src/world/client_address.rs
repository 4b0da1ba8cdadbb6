//! The peer of a socket, as a guest sees it.

use std::net::SocketAddr;

/// The peer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// A client over IP.
    Ip(SocketAddr),
    /// A process of this machine, if the kernel names it.
    Unix(Option<Process>),
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what the kernel calls them")]
pub struct Process {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}
