//! Notifies systemd of the state of the service: sd_notify(3).

use crate::base::text::{Escaped, one_line};
use sd_notify::NotifyState;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    },
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::UnixDatagram, sync::Notify, time::timeout};
use tracing::warn;

/// The longest status, in bytes: a line that people read.
const STATUS_MAX: usize = 1 << 10;

/// A message to systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The service is ready, or has been reloaded.
    Ready {
        /// The status.
        status: &'a str,
    },
    /// It begins to reload. [`Notice::Ready`] has to follow.
    Reloading,
    /// It begins to end.
    Stopping {
        /// The status.
        status: &'a str,
    },
    /// The status.
    Status(&'a str),
    /// It cannot start or continue.
    Failed {
        /// The reason.
        status: &'a str,
        /// The same as one of errno(3).
        errno: u32,
    },
    /// Extends the timeout of the operation under way by this much from now.
    ExtendTimeout(Duration),
    /// It is alive.
    Watchdog,
}

/// Time after which it is logged that the socket is still full. The message continues to wait for it.
const FULL_AFTER: Duration = Duration::from_secs(2);
/// Time that the end of the daemon waits for messages that were not sent yet.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Sends notices to systemd; without it nothing happens. Sending never waits: a task of its own does. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Option<Arc<NotifySocket>>);

struct NotifySocket {
    path: OsString,
    /// None while nobody can be reached there.
    socket: Mutex<Option<Arc<UnixDatagram>>>,
    /// The last notice was not sent, and this was logged.
    failed: AtomicBool,
    pending: Mutex<Pending>,
    /// Something is pending.
    more: Notify,
    /// Nothing is.
    done: Notify,
}

impl Notifier {
    /// A connection to the socket that `$NOTIFY_SOCKET` names, if it names one. A socket that cannot be reached is
    /// logged, and tried again with each notice. To be called within the runtime.
    #[must_use]
    pub fn connect(path: Option<OsString>) -> Self {
        let Some(path) = path else { return Self(None) };
        let way = Arc::new(NotifySocket {
            path,
            socket: Mutex::new(None),
            failed: AtomicBool::new(false),
            pending: Mutex::default(),
            more: Notify::new(),
            done: Notify::new(),
        });
        way.note(way.current().map(drop));
        tokio::spawn(send_pending(way.clone()));
        Self(Some(way))
    }

    /// Sends a notice as soon as systemd takes it.
    pub fn notify(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        way.pending().push(NoticeKind::of(notice), datagram(notice));
        way.more.notify_one();
    }

    /// Waits until everything was sent, or for as long as is sensible at the end.
    pub async fn flush(&self) {
        let Some(way) = &self.0 else { return };
        let all_sent = async {
            loop {
                let done = way.done.notified();
                if way.pending().is_empty() {
                    return;
                }
                done.await;
            }
        };
        timeout(FLUSH_DEADLINE, all_sent).await.ok();
    }

    /// Sends a notice now, or not at all if the socket is full.
    pub fn notify_now(&self, notice: Notice<'_>) {
        let Some(way) = &self.0 else { return };
        let sent = way.current().map(|socket| socket.try_send(datagram(notice).as_bytes()));
        if let Ok(Err(error)) = sent
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // The next notice connects again.
            way.disconnect();
        }
    }
}

/// The kind of a notice: a later one of the same kind takes the place of one that was not sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoticeKind {
    Ready,
    Reloading,
    Stopping,
    Status,
    Failed,
    ExtendTimeout,
    Watchdog,
}

impl NoticeKind {
    fn of(notice: Notice<'_>) -> Self {
        match notice {
            Notice::Ready { .. } => Self::Ready,
            Notice::Reloading => Self::Reloading,
            Notice::Stopping { .. } => Self::Stopping,
            Notice::Status(_) => Self::Status,
            Notice::Failed { .. } => Self::Failed,
            Notice::ExtendTimeout(_) => Self::ExtendTimeout,
            Notice::Watchdog => Self::Watchdog,
        }
    }

    /// Whether this message is superseded by `later`. The end of a reload does not supersede its beginning: systemd
    /// takes the end only after the beginning.
    fn is_superseded_by(self, later: Self) -> bool {
        self == later
            || matches!(
                (self, later),
                (Self::Ready, Self::Reloading) | (Self::Status, Self::Ready | Self::Stopping)
            )
    }
}

