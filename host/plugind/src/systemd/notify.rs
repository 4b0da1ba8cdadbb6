//! What systemd is told of the service: sd_notify(3).

use crate::base::text::{Escaped, one_line};
use sd_notify::NotifyState;
use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::UnixDatagram, time::timeout};
use tracing::warn;

/// The longest status, in bytes: a line that people read.
const STATUS_MAX: usize = 1 << 10;

/// Something to tell systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The service is ready, or has been reloaded.
    Ready {
        /// How it is.
        status: &'a str,
    },
    /// It begins to reload. [`Notice::Ready`] has to follow.
    Reloading,
    /// It begins to end.
    Stopping {
        /// How it is.
        status: &'a str,
    },
    /// How it is.
    Status(&'a str),
    /// It cannot start, or go on.
    Failed {
        /// Why.
        status: &'a str,
        /// The same as one of errno(3).
        errno: u32,
    },
    /// What is under way takes so much longer than now.
    ExtendTimeout(Duration),
    /// It is alive.
    Watchdog,
}

/// How long systemd is waited for when its socket is full. Nothing that depends on this loop may wait for ever.
const WAIT_MAX: Duration = Duration::from_secs(2);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(10);

/// The way to systemd; nothing happens where there is none. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Option<Arc<NotifySocket>>);

struct NotifySocket {
    path: OsString,
    /// None while nobody can be reached there.
    socket: Mutex<Option<Arc<UnixDatagram>>>,
    /// The last notice was not sent, and this was logged.
    failed: AtomicBool,
}

impl Notifier {
    /// The way to the socket that `$NOTIFY_SOCKET` names, if it does. A socket that cannot be reached is logged, and
    /// tried again with each notice. To be called within the runtime.
    #[must_use]
    pub fn connect(path: Option<OsString>) -> Self {
        let Some(path) = path else { return Self(None) };
        let way = NotifySocket { path, socket: Mutex::new(None), failed: AtomicBool::new(false) };
        way.note(way.current().map(drop));
        Self(Some(Arc::new(way)))
    }

    /// Tells systemd, and waits until it is on its way there.
    pub async fn notify(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        let message = datagram(notice);
        let mut sent = way.send(&message).await;
        if sent.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut) {
            // systemd itself may have been replaced.
            way.disconnect();
            sent = way.send(&message).await;
        }
        way.note(sent);
    }

    /// Tells systemd, unless it is too busy to hear.
    pub fn notify_now(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        let sent = way.current().map(|socket| socket.try_send(datagram(notice).as_bytes()));
        if let Ok(Err(error)) = sent
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // The next time succeeds, then.
            way.disconnect();
        }
    }
}

impl NotifySocket {
    async fn send(&self, message: &str) -> io::Result<()> {
        let socket = self.current()?;
        // What was waited for in vain is not waited for again, except for what a new socket needs to be ready.
        let wait_max = if self.failed.load(Relaxed) { RETRY_WAIT_MAX } else { WAIT_MAX };
        match timeout(wait_max, socket.send(message.as_bytes())).await {
            Ok(sent) => sent.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn current(&self) -> io::Result<Arc<UnixDatagram>> {
        let mut current = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(socket) => Ok(socket.clone()),
            None => {
                let socket = Arc::new(connect_for_tasks(&self.path)?);
                *current = Some(socket.clone());
                Ok(socket)
            }
        }
    }

    fn disconnect(&self) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Logs the first failure of several in a row.
    fn note(&self, sent: io::Result<()>) {
        match sent {
            Ok(()) => self.failed.store(false, Relaxed),
            Err(error) if !self.failed.swap(true, Relaxed) => {
                let socket = self.path.to_string_lossy();
                warn!(socket = %Escaped(&socket), %error, "cannot notify systemd");
            }
            Err(_) => (),
        }
    }
}

/// A way to the socket at `path`, or of that abstract name.
pub(super) fn connect(path: &OsStr) -> io::Result<net::UnixDatagram> {
    let socket = net::UnixDatagram::unbound()?;
    match path.as_bytes() {
        [b'v', b's', b'o', b'c', b'k', b':', ..] => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "vsock sockets are not supported",
            ));
        }
        [b'@', name @ ..] => socket.connect_addr(&net::SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(path)?,
    }
    Ok(socket)
}

