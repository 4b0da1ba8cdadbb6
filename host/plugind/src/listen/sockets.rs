//! The sockets on which clients come, from systemd and from the command line, each known by its name.

use crate::{
    base::name::SocketName,
    route::sockets::{SocketKinds, SocketMistakes},
    systemd::sockets::{PassedSockets, Socket, SocketKind, SocketsError},
};
use rustix::net::sockopt;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
};
use tracing::info;

/// A socket to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The use of the socket, by its name.
    pub name: SocketName,
    /// The address to listen on.
    pub address: Address,
}

/// Where a socket is, and of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Connections to an address and a port.
    Tcp(SocketAddr),
    /// Connections at a path.
    UnixStream(PathBuf),
    /// Datagrams to an address and a port.
    Udp(SocketAddr),
    /// Datagrams at a path.
    UnixDatagram(PathBuf),
}

/// A text is not the address of a socket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a socket; write ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080, udp:ADDRESS:PORT, \
     unix:/PATH or unixgram:/PATH"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let path = |path: &str| match path {
            "" => Err(wrong()),
            path => Ok(PathBuf::from(path)),
        };
        let ip = |address: &str| address.parse().map_err(|_| wrong());
        if let Some(address) = text.strip_prefix("udp:") {
            return ip(address).map(Self::Udp);
        }
        if let Some(file) = text.strip_prefix("unixgram:") {
            return path(file).map(Self::UnixDatagram);
        }
        if let Some(file) = text.strip_prefix("unix:") {
            return path(file).map(Self::UnixStream);
        }
        match text.starts_with(['/', '.']) {
            true => path(text).map(Self::UnixStream),
            false => ip(text).map(Self::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::UnixStream(path) => write!(f, "{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::UnixDatagram(path) => write!(f, "unixgram:{}", path.display()),
        }
    }
}

/// All sockets, by their names. They stay open for the daemon's life, whether anything is served on them or not.
#[derive(Default)]
pub struct ListenSockets {
    named: BTreeMap<SocketName, Vec<Socket>>,
    /// Descriptors on which nothing can be served.
    others: Vec<(String, OwnedFd)>,
    /// The names of those that were handed over.
    passed: BTreeSet<SocketName>,
    /// Files of sockets that were opened here, which go when this does.
    files: Vec<SocketFile>,
}

/// A socket's file.
struct SocketFile {
    path: PathBuf,
    /// Device and inode, by which it is known again.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another daemon may have its own there by now.
        if self.identity.is_some() && self.identity == identity(&self.path) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Why sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The sockets that systemd passed contradict each other.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// Sockets are not of the kind that they should be.
    #[error(transparent)]
    Mistakes(#[from] SocketMistakes),
    /// A socket could not be opened.
    #[error("cannot listen on {} for the socket {}", .0.address, .0.name)]
    Listen(Listen, #[source] io::Error),
    /// Something else is in the place of a socket.
    #[error(
        "cannot listen on {} for the socket {}: {what} is there; remove it, or choose another path",
        .listen.address,
        .listen.name
    )]
    Occupied {
        /// The socket.
        listen: Listen,
        /// The object at the path.
        what: &'static str,
    },
    /// An operation on a socket failed.
    #[error("cannot use the socket {0}")]
    Use(SocketName, #[source] io::Error),
}

impl ListenError {
    /// Whether another start can succeed only after something was changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Mistakes(_))
    }
}

impl ListenSockets {
    /// Takes the sockets that were handed over, and opens those that are asked for.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn collect(passed: PassedSockets, asked_for: &[Listen]) -> Result<Self, ListenError> {
        let PassedSockets { named, others } = passed;
        let passed = named.keys().cloned().collect();
        let mut sockets = Self { named, others, passed, files: Vec::new() };
        for listen in asked_for {
            let socket = sockets.open(listen)?;
            sockets.named.entry(listen.name.clone()).or_default().push(socket);
        }
        for (name, sockets) in &sockets.named {
            for socket in sockets {
                if socket.kind() == SocketKind::UnixDatagram {
                    // From now on the kernel notes the sender of each datagram.
                    sockopt::set_socket_passcred(socket, true)
                        .map_err(|error| ListenError::Use(name.clone(), error.into()))?;
                }
                info!(socket = %name, address = %socket.address(), "listening");
            }
        }
        Ok(sockets)
    }

    fn open(&mut self, listen: &Listen) -> Result<Socket, ListenError> {
        let failed = |error| ListenError::Listen(listen.clone(), error);
        let occupied = |what| ListenError::Occupied { listen: listen.clone(), what };
        let socket = match &listen.address {
            Address::Tcp(address) => Socket::Tcp(TcpListener::bind(address).map_err(failed)?),
            Address::Udp(address) => Socket::Udp(UdpSocket::bind(address).map_err(failed)?),
            Address::UnixStream(path) => {
                let is_left = || UnixStream::connect(path);
                prepare(path, is_left)
                    .map_err(failed)?
                    .map_or(Ok(()), |what| Err(occupied(what)))?;
                Socket::UnixStream(UnixListener::bind(path).map_err(failed)?)
            }
            Address::UnixDatagram(path) => {
                let is_left = || UnixDatagram::unbound()?.connect(path);
                prepare(path, is_left)
                    .map_err(failed)?
                    .map_or(Ok(()), |what| Err(occupied(what)))?;
                Socket::UnixDatagram(UnixDatagram::bind(path).map_err(failed)?)
            }
        };
        if let Address::UnixStream(path) | Address::UnixDatagram(path) = &listen.address {
            self.files.push(SocketFile::new(path));
        }
        Ok(socket)
    }

    /// The names of the sockets that systemd opened, which start the daemon again.
    #[must_use]
    pub fn passed(&self) -> &BTreeSet<SocketName> {
        &self.passed
    }

    /// The kinds of all sockets.
    #[must_use]
    pub fn kinds(&self) -> SocketKinds {
        let kinds = |sockets: &Vec<Socket>| sockets.iter().map(Socket::kind).collect();
        let mut all = SocketKinds::default();
        all.named.extend(self.named.iter().map(|(name, sockets)| (name.clone(), kinds(sockets))));
        for (name, _) in &self.others {
            match name.parse() {
                Ok(name) => all.named.entry(name).or_default().push(SocketKind::Other),
                Err(_) => drop(all.unnamed.insert(name.clone())),
            }
        }
        all
    }

    /// The sockets of a name.
    #[must_use]
    pub fn of(&self, name: &SocketName) -> &[Socket] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    /// Closes the sockets of a name.
    pub fn close(&mut self, name: &SocketName) {
        self.named.remove(name);
    }
}

