//! What systemd is told of the service: sd_notify(3).

use crate::base::text::one_line;
use sd_notify::NotifyState;
use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::UnixDatagram;
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

/// The way to systemd; nothing happens where there is none. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Option<Arc<NotifySocket>>);

struct NotifySocket {
    path: OsString,
    socket: Mutex<Arc<UnixDatagram>>,
}

impl Notifier {
    /// The way to the socket that `$NOTIFY_SOCKET` names, if it does. To be called within the runtime.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn connect(path: Option<OsString>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let socket = Mutex::new(Arc::new(connect_for_tasks(&path)?));
        Ok(Self(Some(Arc::new(NotifySocket { path, socket }))))
    }

    /// Tells systemd, and waits until it is on its way there.
    pub async fn tell(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        let message = datagram(notice);
        let mut sent = way.current().send(message.as_bytes()).await;
        if sent.is_err() {
            // systemd itself may have been replaced.
            sent = match way.renew() {
                Ok(socket) => socket.send(message.as_bytes()).await,
                Err(error) => Err(error),
            };
        }
        if let Err(error) = sent {
            warn!(%error, "systemd cannot be told");
        }
    }

    /// Tells systemd, unless it is too busy to hear.
    pub fn tell_now(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        let refused = way.current().try_send(datagram(notice).as_bytes()).err();
        if refused.is_some_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            // The next time succeeds, then.
            way.renew().ok();
        }
    }
}

impl NotifySocket {
    fn current(&self) -> Arc<UnixDatagram> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew(&self) -> io::Result<Arc<UnixDatagram>> {
        let socket = Arc::new(connect_for_tasks(&self.path)?);
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket.clone();
        Ok(socket)
    }
}

/// A way to the socket at `path`, or of that abstract name.
pub(super) fn connect(path: &OsStr) -> io::Result<net::UnixDatagram> {
    let socket = net::UnixDatagram::unbound()?;
    match path.as_bytes() {
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
            let notifier = Notifier::connect(Some(address)).unwrap();
            notifier.tell(Notice::Ready { status: "2 plugins" }).await;
            notifier.tell_now(Notice::Watchdog);
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
        let notifier = Notifier::connect(None).unwrap();
        notifier.tell(Notice::Ready { status: "" }).await;
        notifier.tell_now(Notice::Watchdog);
    }
}
