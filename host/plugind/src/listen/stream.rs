//! Stream sockets and connections of every kind, as one type each, and who is at the other end.

use crate::systemd::sockets::Socket;
use rustix::net::{RecvFlags, recv, sockopt};
use std::{
    fmt, io,
    net::{self, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix,
    },
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// Time that a client may leave sent data unacknowledged, in ms.
const USER_TIMEOUT: u32 = 30_000;
/// The time without traffic after which the kernel asks whether a client still exists, the interval of its probes, and
/// their number.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client over IP.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix {
        /// The process, if the kernel names it.
        pid: Option<i32>,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A process of this machine of which the kernel says nothing.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { pid: Some(pid), uid, gid } => {
                write!(f, "unix:pid={pid},uid={uid},gid={gid}")
            }
            Self::Unix { pid: None, uid, gid } => write!(f, "unix:uid={uid},gid={gid}"),
            Self::Unknown => f.write_str("unix"),
        }
    }
}

/// A socket from which connections are accepted.
pub enum StreamListener {
    /// Over IP.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

impl StreamListener {
    /// Accepts from a socket, which stays open when this is dropped. None for sockets of datagrams. To be called within
    /// the runtime.
    ///
    /// # Errors
    /// When the socket cannot be used for that.
    pub fn of(socket: &Socket) -> io::Result<Option<Self>> {
        match socket {
            Socket::Tcp(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                watch_over_clients(&socket);
                Ok(Some(Self::Tcp(TcpListener::from_std(socket)?)))
            }
            Socket::UnixStream(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Ok(Some(Self::Unix(UnixListener::from_std(socket)?)))
            }
            Socket::Udp(_) | Socket::UnixDatagram(_) => Ok(None),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// When it cannot be accepted.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred().map_or(Peer::Unknown, |peer| Peer::Unix {
                    pid: peer.pid(),
                    uid: peer.uid(),
                    gid: peer.gid(),
                });
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

/// Sets TCP_NODELAY, and the other options that accepted connections inherit unless the socket's owner chose others.
/// Without one of those, a client that is gone is noticed later or not at all, and that is all.
fn watch_over_clients(socket: &impl AsFd) {
    // Without it small answers wait for the acknowledgement of the one before.
    sockopt::set_tcp_nodelay(socket, true).ok();
    if sockopt::tcp_user_timeout(socket).is_ok_and(|timeout| timeout == 0) {
        sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT).ok();
    }
    if sockopt::socket_keepalive(socket).is_ok_and(|is_set| !is_set) {
        sockopt::set_socket_keepalive(socket, true).ok();
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE).ok();
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL).ok();
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT).ok();
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Over IP.
    Tcp(TcpStream),
    /// At a path.
    Unix(UnixStream),
}

/// One of the two, whichever it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $what:expr) => {
        match $stream {
            Stream::Tcp($inner) => $what,
            Stream::Unix($inner) => $what,
        }
    };
}

/// A connection that no runtime watches, on its way from one to another.
#[derive(Debug)]
pub enum DetachedStream {
    /// Over IP.
    Tcp(net::TcpStream),
    /// At a path.
    Unix(unix::net::UnixStream),
}

impl DetachedStream {
    /// The connection, watched by the runtime in which this is called.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}

impl Stream {
    /// Takes it from its runtime.
    ///
    /// # Errors
    /// When the runtime does not give it away.
    pub fn detach(self) -> io::Result<DetachedStream> {
        Ok(match self {
            Self::Tcp(stream) => DetachedStream::Tcp(stream.into_std()?),
            Self::Unix(stream) => DetachedStream::Unix(stream.into_std()?),
        })
    }

    /// Waits until the connection is ready in one of these ways.
    ///
    /// # Errors
    /// When the runtime has ended.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        each!(self, stream => stream.ready(interest).await)
    }

    /// Waits for bytes and looks at them. They are left to be read.
    ///
    /// # Errors
    /// When the connection has failed.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::PEEK).await
    }

    /// Waits for bytes and reads them.
    ///
    /// # Errors
    /// When the connection has failed.
    pub async fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::empty()).await
    }

    async fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let receive = || Ok(recv(self, &mut *buffer, flags)?.0);
        each!(self, stream => stream.async_io(Interest::READABLE, receive).await)
    }

    fn shut_down_write(&self) -> io::Result<()> {
        match rustix::net::shutdown(self, rustix::net::Shutdown::Write) {
            // Nothing is left to be shut down.
            Err(rustix::io::Errno::NOTCONN) => Ok(()),
            ended => Ok(ended?),
        }
    }
}

/// A connection that is read, written and watched at the same time.
#[derive(Clone, Debug)]
pub struct SharedStream(pub Arc<Stream>);

/// Reads what there is. If that is less than there is room for, nothing is left, and the next read waits for the kernel
/// to report more instead of asking it: inside of `try_io`, what came meanwhile counts as a report.
macro_rules! read_all {
    ($stream:expr, $buffer:expr) => {{
        let (room, mut read) = ($buffer.remaining(), None);
        let tried = $stream.try_io(Interest::READABLE, || {
            let bytes = $stream.try_read_buf($buffer)?;
            read = Some(bytes);
            match 0 < bytes && bytes < room {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(bytes),
            }
        });
        read.map_or(tried, Ok)
    }};
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(each!(&*self.0, stream => stream.poll_read_ready(context)))?;
            match each!(&*self.0, stream => read_all!(stream, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl SharedStream {
    fn poll_written(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(each!(&*self.0, stream => stream.poll_write_ready(context)))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| each!(stream, stream => stream.try_write(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(
            context,
            |stream| each!(stream, stream => stream.try_write_vectored(slices)),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down_write())
    }
}

/// Sends bytes in pieces of this size, each of which the other side sees alone, and closes.
#[cfg(test)]
pub(super) async fn send_in_pieces(mut client: tokio::net::UnixStream, bytes: &[u8], piece: usize) {
    use tokio::io::AsyncWriteExt as _;
    for piece in bytes.chunks(piece) {
        client.write_all(piece).await.expect("the other side is open");
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_process() {
        let peer = Peer::Tcp("[::1]:80".parse().unwrap());
        assert_eq!(peer.to_string(), "[::1]:80");
        let peer = Peer::Unix { pid: Some(7), uid: 1000, gid: 100 };
        assert_eq!(peer.to_string(), "unix:pid=7,uid=1000,gid=100");
    }

    #[tokio::test]
    async fn a_socket_keeps_the_keep_alive_that_its_owner_chose() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        sockopt::set_socket_keepalive(&socket, true).unwrap();
        sockopt::set_tcp_keepidle(&socket, Duration::from_secs(1234)).unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (socket, idle) in [(socket, Duration::from_secs(1234)), (other, KEEPALIVE_IDLE)] {
            let address = socket.local_addr().unwrap();
            let listener = StreamListener::of(&Socket::Tcp(socket)).unwrap().unwrap();
            let _client = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), idle);
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), USER_TIMEOUT);
            assert!(sockopt::tcp_nodelay(&stream).unwrap());
        }
    }

    #[tokio::test]
    async fn a_process_at_a_path_is_known_by_its_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = Socket::UnixStream(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = StreamListener::of(&socket).unwrap().unwrap();
        let _client = UnixStream::connect(&path).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert!(matches!(peer, Peer::Unix { pid: Some(_), uid, .. } if uid == own), "{peer}");
    }
}