/// Makes the place free for a socket's file: a daemon that has ended may have left its own. Returns what else is there.
fn prepare<T>(
    path: &Path,
    connect: impl FnOnce() -> io::Result<T>,
) -> io::Result<Option<&'static str>> {
    let Ok(file) = path.symlink_metadata() else {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        return Ok(None);
    };
    let kind = file.file_type();
    if !kind.is_socket() {
        return Ok(Some(match () {
            () if kind.is_symlink() => "a symbolic link",
            () if kind.is_dir() => "a directory",
            () if kind.is_file() => "a file",
            () => "something other than a socket",
        }));
    }
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            Ok(None)
        }
        _ => Ok(Some("the socket of another process")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        Listen { name: "test".parse().unwrap(), address: text.parse().unwrap() }
    }

    fn open(text: &str) -> Result<ListenSockets, ListenError> {
        ListenSockets::collect(PassedSockets::default(), &[listen(text)])
    }

    #[test]
    fn an_address_says_of_which_kind_its_socket_is() {
        let address = |text: &str| text.parse::<Address>();
        let ip: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(address("[::1]:80"), Ok(Address::Tcp(ip)));
        assert_eq!(address("udp:[::1]:80"), Ok(Address::Udp(ip)));
        for text in ["/run/a", "./a"] {
            assert_eq!(address(text), Ok(Address::UnixStream(text.into())));
            assert_eq!(address(&format!("unix:{text}")), Ok(Address::UnixStream(text.into())));
            let datagrams = format!("unixgram:{text}");
            assert_eq!(address(&datagrams), Ok(Address::UnixDatagram(text.into())));
            assert_eq!(address(&datagrams).unwrap().to_string(), datagrams);
        }
        for text in ["", "80", "localhost:80", "udp:/a", "unix:", "unixgram:", "tcp:[::1]:80"] {
            assert_eq!(address(text), Err(AddressError(text.to_owned())));
        }
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_removed_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        for prefix in ["unix:", "unixgram:"] {
            let path = directory.path().join("below/socket");
            let text = format!("{prefix}{}", path.display());
            let mut sockets = open(&text).unwrap();
            // As if the daemon had been killed.
            sockets.files.drain(..).for_each(std::mem::forget);
            drop(sockets);
            assert!(path.exists());
            let sockets = open(&text).unwrap();
            let error = open(&text).err().unwrap();
            assert!(error.to_string().contains("the socket of another process"), "{error}");
            drop(sockets);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_is_not_a_socket_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
        for (path, what) in
            [(&*file, "a file"), (&*link, "a symbolic link"), (directory.path(), "a directory")]
        {
            let error = open(path.to_str().unwrap()).err().unwrap();
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_file_that_is_not_the_sockets_own_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let sockets = open(path.to_str().unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of another").unwrap();
        drop(sockets);
        assert!(path.exists());
    }

    #[test]
    fn descriptors_of_no_use_are_kept_under_their_names() {
        let other = || tempfile::tempfile().unwrap().into();
        let others = vec![("http".to_owned(), other()), ("a.socket".to_owned(), other())];
        let passed = PassedSockets { named: BTreeMap::new(), others };
        let sockets = ListenSockets::collect(passed, &[]).unwrap();
        let kinds = sockets.kinds();
        assert_eq!(kinds.named[&"http".parse().unwrap()], [SocketKind::Other]);
        assert_eq!(Vec::from_iter(kinds.unnamed), ["a.socket"]);
    }
}
