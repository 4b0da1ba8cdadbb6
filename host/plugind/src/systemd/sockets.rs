//! Sockets that systemd opened, by their names: `FileDescriptorName=` of systemd.socket(5), never by their places.

use crate::base::name::SocketName;
use listenfd::ListenFd;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, SocketType,
        sockopt::{socket_acceptconn, socket_domain, socket_type},
    },
};
use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::net::{UnixDatagram, UnixListener},
    },
};

/// A socket, by its kind.
#[derive(Debug)]
pub enum Socket {
    /// It accepts connections over IP.
    Tcp(TcpListener),
    /// It accepts connections at a path.
    UnixStream(UnixListener),
    /// It receives datagrams over IP.
    Udp(UdpSocket),
    /// It receives datagrams at a path.
    UnixDatagram(UnixDatagram),
}

/// The kind of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the kinds of a socket by their names")]
pub enum SocketKind {
    Tcp,
    UnixStream,
    Udp,
    UnixDatagram,
    /// Anything else, such as a FIFO or a connection.
    Other,
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::UnixStream => "unix stream",
            Self::Udp => "UDP",
            Self::UnixDatagram => "unix datagram",
            Self::Other => "unknown",
        })
    }
}

impl Socket {
    /// The socket behind a descriptor.
    ///
    /// # Errors
    /// The descriptor, if it is another kind of socket, a connection, or not a socket.
    pub fn of(descriptor: OwnedFd) -> Result<Self, OwnedFd> {
        let is = (socket_domain(&descriptor), socket_type(&descriptor));
        let listens = socket_acceptconn(&descriptor).unwrap_or(false);
        Ok(match (is, listens) {
            ((Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM)), true) => {
                Self::Tcp(descriptor.into())
            }
            ((Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::DGRAM)), _) => {
                Self::Udp(descriptor.into())
            }
            ((Ok(AddressFamily::UNIX), Ok(SocketType::STREAM)), true) => {
                Self::UnixStream(descriptor.into())
            }
            ((Ok(AddressFamily::UNIX), Ok(SocketType::DGRAM)), _) => {
                Self::UnixDatagram(descriptor.into())
            }
            _ => return Err(descriptor),
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        match self {
            Self::Tcp(_) => SocketKind::Tcp,
            Self::UnixStream(_) => SocketKind::UnixStream,
            Self::Udp(_) => SocketKind::Udp,
            Self::UnixDatagram(_) => SocketKind::UnixDatagram,
        }
    }

    /// Its address, for the log.
    #[must_use]
    pub fn address(&self) -> String {
        let path = |address: io::Result<std::os::unix::net::SocketAddr>| {
            let address = address.ok()?;
            let path = address.as_pathname()?;
            Some(path.display().to_string())
        };
        let ip = |address: io::Result<std::net::SocketAddr>| Some(address.ok()?.to_string());
        let address = match self {
            Self::Tcp(socket) => ip(socket.local_addr()),
            Self::UnixStream(socket) => path(socket.local_addr()),
            Self::Udp(socket) => ip(socket.local_addr()),
            Self::UnixDatagram(socket) => path(socket.local_addr()),
        };
        address.unwrap_or_else(|| "-".to_owned())
    }
}

/// The sockets that systemd passed to this process.
#[derive(Debug, Default)]
pub struct PassedSockets {
    /// The sockets, by their names; several may share one.
    pub named: BTreeMap<SocketName, Vec<Socket>>,
    /// Descriptors that cannot be served: their names are not names of sockets, or they are something else. They stay
    /// open as well, since they are somebody's.
    pub others: Vec<(String, OwnedFd)>,
}

