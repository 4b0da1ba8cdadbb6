//! The sockets on which clients come, from systemd and from the command line, each known by its name.

use crate::{
    base::name::SocketName,
    systemd::sockets::{Sockets, SocketsError, WrongKind},
};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};
use tracing::{info, warn};

/// The socket on which HTTP is served.
const HTTP: &str = "http";
/// The socket on which the daemon is asked how it is.
const CONTROL: &str = "control";

/// A socket to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What it is for.
    pub name: SocketName,
    /// Where.
    pub address: Address,
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A file.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// All sockets, by what they are for.
pub struct ListenSockets {
    /// Where HTTP is served.
    pub http: Vec<TcpListener>,
    /// Where the daemon is asked how it is.
    pub control: Vec<UnixListener>,
    /// Files of sockets that were opened here, which go when this does.
    pub files: Vec<SocketFile>,
}

/// A socket's file.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have been quicker.
        fs::remove_file(&self.0).ok();
    }
}

/// Why sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// What systemd handed over does not fit together.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// What systemd handed over is not what its names say.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WrongKind(Vec<WrongKind>),
    /// A socket could not be opened.
    #[error("cannot listen on {} for the socket {}", .0.address, .0.name)]
    Listen(Listen, #[source] io::Error),
    /// A socket was to be opened for which there is no use.
    #[error(
        "there is no use for a socket {name}={address}; \"{HTTP}\" takes ADDRESS:PORT, \"{CONTROL}\" a /PATH",
        name = .0.name,
        address = .0.address
    )]
    Useless(Listen),
    /// A socket does not do what sockets do.
    #[error("cannot use a socket")]
    Use(#[from] io::Error),
}

impl ListenError {
    /// Whether something has to be changed before another start can do better.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::WrongKind(_) | Self::Useless(_))
    }
}

impl ListenSockets {
    /// Takes the sockets that were handed over, and opens those that are asked for.
    ///
    /// # Errors
    /// When one cannot be opened, or is not what its name says.
    pub fn collect(mut inherited: Sockets, asked_for: &[Listen]) -> Result<Self, ListenError> {
        let (http, no_http) = apart(inherited.take_tcp(HTTP));
        let (control, no_control) = apart(inherited.take_unix(CONTROL));
        let mut wrong = no_http;
        wrong.extend(no_control);
        if !wrong.is_empty() {
            return Err(ListenError::WrongKind(wrong));
        }
        for name in inherited.close_rest() {
            // It may be for a newer version of this program.
            warn!(socket = name, "socket closed that nobody asks for");
        }
        let mut doors = Self { http, control, files: Vec::new() };
        doors.tell();
        for listen in asked_for {
            doors.open(listen)?;
        }
        if doors.http.is_empty() {
            warn!(
                "no socket for HTTP was given, so no plugin can be reached; try --listen http=127.0.0.1:8080"
            );
        }
        Ok(doors)
    }

    fn tell(&self) {
        for socket in &self.http {
            match socket.local_addr() {
                Ok(address) => info!(socket = HTTP, %address, "listening"),
                Err(error) => warn!(socket = HTTP, %error, "socket without an address"),
            }
        }
    }

    fn open(&mut self, listen: &Listen) -> Result<(), ListenError> {
        let failed = |error| ListenError::Listen(listen.clone(), error);
        match (listen.name.as_str(), &listen.address) {
            (HTTP, Address::Tcp(address)) => {
                let socket = TcpListener::bind(address).map_err(failed)?;
                let address = socket.local_addr().map_err(failed)?;
                info!(socket = HTTP, %address, "listening");
                self.http.push(socket);
            }
            (CONTROL, Address::Unix(path)) => {
                self.control.push(bind(path).map_err(failed)?);
                self.files.push(SocketFile(path.clone()));
                info!(socket = CONTROL, address = %path.display(), "listening");
            }
            _ => return Err(ListenError::Useless(listen.clone())),
        }
        Ok(())
    }
}

fn apart<T, E>(all: Vec<Result<T, E>>) -> (Vec<T>, Vec<E>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(one) => good.push(one),
            Err(one) => bad.push(one),
        }
    }
    (good, bad)
}

/// Listens on a file, in the place of a daemon that is gone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    // Whatever else has this name is refused in the same way, and is somebody's.
    let is_socket = || path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    if UnixStream::connect(path).is_err_and(refused) && is_socket() {
        fs::remove_file(path)?;
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    UnixListener::bind(path)
}