/// Notices that were not sent yet, in order: at most one of each kind.
#[derive(Default)]
struct Pending {
    notices: VecDeque<(NoticeKind, String)>,
    /// One is being sent.
    sending: bool,
}

impl Pending {
    fn push(&mut self, kind: NoticeKind, message: String) {
        self.notices.retain(|(earlier, _)| !earlier.is_superseded_by(kind));
        self.notices.push_back((kind, message));
    }

    fn is_empty(&self) -> bool {
        self.notices.is_empty() && !self.sending
    }

    fn take(&mut self) -> Option<String> {
        let next = self.notices.pop_front().map(|(_, message)| message);
        self.sending = next.is_some();
        next
    }
}

/// Sends what is pending, one after another, until the runtime ends.
async fn send_pending(way: Arc<NotifySocket>) {
    loop {
        let next = way.pending().take();
        match next {
            Some(message) => way.send(&message).await,
            None => {
                way.done.notify_waiters();
                way.more.notified().await;
            }
        }
    }
}

impl NotifySocket {
    async fn send(&self, message: &str) {
        let mut sent = self.try_send(message).await;
        if sent.is_err() {
            // systemd itself may have been replaced.
            self.disconnect();
            sent = self.try_send(message).await;
        }
        self.note(sent);
    }

    async fn try_send(&self, message: &str) -> io::Result<()> {
        let socket = self.current()?;
        let mut sending = pin!(socket.send(message.as_bytes()));
        let sent = match timeout(FULL_AFTER, sending.as_mut()).await {
            Ok(sent) => sent,
            Err(_) => {
                self.note(Err(io::ErrorKind::TimedOut.into()));
                sending.await
            }
        };
        sent.map(drop)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Returns a socket that is connected to the one at `path`, or with that abstract name.
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
    async fn notices_arrive_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("plugind-notify-{}", std::process::id());
        let abstract_address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let at_path = net::UnixDatagram::bind(&path).unwrap();
        let at_name = net::UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (socket, address) in [(at_path, path.into()), (at_name, format!("@{name}").into())] {
            let notifier = Notifier::connect(Some(address));
            notifier.notify(Notice::Ready { status: "2 plugins" });
            notifier.flush().await;
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
    async fn without_systemd_no_notice_is_sent_and_nothing_fails() {
        let notifier = Notifier::connect(None);
        notifier.notify(Notice::Ready { status: "" });
        notifier.flush().await;
        notifier.notify_now(Notice::Watchdog);
    }

    #[tokio::test]
    async fn a_socket_that_appears_later_is_reached_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let notifier = Notifier::connect(Some(path.clone().into()));
        notifier.notify(Notice::Status("nobody"));
        notifier.flush().await;
        let socket = net::UnixDatagram::bind(&path).unwrap();
        notifier.notify(Notice::Status("somebody"));
        notifier.flush().await;
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=somebody\n");
    }

    #[tokio::test]
    async fn what_a_full_socket_does_not_take_is_kept_once_of_each_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = net::UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let filler = net::UnixDatagram::unbound().unwrap();
        filler.connect(&path).unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send(b"x").is_ok() {}
        let notifier = Notifier::connect(Some(path.into()));
        for _ in 0..10_000 {
            notifier.notify(Notice::Reloading);
            notifier.notify(Notice::Status("again"));
            notifier.notify(Notice::Ready { status: "last" });
            tokio::task::yield_now().await;
        }
        assert!(notifier.0.as_ref().unwrap().pending().notices.len() <= 3);
        let mut received = Vec::new();
        let mut buffer = [0; 100];
        while received.last().is_none_or(|last| last != "READY=1\nSTATUS=last\n") {
            match socket.recv(&mut buffer) {
                Ok(length) => received.push(String::from_utf8_lossy(&buffer[..length]).into()),
                Err(_) => tokio::task::yield_now().await,
            }
            received.retain(|message: &String| message != "x");
        }
        notifier.flush().await;
        assert!(notifier.0.as_ref().unwrap().pending().is_empty());
    }

    #[test]
    fn a_reload_that_begins_supersedes_the_end_of_an_earlier_one() {
        let mut pending = Pending::default();
        for kind in [NoticeKind::Ready, NoticeKind::Reloading, NoticeKind::Status] {
            pending.push(kind, String::new());
        }
        pending.push(NoticeKind::Ready, String::new());
        pending.push(NoticeKind::Stopping, String::new());
        let kinds: Vec<_> = pending.notices.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [NoticeKind::Reloading, NoticeKind::Ready, NoticeKind::Stopping]);
    }
}