fn connect_for_tasks(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = connect(path)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// One datagram: variables of which each is a line, whatever is in their values.
fn datagram(notice: Notice<'_>) -> String {
    let line = |status| one_line(status, STATUS_MAX);
    let status;
    let states = match notice {
        Notice::Ready { status: text } => {
            status = line(text);
            vec![NotifyState::Ready, NotifyState::Status(&status)]
        }
        Notice::Reloading => {
            // In one datagram with its moment: systemd does not take it otherwise. The clock is always there.
            let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
            vec![NotifyState::Reloading, now]
        }
        Notice::Stopping { status: text } => {
            status = line(text);
            vec![NotifyState::Stopping, NotifyState::Status(&status)]
        }
        Notice::Status(text) => {
            status = line(text);
            vec![NotifyState::Status(&status)]
        }
        Notice::Failed { status: text, errno } => {
            status = line(text);
            vec![NotifyState::Status(&status), NotifyState::Errno(errno)]
        }
        Notice::ExtendTimeout(time) => {
            let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            vec![NotifyState::ExtendTimeoutUsec(time)]
        }
        Notice::Watchdog => vec![NotifyState::Watchdog],
    };
    states.iter().map(|state| format!("{state}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_can_never_become_another_variable() {
        let sent = datagram(Notice::Status("hi\nWATCHDOG=trigger\r\nREADY=1"));
        assert_eq!(sent, "STATUS=hi\\u{a}WATCHDOG=trigger\\u{d}\\u{a}READY=1\n");
        assert!(datagram(Notice::Status(&"x".repeat(1 << 20))).len() < 2 * STATUS_MAX);
    }

    #[test]
    fn a_reload_says_when_it_began_in_the_same_datagram() {
        let sent = datagram(Notice::Reloading);
        let moment = sent.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(moment.trim_end().parse::<u64>().unwrap() > 0);
    }

    #[tokio::test]
    async fn what_is_told_arrives_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("plugind-notify-{}", std::process::id());
        let abstract_address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let at_path = net::UnixDatagram::bind(&path).unwrap();
        let at_name = net::UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (socket, address) in [(at_path, path.into()), (at_name, format!("@{name}").into())] {
            let notifier = Notifier::connect(Some(address));
            notifier.notify(Notice::Ready { status: "2 plugins" }).await;
            notifier.notify_now(Notice::Watchdog);
            let heard = || {
                let mut buffer = [0; 100];
                let length = socket.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..length].to_vec()).unwrap()
            };
            assert_eq!(heard(), "READY=1\nSTATUS=2 plugins\n");
            assert_eq!(heard(), "WATCHDOG=1\n");
        }
    }

    #[tokio::test]
    async fn without_systemd_nobody_is_told_and_nothing_fails() {
        let notifier = Notifier::connect(None);
        notifier.notify(Notice::Ready { status: "" }).await;
        notifier.notify_now(Notice::Watchdog);
    }

    #[tokio::test]
    async fn a_socket_that_appears_later_is_reached_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let notifier = Notifier::connect(Some(path.clone().into()));
        notifier.notify(Notice::Status("nobody")).await;
        let socket = net::UnixDatagram::bind(&path).unwrap();
        notifier.notify(Notice::Status("somebody")).await;
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=somebody\n");
    }

    #[tokio::test]
    async fn a_socket_that_is_full_does_not_hold_up_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _socket = net::UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(Some(path.into()));
        let is_full = || notifier.0.as_ref().unwrap().failed.load(Relaxed);
        // Far more than a socket queues.
        for _ in 0..10_000 {
            if is_full() {
                break;
            }
            notifier.notify(Notice::Status("again")).await;
        }
        assert!(is_full(), "the socket was never full");
    }
}
