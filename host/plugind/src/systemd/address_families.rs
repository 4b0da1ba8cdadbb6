//! Whether the daemon's unit lets it open connections: `RestrictAddressFamilies=` forbids kinds of sockets.

use crate::base::endpoint::{Endpoint, Host};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, socket},
};
use std::{io, net::IpAddr};

/// Kinds of sockets that the daemon must not open.
#[derive(Debug)]
pub struct BarredFamilies {
    /// Their names in `RestrictAddressFamilies=`.
    pub families: &'static str,
    /// The error of the attempt.
    pub source: io::Error,
}

/// Opens a socket of this kind, and closes it.
///
/// # Errors
/// When that is not possible.
pub fn try_family(family: AddressFamily) -> rustix::io::Result<()> {
    socket(family, SocketType::STREAM, None).map(drop)
}

/// The kinds of sockets that a connection to `to` needs, if `attempt` shows that none of them can be opened.
pub fn barred(
    to: &Endpoint,
    attempt: impl Fn(AddressFamily) -> rustix::io::Result<()>,
) -> Option<BarredFamilies> {
    // Any other error, such as too many open sockets, may have passed when a socket is needed.
    let bar = |family| {
        let barring =
            |errno: &Errno| matches!(*errno, Errno::AFNOSUPPORT | Errno::PERM | Errno::ACCESS);
        attempt(family).err().filter(barring)
    };
    let (families, errno) = match to.host {
        Host::Address(IpAddr::V4(_)) => ("AF_INET", bar(AddressFamily::INET)),
        Host::Address(IpAddr::V6(_)) => ("AF_INET6", bar(AddressFamily::INET6)),
        // It may have addresses of either kind.
        Host::Name(_) => (
            "AF_INET or AF_INET6",
            bar(AddressFamily::INET).and_then(|_| bar(AddressFamily::INET6)),
        ),
    };
    Some(BarredFamilies { families, source: errno?.into() })
}