/// The sockets that were passed cannot be distinguished.
#[derive(Debug, thiserror::Error)]
#[error("$LISTEN_FDS and $LISTEN_FDNAMES must be valid and name the same number of sockets")]
pub struct SocketsError(#[from] io::Error);

/// The descriptors that were passed, and are not taken yet.
pub(super) struct PassedDescriptors {
    names: Vec<(RawFd, String)>,
    descriptors: ListenFd,
}

impl PassedDescriptors {
    pub(super) fn take() -> Result<Self, SocketsError> {
        // The names first: taking the descriptors clears the environment.
        let names = match is_for_another_process() {
            true => Vec::new(),
            false => sd_notify::listen_fds_with_names()?.collect(),
        };
        Ok(Self { names, descriptors: ListenFd::from_env() })
    }

    /// The files among them, with their names. The units of plugind open none, so they come from the file descriptor
    /// store.
    pub(super) fn take_files(&mut self) -> Vec<(String, OwnedFd)> {
        let is_file = |number: RawFd| {
            // It is only looked at: a socket has to stay where it is.
            fs::metadata(format!("/proc/self/fd/{number}")).is_ok_and(|what| what.is_file())
        };
        let places = (0..self.names.len()).filter(|place| is_file(self.names[*place].0));
        let places: Vec<_> = places.collect();
        places.into_iter().filter_map(|place| self.take_one(place)).collect()
    }

    /// All that are left.
    pub(super) fn take_sockets(mut self) -> PassedSockets {
        let mut passed = PassedSockets::default();
        for place in 0..self.names.len() {
            let Some((name, descriptor)) = self.take_one(place) else { continue };
            match (name.parse::<SocketName>(), Socket::of(descriptor)) {
                (Ok(name), Ok(socket)) => passed.named.entry(name).or_default().push(socket),
                (Err(_), Ok(socket)) => passed.others.push((name, socket.into())),
                (_, Err(descriptor)) => passed.others.push((name, descriptor)),
            }
        }
        passed
    }

    fn take_one(&mut self, place: usize) -> Option<(String, OwnedFd)> {
        let descriptor = self.descriptors.take_raw_fd(place).ok()??;
        // SAFETY: systemd opened it for this process and said so, and nobody has taken it: `take_raw_fd` gives each
        // descriptor out once, and not one that was taken in another way.
        #[expect(unsafe_code, reason = "the descriptor is known by its number only")]
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // A descriptor that a child inherits stays open as long as the child runs.
        fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
        Some((self.names[place].1.clone(), descriptor))
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(socket) => socket.into(),
            Socket::UnixStream(socket) => socket.into(),
            Socket::Udp(socket) => socket.into(),
            Socket::UnixDatagram(socket) => socket.into(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::UnixStream(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::UnixDatagram(socket) => socket.as_fd(),
        }
    }
}

/// Whether the descriptors in the environment are another process's, which has started this one.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read here, before there are threads"
)]
fn is_for_another_process() -> bool {
    let process = env::var("LISTEN_PID").ok().and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| process != std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kind_of_a_socket_is_read_from_its_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        for (descriptor, kind) in [
            (OwnedFd::from(tcp), SocketKind::Tcp),
            (TcpListener::bind("[::1]:0").unwrap().into(), SocketKind::Tcp),
            (UnixListener::bind(path("stream")).unwrap().into(), SocketKind::UnixStream),
            (UdpSocket::bind("127.0.0.1:0").unwrap().into(), SocketKind::Udp),
            (UnixDatagram::bind(path("datagram")).unwrap().into(), SocketKind::UnixDatagram),
        ] {
            let socket = Socket::of(descriptor).unwrap();
            assert_eq!(socket.kind(), kind);
            match kind {
                SocketKind::UnixStream => {
                    assert_eq!(socket.address(), path("stream").display().to_string());
                }
                SocketKind::Tcp if socket.address().starts_with("127") => {
                    assert_eq!(socket.address(), address);
                }
                _ => assert_ne!(socket.address(), "-"),
            }
        }
    }

    #[test]
    fn a_connection_and_a_file_are_not_sockets_to_serve() {
        let (connection, _other) = UnixStream::pair().unwrap();
        assert!(Socket::of(connection.into()).is_err());
        assert!(Socket::of(tempfile::tempfile().unwrap().into()).is_err());
    }
}
