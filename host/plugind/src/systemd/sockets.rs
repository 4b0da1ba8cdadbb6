//! Sockets that systemd opened, by their names: `FileDescriptorName=` of systemd.socket(5), never by their places.

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
};

/// Sockets that were handed over and are not used yet.
pub struct Sockets {
    names: Vec<(RawFd, String)>,
    descriptors: ListenFd,
}

/// The sockets that were handed over cannot be told apart.
#[derive(Debug, thiserror::Error)]
#[error("the sockets in the environment ($LISTEN_FDS, $LISTEN_FDNAMES) do not fit together")]
pub struct SocketsError(#[from] io::Error);

/// A socket is of another kind than the one that its name is for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket with FileDescriptorName={name} is not {wanted}; in its .socket unit, write {remedy}"
)]
pub struct WrongKind {
    name: String,
    wanted: &'static str,
    remedy: &'static str,
}

impl Sockets {
    pub(super) fn take() -> Result<Self, SocketsError> {
        // The names first: taking the descriptors clears the environment.
        let names = sd_notify::listen_fds_with_names()?.collect();
        Ok(Self { names, descriptors: ListenFd::from_env() })
    }

    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self { names: Vec::new(), descriptors: ListenFd::empty() }
    }

    /// The TCP sockets with this name.
    pub fn take_tcp(&mut self, name: &str) -> Vec<Result<TcpListener, WrongKind>> {
        let kind = ("a TCP socket that listens", "ListenStream=ADDRESS:PORT");
        self.take_each(name, kind, ListenFd::take_tcp_listener)
    }

    /// The unix stream sockets with this name.
    pub fn take_unix(&mut self, name: &str) -> Vec<Result<UnixListener, WrongKind>> {
        let kind = ("a unix stream socket that listens", "ListenStream=/PATH");
        self.take_each(name, kind, ListenFd::take_unix_listener)
    }

    fn take_each<T: AsFd>(
        &mut self,
        name: &str,
        (wanted, remedy): (&'static str, &'static str),
        take: impl Fn(&mut ListenFd, usize) -> io::Result<Option<T>>,
    ) -> Vec<Result<T, WrongKind>> {
        let listens = |socket: &T| rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
        let places = (0..self.names.len()).filter(|place| self.names[*place].1 == name);
        // One that is taken already is none.
        let taken = places.filter_map(|place| take(&mut self.descriptors, place).transpose());
        taken
            .map(|socket| match socket {
                Ok(socket) if listens(&socket) => Ok(socket),
                _ => Err(WrongKind { name: name.to_owned(), wanted, remedy }),
            })
            .collect()
    }

    /// The files among them, with their names: no socket unit opens such, so they are of the file descriptor store.
    pub(super) fn take_files(&mut self) -> Vec<(String, OwnedFd)> {
        let is_file = |number: RawFd| {
            // It is only looked at: a socket has to stay where it is.
            fs::metadata(format!("/proc/self/fd/{number}")).is_ok_and(|what| what.is_file())
        };
        let places = (0..self.names.len()).filter(|place| is_file(self.names[*place].0));
        let places: Vec<_> = places.collect();
        let files = places.into_iter().filter_map(|place| {
            let file = self.take_any(place)?;
            // What a child inherits would be open for as long as the child is there.
            fcntl_setfd(&file, FdFlags::CLOEXEC).ok()?;
            Some((self.names[place].1.clone(), file))
        });
        files.collect()
    }

    fn take_any(&mut self, place: usize) -> Option<OwnedFd> {
        let descriptor = self.descriptors.take_raw_fd(place).ok()??;
        // SAFETY: systemd opened it for this process and said so, and nobody has taken it: `take_raw_fd` gives each
        // descriptor out once, and not one that was taken in another way.
        #[expect(unsafe_code, reason = "the descriptor is known by its number only")]
        Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    /// Closes what nobody took, and says what it was called: it may belong to a newer version of this program.
    #[must_use]
    pub fn close_rest(mut self) -> Vec<String> {
        let mut closed = Vec::new();
        for place in 0..self.names.len() {
            if let Some(descriptor) = self.take_any(place) {
                drop(descriptor);
                closed.push(self.names[place].1.clone());
            }
        }
        closed
    }
}
